"""The figures of a run's log in columns, read once and then followed: a log only grows."""

import os
import time
from array import array
from collections import deque
from collections.abc import Iterator
from itertools import islice
from math import nan
from operator import itemgetter
from pathlib import Path
from typing import Any, BinaryIO

from mypt.log.reader import LineParser, SkippedLines, read_events, reading
from mypt.log.replay import Branch
from mypt.schema.files.events import eval_sets

AT_ONCE = 500
"""Lines between two looks at the clock."""
HEAD_BYTES = 512
"""The beginning of a log, which has the time of the run's start in it, by which another log in its place is known."""
SAMPLED = 2000
"""Lines of a long log that are read first, evenly chosen, for a picture of all of it."""
STEP_FIGURES = ("loss", "lr", "grad_norm", "tokens_per_sec")

_STEP = itemgetter("iter", *STEP_FIGURES)


class Columns:
    """What is live of a run, as far as its log has been read.

    A session that starts at an earlier step than the run had reached supersedes what lies beyond, which is dropped.

    Attributes:
        evals: figures of the evaluations by the names of the log, with `step`, `tokens` and `seconds` (of all
            sessions); nan where one is missing.
        steps: figures of the single steps, with `step`.
        marks: further events by name, each with its step.
        start: what the latest session began with.
        sessions: the step that each live session began after, and its settings.
        first_phase: the phase of the first evaluation, and the step of this; None before there is one.
        first_step: where the first session began.
    """

    def __init__(self) -> None:
        self.evals: dict[str, array[float]] = {name: array("d") for name in ("step", "tokens", "seconds")}
        self.steps: dict[str, array[float]] = {name: array("d") for name in ("step", *STEP_FIGURES)}
        self.marks: list[tuple[int, dict[str, Any]]] = []
        self.start: dict[str, Any] | None = None
        self.sessions: list[tuple[int, dict[str, Any]]] = []
        self.first_phase: tuple[str, int] | None = None
        self.first_step = 0
        self._clock: list[tuple[int, float]] = []
        self._before = 0.0
        self._add_step = [column.append for column in self.steps.values()]

    def add(self, event: dict[str, Any]) -> None:
        """Take in the next event of the run."""
        name = event["event"]
        if name == "step":
            for add, value in zip(self._add_step, _STEP(event), strict=True):
                add(value)
        elif name == "eval":
            self._eval(event)
        elif name == "training_start":
            self._start(event)
        elif name != "evaluation":
            self._mark(event["total_steps"] if name == "training_complete" else event["iter"], event)

    def rewind(self, step: int) -> None:
        """Drop what lies beyond a step."""
        for columns in (self.evals, self.steps):
            kept = len(columns["step"])
            while kept and columns["step"][kept - 1] > step:
                kept -= 1
            for column in columns.values():
                del column[kept:]
        self.marks = [(at, event) for at, event in self.marks if _placed(at, event) <= step]
        while self._clock and self._clock[-1][0] > step:
            self._clock.pop()

    @property
    def size(self) -> int:
        """How many figures these are."""
        return sum(len(column) for columns in (self.evals, self.steps) for column in columns.values())

    @property
    def reached(self) -> int:
        """The step that the run has come to."""
        ends = [columns["step"][-1] for columns in (self.evals, self.steps) if columns["step"]]
        return int(max([*ends, *(at for at, _ in self.marks[-1:])], default=self.first_step))

    def _start(self, event: dict[str, Any]) -> None:
        step, reached = event["config"]["start_step"], self.reached
        if self.start is None:
            self.first_step = step
        self.rewind(step)
        self._before = self._clock[-1][1] if self._clock else 0.0
        again = self.start is not None
        self.start = event
        self.sessions = [*((at, config) for at, config in self.sessions if at < step), (step, event["config"])]
        if again:
            what = {"event": "training_start", "timestamp": event["timestamp"], "attempt": event.get("attempt")}
            self.marks.append((step, {**what, "reached": reached if reached > step else None}))

    def _eval(self, event: dict[str, Any]) -> None:
        evals, step = self.evals, event["iter"]
        self.first_phase = self.first_phase or (event["phase"], step)
        if evals["step"] and evals["step"][-1] == step:  # made again by a later session
            for column in evals.values():
                column.pop()
        seconds = self._before + event["elapsed_s"]
        self._clock.append((step, seconds))
        given: dict[str, Any] = {"step": step, "tokens": event["tokens_processed"], "seconds": seconds}
        names = ("val_loss", *eval_sets(event), "train_loss", "val_bpb", "lr", "tokens_per_sec")
        given |= {name: event.get(name) for name in names}
        before = len(evals["step"])
        for name in [name for name in given if name not in evals]:
            evals[name] = array("d", [nan]) * before
        for name, column in evals.items():
            value = given.get(name)
            column.append(nan if value is None else value)

    def _mark(self, step: int, event: dict[str, Any]) -> None:
        if (elapsed := event.get("elapsed_s", event.get("total_elapsed_s"))) is not None:
            self._clock.append((_placed(step, event), self._before + elapsed))
        self.marks.append((step, event))


def _placed(step: int, event: dict[str, Any]) -> int:
    """The step that a mark belongs to: a switch of phases is written before the first step of its phase."""
    return step + 1 if event["event"] == "phase_switch" else step


class LogIndex:
    """The columns of one run of a log, read from where the last look ended.

    Args:
        path: the log.
        run_id: which run of it; where nothing is said the last one that started.
        upto: the branch of the run to keep to.
    """

    def __init__(self, path: Path, run_id: str | None = None, upto: Branch | None = None) -> None:
        self.path, self.upto = path, upto
        self._asked = run_id
        self._begin()

    def _begin(self) -> None:
        self.columns = Columns()
        self.run_id = self._asked if self._asked is not None else _last_run(self.path)
        self._parser = LineParser(SkippedLines())
        self._offset = self.size = 0
        self._head = b""
        self._coarse: Columns | None = None

    @property
    def share(self) -> float:
        """How much of the log has been read."""
        return min(1.0, self._offset / self.size) if self.size else 1.0

    def shown(self) -> Columns:
        """What can be drawn now: all of it, or a sample of the whole log while that is still being read."""
        if self.share == 1.0:
            self._coarse = None
            return self.columns
        self._coarse = self._coarse or self._sample()
        return self._coarse

    def read(self, seconds: float) -> None:
        """Read on, to the last whole line or for so long.

        Raises:
            InputError: the log cannot be read.
        """
        until = time.monotonic() + seconds
        with reading(self.path) as log:
            self.size = log.seek(0, os.SEEK_END)
            log.seek(0)
            head = log.read(HEAD_BYTES)
            if not head.startswith(self._head) or self.size < self._offset:
                size = self.size
                self._begin()  # another log is in its place
                self.size = size
            self._head = head
            log.seek(self._offset)
            while self._offset < self.size and time.monotonic() < until:
                for event in self._lines(log):
                    self.columns.add(event)

    def _lines(self, log: BinaryIO) -> Iterator[dict[str, Any]]:
        """The events of the next lines."""
        for _ in range(AT_ONCE):
            line = log.readline()
            if not line.endswith(b"\n"):
                self.size = self._offset  # what is left is not whole yet
                return
            self._offset += len(line)
            event = self._parser.parse(line)
            if event is not None and self._is_ours(event):
                yield event

    def _is_ours(self, event: dict[str, Any]) -> bool:
        return event.get("run_id") == self.run_id and (self.upto is None or self.upto.holds(event))

    def _sample(self) -> Columns:
        """Columns of lines that are evenly chosen; what a rewind left behind is told by steps that go down."""
        columns, parser = Columns(), LineParser(SkippedLines())
        with reading(self.path) as log:
            for number in range(SAMPLED + 1):
                place = max(0, self.size - 1) * number // SAMPLED
                log.seek(place)
                if place:
                    log.readline()
                event = parser.parse(log.readline())
                if event is None or not self._is_ours(event) or event["event"] == "training_start":
                    continue
                if event.get("iter", columns.reached) < columns.reached:
                    columns.rewind(event["iter"])
                columns.add(event)
        return columns


def _last_run(path: Path) -> str | None:
    """The run that started last in a log; where none tells of its start, that of the first event."""
    starts = (e for e in read_events(path, containing=b"training_start") if e["event"] == "training_start")
    last = deque(starts, maxlen=1) or deque(islice(read_events(path), 1))
    return last[0].get("run_id") if last else None
