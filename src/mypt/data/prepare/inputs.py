"""Finds the input files and divides the work into units."""

import importlib.util
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from mypt.data.inputs.forms import FORMS, PACKINGS, named_form
from mypt.data.prepare.folders import Found, find_files, once, unusable
from mypt.data.prepare.kinds import with_kind
from mypt.data.prepare.splits import splits_by_files, splits_by_names, with_splits
from mypt.data.text import input_errors, opened
from mypt.errors import InputError
from mypt.regular import expanded
from mypt.schema.files.prepare_plan import InputFile, Part, PreparePlan, Unit
from mypt.schema.settings.prepare import PrepareConfig

UNIT_BYTES = 64 * 2**20
"""Small enough that an interruption costs only seconds of work, large enough to keep the number of shards low."""


def _silent(_: str) -> None:
    """Tells nobody."""


def make_plan(
    inputs: Sequence[str], config: PrepareConfig, out: Path | None = None, notice: Callable[[str], None] = _silent
) -> PreparePlan:
    """Find the inputs, which are files, folders and globs, and divide the work into units.

    Args:
        inputs: files, folders and globs.
        config: settings.
        out: folder of the dataset, which is no input, wherever it is.
        notice: told what is left out of folders.

    Raises:
        InputError: inputs are missing, empty, or in a format that the settings exclude; all are listed.
    """
    sources = _find_inputs(inputs, config, out, notice)
    _check_forms(sources, config)
    sources = tuple(with_kind(source, config) for source in sources)
    return PreparePlan(settings=config.shaping(), sources=sources, units=tuple(_units(sources)))


def _find_inputs(
    inputs: Sequence[str], config: PrepareConfig, out: Path | None, notice: Callable[[str], None]
) -> tuple[InputFile, ...]:
    """All input files, sorted by path, without duplicates, each with its split if that is given."""
    found = [find_files(word, _is_known, out) for word in inputs]
    found_val = [find_files(word, _is_known, out) for word in config.val_input]
    problems = [problem for one in (*found, *found_val) for problem in _problems(one)]
    for one in (*found, *found_val):
        if one.files and one.left_out:
            notice(f"Left out of {one.word}: {one.told}.")
    paths = once(path for one in (*found_val, *found) for path in one.files if path.is_file())
    files = [file for path in sorted(paths) if (file := _input_file(path, problems))]
    if problems:
        raise unusable(problems, "Check the paths, and leave out empty files.")
    splits = splits_by_files(found, found_val) if found_val else None
    if not found_val and config.split_by_folder is not False:
        splits = splits_by_names(found, asked=config.split_by_folder is True)
    if splits is None:
        return tuple(files)
    sources, line = with_splits(files, splits)
    notice(line)
    return sources


def _problems(found: Found) -> list[str]:
    others = [path for path in found.files if not path.is_file()]
    return ([] if found.files else [_no_files(found)]) + [
        f"{path} is a device, a pipe or a socket, not a file." for path in others
    ]


def _no_files(found: Found) -> str:
    besides = f"; left out: {found.told}" if found.left_out else ""
    if expanded(found.word).is_dir():
        return (
            f"{found.word} is a folder without files of a known type "
            f"({', '.join(FORMS)}, optionally with {', '.join(PACKINGS)}){besides}."
        )
    return f"{found.word} has no file with content{besides}." if besides else f"{found.word} does not exist."


def _is_known(path: Path) -> bool:
    return named_form(path.name) is not None


def _input_file(path: Path, problems: list[str]) -> InputFile | None:
    """An input, told by its name and its first bytes; None if it cannot be one, which joins the problems."""
    try:
        stat = path.stat()
        if not stat.st_size:
            problems.append(f"{path} is empty.")
            return None
        with input_errors(str(path)), opened(str(path)) as (kind, _):
            return InputFile(
                path=str(path), form=kind.form, packing=kind.packing, bytes=stat.st_size, mtime_ns=stat.st_mtime_ns
            )
    except InputError as error:
        problems.append(f"{error.what} {error.todo}")
        return None


def _check_forms(sources: Iterable[InputFile], config: PrepareConfig) -> None:
    other = [f"{s.path} is plain text." for s in sources if config.chat and s.form == "text"]
    if other:
        raise unusable(other, "Give conversations as JSON, JSON lines or Parquet, or leave out --chat.")
    tables = [f"{s.path} is a Parquet file." for s in sources if s.form == "parquet"]
    if tables and importlib.util.find_spec("pyarrow") is None:
        raise unusable(tables, "Install pyarrow to read them: pip install 'mypt[parquet]'")


def _units(sources: Sequence[InputFile]) -> Iterator[Unit]:
    """Group consecutive parts into units of at most UNIT_BYTES."""
    group: list[Part] = []
    for part in (part for number, source in enumerate(sources) for part in _parts(number, source)):
        if group and sum(p.end - p.start for p in (*group, part)) > UNIT_BYTES:
            yield Unit(parts=tuple(group))
            group = []
        group.append(part)
    yield Unit(parts=tuple(group))


def _parts(number: int, source: InputFile) -> Iterator[Part]:
    """The parts of a file, which is a single one if it can be read from the start alone."""
    size = UNIT_BYTES if source.divisible else source.bytes
    for start in range(0, source.bytes, size):
        yield Part(source=number, start=start, end=min(start + size, source.bytes))
