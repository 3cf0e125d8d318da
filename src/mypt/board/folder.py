"""What the board knows: the rows of all runs, kept up to date, and the indexes of the logs that were asked for."""

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any

from mypt.board.index import Columns, LogIndex
from mypt.board.places import Places, RunPlace, file_signature
from mypt.board.rows import Row, row_of
from mypt.board.series import View, marks_of, series_of
from mypt.checkpoint.layout import STATE_FILE
from mypt.errors import InputError, MyptError, UsageError
from mypt.visible import visible

LOOK_S = 0.4
"""The table is not read anew before so long."""
FIRST_S, READ_S = 0.15, 0.4
"""For so long a request may read logs on, all of its runs together; the first answer on a run comes sooner."""
POINTS = 60_000
"""Points that a request gets at most; each further series has fewer."""
VALUES = 16_000_000
"""Figures that indexes may hold together, at eight bytes each; those longest not asked for go first."""
MOST_RUNS = 20
Page = dict[str, Any]


@dataclass(frozen=True)
class Pages:
    """What other verbs show of runs, as tables and sentences.

    Attributes:
        compare: of some runs, each called by its name or its log, what `mypt compare` shows.
        inspect: of the bundle of a run, what `mypt inspect` shows.
    """

    compare: Callable[[Sequence[str], Path], Page]
    inspect: Callable[[str, Path], Page]


@dataclass
class _Known:
    """A run at the latest look."""

    place: RunPlace
    signature: object
    row: Row
    version: int


class Board:
    """The runs of a folder; every method may be called by several threads.

    Args:
        out_dir: the folder of bundles.
        pages: what other verbs show.

    Attributes:
        birth: which board it is, as there may have been another one at the same port.
    """

    def __init__(self, out_dir: Path, pages: Pages) -> None:
        self.out_dir, self.pages = out_dir, pages
        self.birth = f"{time.time_ns():x}"
        self._places = Places(out_dir)
        self._known: dict[str, _Known] = {}
        self._gone: dict[str, int] = {}
        self._version = 0
        self._looked = -LOOK_S
        self._looking, self._reading = Lock(), Lock()
        self._indexes: OrderedDict[str, LogIndex] = OrderedDict()

    def changes(self, since: int = 0) -> tuple[int, list[dict[str, Any]], list[str]]:
        """The version of the table, the rows that changed since an earlier one, and the runs that are gone."""
        with self._looking:
            if time.monotonic() - self._looked >= LOOK_S:
                self._look()
                self._looked = time.monotonic()
            rows = [asdict(known.row) for known in self._known.values() if known.version > since]
            return self._version, rows, [run for run, version in self._gone.items() if version > since]

    def series(self, runs: Sequence[str], view: View) -> list[Page]:
        """What the charts draw of some runs; a long log is read on a little with every call, until all of it is.

        Raises:
            UsageError: one is none of the runs of the folder.
        """
        return [self._series_of(self._place(run), view, len(runs)) for run in runs]

    def compare(self, runs: Sequence[str]) -> Page:
        """The comparison of some runs.

        Raises:
            UsageError: one is none of the runs of the folder, or there are fewer than two.
        """
        if len(runs) < 2:
            raise UsageError("One run cannot be compared.", "Choose two or more.")
        return self.pages.compare([self._place(run).word for run in runs], self.out_dir)

    def run(self, run: str) -> Page:
        """Everything about one run.

        Raises:
            UsageError: it is none of the runs of the folder.
        """
        place = self._place(run)
        page: Page = {"name": visible(place.name), "parts": [visible(part.name) for part in place.parts], "fault": None}
        page |= {"sections": [], "lineage": [], "lines": []}
        if place.parts:
            try:
                page |= self.pages.inspect(place.bundle.name, self.out_dir)
            except MyptError as error:
                page["fault"] = visible(f"{error.what} {error.todo}")
        if place.log is not None:
            page |= self._history(place)
        return page

    def _look(self) -> None:
        """Find out which runs there are, and read anew what has changed."""
        found = {place.id: place for place in self._places.find()}
        for gone in self._known.keys() - found.keys():
            self._version += 1
            self._gone[gone] = self._version
            del self._known[gone]
        for run, place in found.items():
            files = [part / STATE_FILE for part in place.parts] + ([place.log] if place.log else [])
            signature = place.parts, place.writer, [file_signature(file) for file in files]
            known = self._known.get(run)
            if known is None or known.signature != signature:
                self._version += 1
                self._gone.pop(run, None)
                self._known[run] = _Known(place, signature, _row(place), self._version)
            else:
                known.place = place

    def _place(self, run: str) -> RunPlace:
        if not self._known:
            self.changes()
        known = self._known.get(run)
        if known is None:
            raise UsageError("There is no such run in the folder.", "Choose one of the table.")
        return known.place

    def _series_of(self, place: RunPlace, view: View, runs: int) -> Page:
        page: Page = {"id": place.id, "name": visible(place.name), "share": 1.0, "series": [], "marks": []}
        if place.log is None:
            return page
        try:
            with self._reading:
                share, columns = self._read(place, READ_S / runs)
                drawn = 3 + len(columns.evals)
                view = replace(view, points=min(view.points, POINTS // (runs * drawn)))
                return page | {"share": share, "series": series_of(columns, view), "marks": marks_of(columns, view)}
        except InputError as error:
            return page | {"fault": visible(error.what)}

    def _read(self, place: RunPlace, seconds: float) -> tuple[float, Columns]:
        """How much of a log has been read, and its columns, after reading on for a while."""
        assert place.log is not None
        index = self._indexes.pop(place.id, None)
        if index is None or index.upto != place.upto or index.path != place.log:
            index = LogIndex(place.log, place.run_id, place.upto)
        self._indexes[place.id] = index
        index.read(seconds if index.size else min(seconds, FIRST_S))
        while len(self._indexes) > 1 and sum(held.columns.size for held in self._indexes.values()) > VALUES:
            self._indexes.popitem(last=False)
        return index.share, index.shown()

    def _history(self, place: RunPlace) -> Page:
        """What the log alone knows: settings at the start, how gold came about, and samples."""
        with self._reading:
            try:
                _, columns = self._read(place, READ_S)
            except InputError as error:
                return {"fault": visible(error.what)}
            gold = [mark for mark in marks_of(columns, View("steps")) if mark["kind"] in ("gold", "blocked")]
            samples = [event for _, event in columns.marks if event["event"] == "sample"]
            start = columns.start or {}
        config = {**start.get("config", {}), **start.get("model", {})}
        return {
            "gold": sorted(gold, key=lambda mark: mark["step"]),
            "samples": [{name: _shown(value) for name, value in event.items()} for event in samples],
            "config": [[name, _shown(value)] for name, value in config.items()],
        }


def _row(place: RunPlace) -> Row:
    """The row of a run; of a log that cannot be read, what is wrong."""
    try:
        return row_of(place)
    except MyptError as error:
        return Row(id=place.id, name=visible(place.name), state="damaged", why=visible(error.what))


def _shown(value: object) -> str:
    return visible(value) if isinstance(value, str) else visible(str(value))
