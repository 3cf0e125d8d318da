"""Which files of a folder without metadata are shards, of which split, and which are left out."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mypt.data.tokens import Split
from mypt.errors import InputError
from mypt.schema.files.dataset import METADATA_FILE

SPLIT_WORDS: dict[Split, frozenset[str]] = {
    "train": frozenset({"train", "training"}),
    "val": frozenset({"val", "valid", "validation", "dev"}),
}
NANOGPT_VOCABULARY = "meta.pkl"
MASK_SUFFIX = "_mask.bin"

_WORD = re.compile(r"[^\W\d_]+")
_COPY = re.compile(r"^(copy|kopie) (of|von) |[ _-](copy|kopie)( ?\d+)?$| ?\(\d+\)$")
_BACKUP_WORDS = {"backup", "backups", "bak"}
_ARRAYS = (".npy", ".npz")
_SHOWN = 5


@dataclass(frozen=True)
class LeftOut:
    """A file or folder that could hold tokens and is not read."""

    path: Path
    reason: str


@dataclass
class Found:
    """The shards of a folder, by split and in reading order, and what was left out."""

    splits: dict[Split, list[Path]] = field(default_factory=lambda: {split: [] for split in SPLIT_WORDS})
    left_out: list[LeftOut] = field(default_factory=list)


def find_shards(folder: Path) -> Found:
    """Find the shards of a folder: every `.bin` file whose path within it says, in whole words, of which split it is.

    Raises:
        InputError: a file is of both splits, or there are several datasets.
        OSError: a folder cannot be read.
    """
    found, candidates, described = Found(), [], set()
    for path in _walk(folder, found.left_out):
        if path.parent != folder and path.name in (METADATA_FILE, NANOGPT_VOCABULARY):
            described.add(path.parent)
        if reason := _unfit(path.relative_to(folder)):
            found.left_out.append(LeftOut(path, reason))
        elif path.suffix.casefold() == ".bin":
            candidates.append(path)
    for path in sorted(candidates):
        splits = _splits(path.relative_to(folder).as_posix())
        if len(splits) > 1:
            raise InputError(
                f"The path of the shard {path} says both train and val.",
                "Rename it so that it says one of them, or move it out of the folder.",
            )
        if splits:
            found.splits[splits[0]].append(path)
        else:
            found.left_out.append(LeftOut(path, "its path says neither train nor val"))
    _refuse_several(folder, found, described)
    _keep_each_once(found)
    return found


def told(folder: Path, left_out: Iterable[LeftOut]) -> str | None:
    """One line on what was left out; None if nothing was."""
    names = [f"{item.path.relative_to(folder).as_posix()} ({item.reason})" for item in left_out]
    if not names:
        return None
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"Left out of {folder}: {', '.join(names[:_SHOWN])}{more}."


def _walk(folder: Path, left_out: list[LeftOut]) -> Iterator[Path]:
    """Every file below a folder, those of each folder once; links are followed after the folders themselves."""
    seen, pending = set(), [folder]
    links: list[Path] = []
    while pending or links:
        here = pending.pop() if pending else links.pop(0)
        status = here.stat()
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        for entry in sorted(here.iterdir()):
            if not entry.is_dir():
                yield entry
            elif not _hidden(entry):
                (links if entry.is_symlink() else pending).append(entry)
            elif any(".bin" in inner.name.casefold() for inner in entry.iterdir()):
                left_out.append(LeftOut(entry, "hidden"))


def _hidden(path: Path) -> bool:
    return path.name.startswith(".") or path.name == "__MACOSX"


def _unfit(path: Path) -> str | None:
    """Why a file that could hold tokens is no shard, by its path within the folder; None if it may be one."""
    name = path.name.casefold()
    array = name.endswith(_ARRAYS) and _splits(path.as_posix())
    if ".bin" not in name and not array:
        return None
    words = {word for part in path.parts for word in _WORD.findall(part.casefold())}
    if _hidden(path):
        return "hidden"
    if words & _BACKUP_WORDS or name.endswith("~") or _COPY.search(name.split(".bin")[0]):
        return "a backup or a copy"
    if not name.endswith(".bin"):
        return "no .bin file"
    return "a loss mask without metadata" if name.endswith(MASK_SUFFIX) else None


def _splits(path: str) -> list[Split]:
    """The splits that a path names in whole words."""
    words = set(_WORD.findall(path.casefold()))
    return [split for split, names in SPLIT_WORDS.items() if words & names]


def _refuse_several(folder: Path, found: Found, described: set[Path]) -> None:
    """Refuse a folder of several datasets: of each, the part of the path before its split is another folder."""
    roots: dict[Split, set[Path]] = {
        split: {_root(folder, path) for path in paths} for split, paths in found.splits.items()
    }
    whole, used = roots["train"] & roots["val"], roots["train"] | roots["val"]
    own = {path for path in described if any(root.is_relative_to(path) for root in used)}
    if len(whole) < 2 and not own:
        return
    names = sorted(path.relative_to(folder).as_posix() for path in whole | own)
    listed = ", ".join("files of its own" if name == "." else name for name in names[:_SHOWN])
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    first = next((name for name in names if name != "."), ".")
    raise InputError(
        f"The folder {folder} is no dataset but holds {'several' if len(names) > 1 else 'one'}: {listed}{more}.",
        f"Give the folder of one, such as {folder / first}.",
    )


def _root(folder: Path, path: Path) -> Path:
    """The folder of the dataset that a shard belongs to: the one in which a name first says its split."""
    root = folder
    for part in path.relative_to(folder).parts:
        if _splits(part):
            break
        root = root / part
    return root


def _keep_each_once(found: Found) -> None:
    """Leave out the further names of a file.

    Raises:
        InputError: a file is in both splits by two names.
    """
    names: dict[tuple[int, int], tuple[Split, Path]] = {}
    for split, paths in found.splits.items():
        for path in [*paths]:
            status = path.stat()
            first = names.setdefault((status.st_dev, status.st_ino), (split, path))
            if first[1] is path or not status.st_ino:
                continue
            if first[0] != split:
                raise InputError(
                    f"The shards {first[1]} and {path} are one file, so train and val would be the same.",
                    "Remove one of the two names.",
                )
            paths.remove(path)
            found.left_out.append(LeftOut(path, f"the same file as {first[1].name}"))
