"""From the words of a call to a plan: which files are read, and how the work is cut into units."""

import glob
import importlib.util
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from mypt.errors import InputError
from mypt.schema.settings.prepare import Form, InputFile, Part, PrepareConfig, PreparePlan, Unit

UNIT_BYTES = 64 * 2**20
"""Small enough that a kill costs seconds of work, large enough that shards stay few."""
FORMS: dict[str, Form] = {
    ".txt": "text", ".md": "text", ".text": "text", ".jsonl": "jsonl", ".parquet": "parquet",
}  # fmt: skip


def make_plan(inputs: Sequence[str], config: PrepareConfig) -> PreparePlan:
    """Find the inputs and cut the work.

    Args:
        inputs: files, folders and globs.
        config: the settings.

    Raises:
        InputError: inputs are missing, empty, or of a form that the settings exclude; all are listed.
    """
    sources = find_inputs(inputs)
    _check_forms(sources, config)
    return PreparePlan(settings=config.shaping(), sources=sources, units=tuple(_units(sources)))


def find_inputs(inputs: Sequence[str]) -> tuple[InputFile, ...]:
    """Every file that the inputs name, once, sorted by path.

    Raises:
        InputError: listing what is missing or empty.
    """
    found: set[Path] = set()
    problems = []
    for word in inputs:
        files = {file.absolute() for file in _expand(word)}
        problems += [] if files else [_nothing(word)]
        found |= files
    sources = tuple(_look(path) for path in sorted(found))
    problems += [f"{source.path} is empty." for source in sources if source.bytes == 0]
    if problems:
        raise _unusable(problems, "Check the paths and their spelling, and leave empty files out.")
    return sources


def _expand(word: str) -> Iterator[Path]:
    path = Path(word).expanduser()
    named = [path] if path.exists() else _matches(str(path))
    for match in named:
        if match.is_dir():
            yield from (p for p in match.rglob("*") if _form_suffix(p) in FORMS and p.is_file())
        else:
            yield match


def _matches(pattern: str) -> list[Path]:
    return [Path(match) for match in glob.glob(pattern, recursive=True)]  # noqa: PTH207 - Path.glob takes no absolute one


def _nothing(word: str) -> str:
    if Path(word).expanduser().is_dir():
        return f"{word} is a folder without a file of a known suffix ({', '.join(FORMS)}, or one of them and .gz)."
    return f"{word} does not exist."


def _form_suffix(path: Path) -> str:
    return Path(path.stem).suffix if path.suffix == ".gz" else path.suffix


def _look(path: Path) -> InputFile:
    stat = path.stat()
    return InputFile(
        path=str(path), form=FORMS.get(_form_suffix(path), "text"), gzipped=path.suffix == ".gz",
        bytes=stat.st_size, mtime_ns=stat.st_mtime_ns,
    )  # fmt: skip


def _check_forms(sources: Iterable[InputFile], config: PrepareConfig) -> None:
    other = [f"{s.path} is not .jsonl." for s in sources if config.chat and s.form != "jsonl"]
    if other:
        raise _unusable(other, "Give conversations as .jsonl or .jsonl.gz, or leave out --chat.")
    tables = [f"{s.path} is a parquet file." for s in sources if s.form == "parquet"]
    if tables and importlib.util.find_spec("pyarrow") is None:
        raise _unusable(tables, "Install what reads them: pip install 'mypt[parquet]'")


def _unusable(problems: list[str], todo: str) -> InputError:
    count = f"{len(problems)} inputs" if len(problems) > 1 else "1 input"
    return InputError(f"{count} cannot be used.", todo, problems)


def _units(sources: Sequence[InputFile]) -> Iterator[Unit]:
    """Consecutive parts together, until they make up a unit."""
    group: list[Part] = []
    for part in (part for number, source in enumerate(sources) for part in _parts(number, source)):
        if group and sum(p.end - p.start for p in (*group, part)) > UNIT_BYTES:
            yield Unit(parts=tuple(group))
            group = []
        group.append(part)
    yield Unit(parts=tuple(group))


def _parts(number: int, source: InputFile) -> Iterator[Part]:
    """The ranges of a file; one of all of it where it can only be read from its beginning."""
    size = source.bytes if source.gzipped or source.form == "parquet" else UNIT_BYTES
    for start in range(0, source.bytes, size):
        yield Part(source=number, start=start, end=min(start + size, source.bytes))
