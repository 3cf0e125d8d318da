"""Replays one run of a log: its events in order, each with whether a later session superseded it."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from math import inf
from pathlib import Path
from typing import Any

from mypt.errors import InputError
from mypt.log.reader import SkippedLines, read_events, reading
from mypt.schema.files.state import TrainingState


@dataclass(frozen=True)
class Branch:
    """How far a run's log led to one bundle, where others go on from it: up to this step of this session.

    Attributes:
        sessions: those that the bundle's record knows by number; of the ones between them nothing was saved.
    """

    attempt: int
    step: int
    sessions: frozenset[int] = frozenset()

    @classmethod
    def to(cls, state: TrainingState) -> "Branch":
        """The branch that ends in a bundle, by its record."""
        return cls(state.attempt, state.step, frozenset(s.attempt for s in state.sessions if s.attempt is not None))

    def holds(self, event: dict[str, Any]) -> bool:
        """Whether an event happened on the way to the bundle."""
        attempt = event.get("attempt")
        if attempt is not None and attempt > min(self.sessions, default=attempt) and attempt not in self.sessions:
            return False
        if attempt is not None and attempt != self.attempt:
            return bool(attempt < self.attempt)
        return step_of(event) <= self.step


class Replay:
    """The events of one run, streamed from a log that may go on growing.

    A session that starts at an earlier step than its run had reached supersedes all that lies after this step; what is
    left is live. Which events are live is known from the starts alone, so they are read first, and the whole log then.
    What is appended to the log in the meantime is not seen.

    Args:
        path: the log.
        run_id: which run of it; the last one that started where nothing is said.
        size: bytes of the log to read; as many as there are where nothing is said.
        upto: the branch of the run to keep to; by default all of the run.

    Attributes:
        run_id: of the run.
        skipped: lines of the whole log that are no events, counted by the latest reading.
        runs: the runs that the latest reading met.

    Raises:
        InputError: there is no log, or no event of the run in it.
    """

    def __init__(
        self, path: Path, run_id: str | None = None, size: int | None = None, upto: Branch | None = None
    ) -> None:
        self.path, self.upto = path, upto
        with reading(path) as log:
            self._size = log.seek(0, os.SEEK_END) if size is None else size
        mentions = read_events(path, size=self._size, containing=b"training_start")
        starts = [(e.get("run_id"), e) for e in mentions if e["event"] == "training_start"]
        self.run_id = starts[-1][0] if starts and run_id is None else run_id
        steps = [e["config"]["start_step"] for run, e in starts if run == self.run_id and self._on_branch(e)]
        if not steps:
            self.run_id = self._run_of_an_event(run_id)
        self._limits: tuple[float, ...] = tuple(accumulate([inf, *reversed(steps)], min))[::-1]
        """After each start of the run, counted from none, the last step that no later session superseded."""
        self.skipped = SkippedLines()
        self.runs: set[str | None] = set()

    def events(self) -> Iterator[tuple[dict[str, Any], bool]]:
        """Every event of the run, and whether it is live."""
        self.skipped, self.runs = SkippedLines(), set()
        limits = iter(self._limits)
        limit, of_session = next(limits), dict[int | None, float]()
        for event in read_events(self.path, self.skipped, size=self._size):
            run = event.get("run_id")
            self.runs.add(run)
            if run == self.run_id and self._on_branch(event):
                name = event["event"]
                if name == "training_start":
                    limit = of_session[event.get("attempt")] = next(limits, limit)
                late = name == "evaluation"  # of a bundle that may be of an earlier session than the one it stands in
                yield event, step_of(event) <= (of_session.get(event.get("attempt"), limit) if late else limit)

    @property
    def unread(self) -> list[str]:
        """A sentence on the lines that the latest reading could not read, if there are any."""
        total = self.skipped.total
        return [f"{total} line{'s'[: total > 1]} of {self.path} could not be read."] if total else []

    def live(self) -> Iterator[dict[str, Any]]:
        """The events of the run that are live."""
        return (event for event, is_live in self.events() if is_live)

    def _on_branch(self, event: dict[str, Any]) -> bool:
        return self.upto is None or self.upto.holds(event)

    def _run_of_an_event(self, run_id: str | None) -> str | None:
        """The run of the first event that fits the one asked for, in a log that has no start of it."""
        for event in read_events(self.path, size=self._size):
            found: str | None = event.get("run_id")
            if run_id in (None, found):
                return found
        which = "event" if run_id is None else f"event of the run {run_id}"
        raise InputError(
            f"There is no {which} in {self.path}.", "Give a log that `mypt train` or `mypt resume` has written."
        )


def live_evals(path: Path, run_id: str | None, upto: Branch | None = None) -> Iterator[dict[str, Any]]:
    """The live evaluations of a run, or of one branch of it.

    Raises:
        InputError: the log cannot be read, or has no event of the run.
    """
    return (event for event in Replay(path, run_id, upto=upto).live() if event["event"] == "eval")


def latest_evaluations(path: Path, model_sha256: str) -> list[dict[str, Any]]:
    """What `mypt evaluate` found of some weights, in the order of time; of the same text or task only the latest.

    Args:
        path: the log.
        model_sha256: hash of the file of the weights.

    Raises:
        InputError: the log cannot be read.
    """
    found: dict[tuple[str, str, str | None], dict[str, Any]] = {}
    for event in read_events(path, containing=b'"evaluation"'):
        if event["event"] == "evaluation" and event["model_sha256"] == model_sha256:
            of = evaluated_on(event)
            found.pop(of, None)
            found[of] = event
    return list(found.values())


def evaluated_on(event: dict[str, Any]) -> tuple[str, str, str | None]:
    """What an `evaluation` event is about: the same text, shards or task, wherever it lies."""
    return event["kind"], event.get("sha256") or event["source"], event.get("split")


def has_run(path: Path, run_id: str | None) -> bool:
    """Whether a log is there and has an event of a run."""
    return path.is_file() and any(e.get("run_id") == run_id for e in read_events(path))


def latest_session(path: Path, run_id: str | None) -> int:
    """The highest session number that a run has used in a log; 0 where there is none, or no log."""
    found = (e.get("attempt") for e in (read_events(path) if path.is_file() else ()) if e.get("run_id") == run_id)
    return max((number for number in found if number is not None), default=0)


def step_of(event: dict[str, Any]) -> int:
    """The step that an event belongs to; that a session starts belongs to none, and is never superseded."""
    name = event["event"]
    step: int = event["total_steps"] if name == "training_complete" else event.get("iter", 0)
    return step + 1 if name == "phase_switch" else step  # a switch is written before the first step of its phase
