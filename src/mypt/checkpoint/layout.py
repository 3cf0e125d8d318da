"""File names of a bundle and paths of bundles and logs."""

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from mypt.checkpoint.atomic import recover
from mypt.errors import ConflictError, UsageError, did_you_mean
from mypt.schema.settings.output import DEFAULT_OUT_DIR

if TYPE_CHECKING:
    from mypt.schema.files.state import TrainingState

MODEL_FILE, MODEL_PARTS = "model.pt", "model"
OPTIMIZER_FILE, OPTIMIZER_PARTS = "optimizer.pt", "optimizer"
"""Weights and moments: each in one file, or in a folder with what each of several processes has saved of them."""
PART = ".safetensors"
"""How the name of a part ends, as that of no other file of a bundle does."""
CONFIG_FILE = "config.json"
TOKENIZER_FILE = "tokenizer.json"
STATE_FILE = "training_state.json"
MANIFEST_FILE = "manifest.json"
EXPORT_FILE = "mypt.json"
"""The record in a folder that was exported for other programs, which is no bundle."""

LARGEST_BYTES = {CONFIG_FILE: 1 << 20, MANIFEST_FILE: 1 << 20, TOKENIZER_FILE: 1 << 26, STATE_FILE: 1 << 24}
"""What the JSON files of a bundle never come near: a vocabulary of a million tokens, thousands of sessions."""
LARGEST_EXPORT_RECORD = 1 << 20
"""The same for the record of an export."""

LOG_FOLDER = Path("logs") / "train"

GOLD, FP16 = "_gold", "_fp16"
"""What follows the name of a run in the names of its gold and of its fp16 bundle."""

_FORM = re.compile(r"^(?!\.)[^/\\:*?\"<>|]+(?<![ .])$")
_DEVICES = re.compile(r"^(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])\s*(\.|$)", re.IGNORECASE)
"""Names that Windows keeps for devices, with any ending."""
_LONGEST = 100
_LONGEST_BYTES = 200
"""File systems end at 255 bytes, and what a run adds to its name, such as in `.NAME_20261126-101530_gold.saving`, needs
the rest."""


def check_name(name: str) -> str:
    """Return `name` if it can be the name of a model on every platform.

    Raises:
        UsageError: it is empty or too long, starts or ends with a dot or a space, is kept for a device, or has a
            character such as `/` or one that does not show.
    """
    if reason := _wrong_with(name):
        raise UsageError(
            f"{name!r} cannot be the name of a model: {reason}.",
            "Use up to 100 letters, digits, dashes, underscores and dots, with no slash and no leading dot.",
        )
    return name


def _wrong_with(name: str) -> str | None:
    if not _FORM.match(name) or name.strip() != name or not name.isprintable():
        return "it is no folder name on every system"
    if _DEVICES.match(name):
        return "Windows keeps it for a device"
    if len(name) > _LONGEST:
        return f"it has {len(name)} characters"
    if (size := len(name.encode("utf-8", "surrogatepass"))) > _LONGEST_BYTES:
        return f"it takes {size} bytes, more than the {_LONGEST_BYTES} that leave room for what a run adds to it"
    return None


def base_name(name: str) -> str:
    """What the names of all bundles that one run may write have in common: the name without `_gold` and `_fp16`.

    Example:
        >>> base_name("dante_gold_fp16")
        'dante'
    """
    for ending in (GOLD, FP16):
        if name.endswith(ending) and name != ending:
            return base_name(name.removesuffix(ending))
    return name


def place_of(file: Path) -> tuple[Path, str]:
    """The bundle of a file, and the name that the file has in it."""
    if file.suffix == PART:
        return file.parents[1], f"{file.parent.name}/{file.name}"
    return file.parent, file.name


def names_in(bundle: Path) -> list[str]:
    """Sorted names of what lies in a bundle; a folder of parts is looked into."""
    found: list[str] = []
    for path in bundle.iterdir():
        is_parts = path.name in (MODEL_PARTS, OPTIMIZER_PARTS) and path.is_dir()
        found += [f"{path.name}/{part.name}" for part in path.iterdir()] if is_parts else [path.name]
    return sorted(found)


def check_spelling(path: Path) -> None:
    """Make sure that no folder of another spelling answers to this path, as on systems that ignore case.

    Raises:
        ConflictError: one does.
    """
    if path.exists() and path.name not in (names := [p.name for p in path.parent.iterdir()]):
        same = next((n for n in names if (path.parent / n).samefile(path)), "another folder")
        raise ConflictError(f"On this file system, {path} is the same folder as {same}.", f"Call it {same}.")


def bundle_path(name: str, out_dir: Path = DEFAULT_OUT_DIR) -> Path:
    """The folder of an existing bundle, given by name or path.

    Raises:
        UsageError: there is no such bundle; the message lists the existing ones.
    """
    as_path = Path(name)
    if (exported := export_path(name, out_dir)) is not None:
        raise UsageError(
            f"{exported} was exported for other programs, and is no bundle.",
            f"Name the bundle that it was made of, or make one: mypt import {exported} --name NEW",
        )
    if (as_path / CONFIG_FILE).is_file() and as_path.name != name:
        return as_path
    path = as_path if as_path.parent == out_dir else out_dir / name
    if not (path / CONFIG_FILE).is_file():
        check_name(path.name if as_path.parent == out_dir else name)
        recover(path)
    check_spelling(path)
    if path.is_dir():
        return path
    names = bundle_names(out_dir)
    todo = f"Those present: {', '.join(names)}." if names else f"Start one with `{command('train', path)}`."
    if path.name + GOLD in names:
        todo = f"{todo[:-1]}; `{command('resume', path, '--from', 'gold')}` goes on from its gold bundle."
    raise UsageError(f"There is no model {name!r} in {out_dir}{did_you_mean(name, names)}", todo)


def bundle_names(out_dir: Path) -> list[str]:
    """Sorted names of all bundles in a folder."""
    if not out_dir.is_dir():
        return []
    return sorted(p.name for p in out_dir.iterdir() if p.name[0] != "." and _may_be_bundle(p))


def is_export(folder: Path) -> bool:
    """Whether a folder was exported for other programs."""
    return (folder / EXPORT_FILE).is_file()


def export_path(name: str, out_dir: Path = DEFAULT_OUT_DIR) -> Path | None:
    """The folder of an export, given by name or path; None if there is none of this name."""
    return next((path for path in (Path(name), out_dir / name) if is_export(path)), None)


def _may_be_bundle(folder: Path) -> bool:
    """Whether a folder is a bundle, or may not be looked into, which whoever reads it will tell."""
    try:
        return (folder / CONFIG_FILE).is_file() and not is_export(folder)
    except OSError:
        return True


def log_path(name: str) -> Path:
    """Default path of a run's log."""
    return LOG_FOLDER / f"{name}_eval.jsonl"


def log_of(bundle: Path, state: "TrainingState") -> Path | None:
    """Path of the log that a training state points to; None if the run has no log."""
    return bundle.absolute().parent.parent / state.log_file if state.log_file else None


def log_reference(log: Path, bundle: Path) -> str:
    """The `log_file` of a training state: relative to the parent of the bundles' folder if inside it, else absolute.

    A relative path survives moving the bundles and logs together.
    """
    base, path = bundle.absolute().parent.parent, log.absolute()
    return (path.relative_to(base) if path.is_relative_to(base) else path).as_posix()


def command(verb: str, bundle: Path, *options: str) -> str:
    """A command on a bundle that works in this folder, such as `mypt resume dante --out-dir elsewhere`."""
    folder = bundle.parent
    place = () if folder.absolute() == DEFAULT_OUT_DIR.absolute() else ("--out-dir", folder.as_posix())
    return shlex.join(["mypt", verb, bundle.name, *options, *place])


def folder_reference(bundle: Path, log_file: str | None) -> str:
    """The `folder` of a training state; absolute with an absolute log, which a copy of all folders would share."""
    folder = bundle.absolute().parent
    return folder.as_posix() if log_file and Path(log_file).is_absolute() else folder.name


def display_path(path: Path) -> str:
    """A path for messages: relative to the working folder if inside it."""
    return (path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path).as_posix()
