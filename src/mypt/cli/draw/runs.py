"""What is drawn of a run, whatever draws it: its log in columns, and a check that something can draw."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from mypt.board.index import Columns, columns_of
from mypt.board.series import View, marks_of, series_of
from mypt.errors import InputError, UsageError
from mypt.log.locate import find_log
from mypt.schema.settings.output import Axis


@dataclass(frozen=True)
class Course:
    """A run that can be drawn, and what it is called."""

    name: str
    columns: Columns

    def series(self, axis: Axis, points: int) -> dict[str, dict[str, Any]]:
        """Its curves over an axis, by name."""
        return {series["name"]: series for series in series_of(self.columns, View(axis, points=points))}

    def marks(self, axis: Axis) -> list[dict[str, Any]]:
        """What happened, of gold the last."""
        marks = marks_of(self.columns, View(axis))
        gold = [mark for mark in marks if mark["kind"] == "gold"]
        return [*(mark for mark in marks if mark["kind"] != "gold"), *gold[-1:]]


def courses(runs: Sequence[tuple[str, str]], out_dir: Path) -> list[Course]:
    """The runs of which there is a log to draw.

    Args:
        runs: what each is called, and by what it is found.
        out_dir: the folder of bundles.

    Raises:
        InputError: there is none of any of them.
    """
    found = []
    for name, word in runs:
        with suppress(InputError):
            columns = columns_of(find_log(word, out_dir))
            found += [Course(name, columns)] if columns.size else []
    if not found:
        raise InputError(
            f"There is nothing to draw of {', '.join(name for name, _ in runs)}.", "Wait for the first evaluation."
        )
    return found


def ends(drawn: Sequence[dict[str, dict[str, Any]]]) -> tuple[float, float]:
    """The first and the last place of all curves."""
    places = [x for series in drawn for one in series.values() for x in one["x"] if x is not None]
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
