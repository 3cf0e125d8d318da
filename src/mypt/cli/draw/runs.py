"""What is drawn of a run, whatever draws it: its log in columns."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from mypt.board.index import Columns
from mypt.board.series import View, marks_of, series_of
from mypt.errors import UsageError
from mypt.log.run_record import RunRecord, read_run
from mypt.schema.settings.output import Axis

BEYOND = 1e15
"""What is no number, or not below this, has no place on an axis."""


@dataclass(frozen=True)
class Course:
    """A run that can be drawn, and what it is called."""

    name: str
    columns: Columns

    def series(self, axis: Axis, points: int) -> dict[str, dict[str, Any]]:
        """Its curves over an axis, by name."""
        return {series["name"]: series for series in series_of(self.columns, View(axis, points=points))}

    def marks(self, axis: Axis) -> list[dict[str, Any]]:
        """What happened, of gold the last, where it has a place."""
        marks = [mark for mark in marks_of(self.columns, View(axis)) if fits(mark["x"]) and fits(mark["y"])]
        gold = [mark for mark in marks if mark["kind"] == "gold"]
        return [*(mark for mark in marks if mark["kind"] != "gold"), *gold[-1:]]


def read(names: Sequence[str], out_dir: Path, *, draw: bool = True) -> tuple[list[RunRecord], list[Course]]:
    """Runs as `mypt compare` reads them, and if they are to be drawn, those of which there is something to draw.

    Raises:
        UsageError: one is not to be found.
    """
    records, found = [], []
    for name in names:
        columns = Columns()
        records.append(read_run(name, out_dir, columns.add if draw else None))
        found += [Course(records[-1].label, columns)] if columns.size else []
    return records, found


def fits(value: float | None) -> bool:
    """Whether a figure has a place on an axis."""
    return value is not None and abs(value) < BEYOND


def ends(drawn: Sequence[dict[str, dict[str, Any]]]) -> tuple[float, float]:
    """The first and the last place of all curves, where they can be drawn."""
    places = [x for series in drawn for one in series.values() for x in one["x"] if fits(x)]
    return min(places, default=0.0), max(places, default=1.0)


def library(name: str) -> ModuleType:
    """A module that draws.

    Raises:
        UsageError: it is not installed.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise UsageError(
            f"Drawing needs {name.split('.')[0]}, which is not installed.", "Install it: pip install 'mypt[plot]'"
        ) from error
