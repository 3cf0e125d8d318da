"""The split that is given with the inputs: by the names of folders and files, or by files for validation alone."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from mypt.data.prepare.folders import SHOWN, Found, unusable
from mypt.regular import expanded
from mypt.schema.files.prepare_plan import InputFile

SAYS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test", "eval": "test", "evaluation": "test",
}  # fmt: skip
"""What words in a name say, as to Hugging Face's datasets; what is for testing is in no split."""
BOTH = "both"
"""The split of a file that is divided by the hash of its documents."""
_WORD = re.compile(r"[^\W\d_]+")


def splits_by_names(found: Iterable[Found], *, asked: bool) -> dict[Path, str] | None:
    """The split of each file by its resolved path, if names of both training and validation are there, or it is asked.

    Where every name speaks of training or testing, and none of validation, what is for training is divided.

    Raises:
        InputError: the name of a file says no split, or several.
    """
    said: dict[Path, frozenset[str]] = {}
    for one in found:
        for path in one.files:
            said[path.resolve()] = said.get(path.resolve(), frozenset()) | _names(one.word, path)
    names, words = set(said.values()), frozenset[str]().union(*said.values())
    if not asked and not {frozenset({"train"}), frozenset({"val"})} <= names:
        if not all(names) or not words > {"train"}:
            return None
        if all(len(name) == 1 for name in names):
            return {path: "test" if "test" in name else BOTH for path, name in said.items()}
    unclear = [
        f"{path}: its name says {' and '.join(sorted(names)) or 'neither train nor val'}."
        for path, names in said.items()
        if len(names) != 1
    ]
    if unclear:
        todo = "Rename them or leave them out, or give --no-split-by-folder to split all documents by their hash."
        raise unusable(unclear, todo)
    return {path: next(iter(names)) for path, names in said.items()}


def splits_by_files(found: Sequence[Found], for_val: Iterable[Found]) -> dict[Path, str]:
    """The split of each file by its resolved path: what is found for validation is in that alone.

    Raises:
        InputError: a file is named for both, or nothing is left for training.
    """
    val = {path.resolve() for one in for_val for path in one.files}
    train = {path.resolve() for one in found for path in one.files}
    named = {path.resolve() for one in found if one.named for path in one.files}
    if both := (named if train - val else train) & val:
        raise unusable(
            [f"{path} is an input and a --val-input." for path in sorted(both)], "Give each file for one split."
        )
    return {path: "val" if path in val else "train" for path in train | val}


def with_splits(files: Iterable[InputFile], splits: Mapping[Path, str]) -> tuple[tuple[InputFile, ...], str]:
    """The inputs with their splits, without those for testing, and the line that tells of it.

    Raises:
        InputError: nothing is left.
    """
    by_split: dict[str, list[InputFile]] = {"train": [], "val": [], "test": [], BOTH: []}
    for file in files:
        by_split[splits[Path(file.path).resolve()]].append(file)
    kept = [file.model_copy(update={"split": s}) for s in ("train", "val") for file in by_split[s]]
    tests = [Path(file.path).name for file in by_split["test"]]
    if not kept and not by_split[BOTH]:
        raise unusable([f"{file.path} is for testing." for file in by_split["test"]], "Give texts to train on.")
    if by_split[BOTH]:
        line = f"Left out for testing, as their names say: {', '.join(tests[:SHOWN])}{', …' if tests[SHOWN:] else ''}."
        return tuple(by_split[BOTH]), f"{line} --no-split-by-folder takes them, too."
    more = f"; left out for testing: {', '.join(tests[:SHOWN])}{', …' if tests[SHOWN:] else ''}" if tests else ""
    line = f"The split is the given one: {len(by_split['train'])} for training, {len(by_split['val'])} for validation"
    return tuple(sorted(kept, key=lambda file: file.path)), f"{line}{more}. --val-share has no effect."


def _names(word: str, path: Path) -> frozenset[str]:
    """The splits that the path of a file names from where the word leads to, or else the name of that folder."""
    base = _base(expanded(word)).absolute()
    return _said(path.relative_to(base).parts) or _said([base.name]) - {"test"}


def _base(path: Path) -> Path:
    """The folder that a word leads to: itself, that of a file, or the fixed part of a pattern."""
    while not path.is_dir():
        path = path.parent
    return path


def _said(parts: Iterable[str]) -> frozenset[str]:
    words = (word for part in parts for word in _WORD.findall(part.lower()))
    return frozenset(SAYS[word] for word in words if word in SAYS)
