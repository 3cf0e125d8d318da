"""The evaluations of a run as a table in a file, CSV or parquet, or as TensorBoard's curves."""

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from mypt.checkpoint.atomic import storage_errors
from mypt.errors import InputError, UsageError
from mypt.log.live import Branch, find_branch, live_events
from mypt.schema.kinds import eval_sets, event_schemas

BATCH = 50_000
"""Rows of a parquet file that are in memory at a time."""
_LEFT_OUT = "event"


@dataclass(frozen=True)
class EvalTable:
    """The live evaluations of one run.

    Attributes:
        kinds: the types of values in each column, in the order of the columns: that of the spec, then the others.
    """

    path: Path
    branch: Branch
    kinds: Mapping[str, frozenset[type]]

    def rows(self) -> Iterator[dict[str, Any]]:
        """One row for each evaluation."""
        for event in live_events(self.path, self.branch):
            if event["event"] == "eval":
                yield {name: event.get(name) for name in self.kinds}


def eval_table(path: Path, run_id: str | None = None) -> EvalTable:
    """Find the columns of a run's evaluations.

    Raises:
        InputError: there is no log, or no evaluation in it.
    """
    branch = find_branch(path, run_id)
    found: dict[str, set[type]] = {}
    for event in live_events(path, branch):
        for name, value in event.items() if event["event"] == "eval" else ():
            found.setdefault(name, set()).add(type(value))
    if not found:
        raise InputError(f"There is no evaluation in {path}.", "Wait for the first one, or give another log.")
    ordered: list[str] = []
    for name in event_schemas()["eval"]["properties"]:
        ordered += [name] if name in found and name != _LEFT_OUT else []
        ordered += eval_sets(tuple(found)) if name == "val_loss" else ()
    ordered += [name for name in found if name not in ordered and name != _LEFT_OUT]
    return EvalTable(path, branch, {name: frozenset(found[name]) for name in ordered})


def write_csv(table: EvalTable, target: Path) -> int:
    """Write a CSV file; the number of rows."""
    with storage_errors(target, "--csv"), _new(table, target).open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(table.kinds))
        writer.writeheader()
        return _counted(table.rows(), lambda rows: writer.writerows(rows))


def write_parquet(table: EvalTable, target: Path) -> int:
    """Write a parquet file; the number of rows.

    Raises:
        UsageError: pyarrow is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise UsageError(
            "Parquet files need pyarrow, which is not installed.", "Call `pip install mypt[parquet]`, or use --csv."
        ) from error
    schema = pyarrow.schema([(name, _arrow(pyarrow, kinds)) for name, kinds in table.kinds.items()])
    with storage_errors(target, "--parquet"), parquet.ParquetWriter(_new(table, target), schema) as writer:
        return _counted(table.rows(), lambda rows: writer.write_table(pyarrow.Table.from_pylist(rows, schema)))


def write_tensorboard(table: EvalTable, target: Path) -> int:
    """Write a folder of event files for TensorBoard, a curve for each column; the number of evaluations.

    Raises:
        UsageError: tensorboard is not installed, or the folder holds event files, which the new curves would blur.
    """
    try:
        from tensorboard.summary import Writer  # type: ignore[import-untyped]
    except ImportError as error:
        raise UsageError(
            "TensorBoard's files need tensorboard, which is not installed.",
            "Call `pip install 'mypt[tensorboard]'`, or use --csv.",
        ) from error
    if any(target.glob("events.out.tfevents.*")):
        raise UsageError(f"{target} already holds TensorBoard's event files.", "Give another folder, or remove them.")
    with storage_errors(target, "--tensorboard"):
        writer = Writer(str(target))
        written = _counted(table.rows(), lambda rows: _add_scalars(writer, rows))
        writer.close()
    return written


def _add_scalars(writer: Any, rows: Iterable[dict[str, Any]]) -> None:
    for row in rows:
        at = datetime.fromisoformat(row["timestamp"]).timestamp()
        for name, value in row.items():
            if isinstance(value, int | float) and not isinstance(value, bool) and name != "iter":
                writer.add_scalar(curve_name(name), value, row["iter"], wall_time=at)


def curve_name(column: str) -> str:
    """The name of a column among TensorBoard's curves, grouped: `val_loss` is loss/val, `val_bpb` is bpb/val."""
    for group in ("loss", "se", "bpb"):
        if column.endswith(f"_{group}"):
            return f"{group}/{column.removesuffix(f'_{group}')}"
    if column.startswith("eval_") and column != "eval_duration_s":
        return f"loss/{column.removeprefix('eval_')}"
    return f"run/{column}"


def _arrow(pyarrow: Any, kinds: frozenset[type]) -> Any:
    if kinds <= {int, type(None)}:
        return pyarrow.int64()
    return pyarrow.float64() if kinds <= {int, float, type(None)} else pyarrow.string()


def _counted(rows: Iterable[dict[str, Any]], write: Callable[[list[dict[str, Any]]], object]) -> int:
    """Write rows in batches and count them."""
    rows, written = iter(rows), 0
    while batch := list(islice(rows, BATCH)):
        write(batch)
        written += len(batch)
    return written


def _new(table: EvalTable, target: Path) -> Path:
    """The file to write, which is not the log itself."""
    if target.exists() and target.samefile(table.path):
        raise UsageError(f"{target} is the log itself.", "Give another file to write to.")
    return target
