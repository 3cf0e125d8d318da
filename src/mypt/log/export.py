"""The evaluations of a run, or its single steps, as a table in a file, or as TensorBoard's curves."""

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from mypt.checkpoint.atomic import replacing_file, storage_errors
from mypt.errors import InputError, UsageError
from mypt.log.replay import Branch, Replay
from mypt.mirror.points import point_of
from mypt.mirror.tensorboard import EventFiles, check_unused
from mypt.schema.files.events import EVENTS, eval_sets
from mypt.schema.settings.output import TableEvent

BATCH = 50_000
"""Rows of a parquet file that are in memory at a time."""
_MISSING: dict[TableEvent, tuple[str, str]] = {
    "eval": ("evaluation", "Wait for the first one, or give another log."),
    "evaluation": ("evaluation of a finished model", "`mypt evaluate` makes one; or give another log."),
    "step": ("single step", "`mypt train --log-interval N` logs every N-th one; or give another log."),
}


@dataclass(frozen=True)
class EventTable:
    """The live events of one kind of a run, as rows.

    Attributes:
        event: the kind.
        types: the types of values in each column, in the order of the columns: that of docs/files.md, then the others.
    """

    replay: Replay
    event: TableEvent
    types: Mapping[str, frozenset[type]]

    def rows(self) -> Iterator[dict[str, Any]]:
        """One row for each event."""
        for event in self.replay.live():
            if event["event"] == self.event:
                yield {name: event.get(name) for name in self.types}


def event_table(
    path: Path, run_id: str | None = None, event: TableEvent = "eval", upto: Branch | None = None
) -> EventTable:
    """Find the columns of a run's evaluations, or of its single steps.

    Raises:
        InputError: there is no log, or no such event in it.
    """
    replay = Replay(path, run_id, upto=upto)
    found: dict[str, set[type]] = {}
    for content in replay.live():
        for name, value in content.items() if content["event"] == event else ():
            found.setdefault(name, set()).add(type(value))
    if not found:
        what, todo = _MISSING[event]
        raise InputError(f"There is no {what} in {path}.", todo)
    del found["event"]
    documented: list[str] = []
    for name in EVENTS[event].model_fields:
        documented += [name, *(eval_sets(found) if name == "val_loss" else ())]
    ordered = [name for name in dict.fromkeys([*documented, *found]) if name in found]
    return EventTable(replay, event, {name: frozenset(found[name]) for name in ordered})


def write_csv(table: EventTable, target: Path) -> int:
    """Write a CSV file; the number of rows."""
    with _new(table, target, "--csv") as new, new.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(map(_cell, table.types))
        return _counted(table.rows(), lambda rows: writer.writerows(map(_cell, row.values()) for row in rows))


def _cell(value: object) -> object:
    """A value for a table that people open in spreadsheets, where a text that begins like a formula would be one."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


def write_parquet(table: EventTable, target: Path) -> int:
    """Write a parquet file; the number of rows.

    Raises:
        UsageError: pyarrow is not installed.
    """
    with _needed("Parquet files need pyarrow", "mypt[parquet]"):
        import pyarrow
        import pyarrow.parquet as parquet
    schema = pyarrow.schema([(name, _arrow(pyarrow, types)) for name, types in table.types.items()])
    with (
        _new(table, target, "--parquet") as new,
        new.open("wb") as file,
        parquet.ParquetWriter(file, schema) as writer,
    ):
        texts = [field.name for field in schema if field.type == pyarrow.string()]
        return _counted(
            (row | {name: _text(row[name]) for name in texts} for row in table.rows()),
            lambda rows: writer.write_table(pyarrow.Table.from_pylist(rows, schema)),
        )


def write_tensorboard(table: EventTable, target: Path) -> int:
    """Write a folder of event files for TensorBoard, a curve for each column; the number of rows.

    Raises:
        UsageError: tensorboard is not installed, or the folder holds event files, which the new curves would blur.
    """
    check_unused(target)
    with storage_errors(target, "--tensorboard"):
        with _needed("TensorBoard's files need tensorboard", "'mypt[tensorboard]'"):
            files = EventFiles(target)
        written = 0
        for row in table.rows():
            files.add_point(point_of({**row, "event": table.event}))
            written += 1
        files.close()
    return written


@contextmanager
def _needed(what: str, extra: str) -> Iterator[None]:
    """Name the extra that an import needs."""
    try:
        yield
    except ImportError as error:
        raise UsageError(f"{what}, which is not installed.", f"Call `pip install {extra}`, or use --csv.") from error


def _arrow(pyarrow: Any, types: frozenset[type]) -> Any:
    known = types - {type(None)}
    if known == {bool}:
        return pyarrow.bool_()
    if known <= {int}:
        return pyarrow.int64()
    return pyarrow.float64() if known <= {int, float} else pyarrow.string()


def _text(value: object) -> str | None:
    """A value for a column of texts, which also stands for values that are not all of one type."""
    return value if isinstance(value, str | None) else json.dumps(value, ensure_ascii=False)


def _counted(rows: Iterable[dict[str, Any]], write: Callable[[list[dict[str, Any]]], object]) -> int:
    """Write rows in batches and count them."""
    rows, written = iter(rows), 0
    while batch := list(islice(rows, BATCH)):
        write(batch)
        written += len(batch)
    return written


@contextmanager
def _new(table: EventTable, target: Path, option: str) -> Iterator[Path]:
    """The file to write, which is not the log itself, and which is whole or not there."""
    if target.exists() and target.samefile(table.replay.path):
        raise UsageError(f"{target} is the log itself.", "Give another file to write to.")
    with storage_errors(target, option), replacing_file(target) as temporary:
        yield temporary
