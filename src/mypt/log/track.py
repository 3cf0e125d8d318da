"""What is kept of a run while its log streams by: figures in arrays, and never the events themselves."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import nan
from typing import Any

from mypt.log.figures import ENDS
from mypt.log.gather import Evals
from mypt.log.rows import Rows
from mypt.schema.kinds import eval_sets

STEP, ELAPSED, TOKENS, VAL, TRAIN, SE, ATTEMPT = range(7)
"""The columns of `Track.evals`; figures that were not logged are nan."""
REASONS = 64
"""Reasons of the latest blocks to keep; more than are shown, since a rewind can supersede some."""
GUARDS = ("overfit", "trend", "eval regression", "other")


@dataclass
class Attempt:
    """A session as it was logged."""

    number: int
    start_step: int = 0
    started_at: str | None = None
    elapsed_s: float = 0.0
    end: dict[str, Any] | None = None
    end_step: int | None = None


@dataclass(frozen=True)
class Mark:
    """A phase that takes over after a step; `last_step` is the latest start of a session that leaves it in force."""

    name: str
    after_step: int
    last_step: int


@dataclass(frozen=True)
class Reason:
    """Why a val loss did not become gold."""

    step: int
    loss: float
    text: str


@dataclass
class Track:
    """One run of a log, as far as it is live: what a later session superseded is taken out again."""

    run_id: str | None
    attempts: list[Attempt] = field(default_factory=list)
    max_iters: int | None = None
    rewinds: int = 0
    highest: int = 0
    evaluating_s: float = 0.0
    evals: Rows = field(default_factory=lambda: Rows(7))
    sets: dict[str, Rows] = field(default_factory=dict)
    marks: list[Mark] = field(default_factory=list)
    gold: Rows = field(default_factory=lambda: Rows(2))
    blocked: Rows = field(default_factory=lambda: Rows(2))
    skipped: Rows = field(default_factory=lambda: Rows(1))
    first_reasons: list[Reason] = field(default_factory=list)
    last_reasons: deque[Reason] = field(default_factory=lambda: deque(maxlen=REASONS))
    phase: str | None = None
    _keys: list[str] = field(default_factory=list)
    _sets: list[tuple[str, Rows]] = field(default_factory=list)

    def take(self, event: dict[str, Any]) -> None:
        """Take in the next event of the run."""
        if not self.attempts and event["event"] != "training_start":
            self.attempts.append(Attempt(1))  # one that was never announced
        if event["event"] == "eval":
            self._eval(event)
        else:
            getattr(self, f"_{event['event']}")(event)

    def _eval(self, event: dict[str, Any]) -> None:
        """The one that a long log is made of: every call in here is made a million times."""
        step, elapsed, train, se = event["iter"], event["elapsed_s"], event.get("train_loss"), event.get("val_se")
        if event["phase"] != self.phase:
            self._enter(event["phase"], self._before(step), step)
        if (keys := [*event]) != self._keys:
            self._keys = keys
            self._sets = [(key, self.sets.setdefault(key, Rows(2))) for key in eval_sets(tuple(keys))]
        if step > self.highest:
            self.highest = step
        self.attempts[-1].elapsed_s = elapsed
        self.evaluating_s += event["eval_duration_s"]
        evals, tokens, val = self.evals, event["tokens_processed"], event["val_loss"]
        train, se = nan if train is None else train, nan if se is None else se
        evals.put(evals.pack(step, elapsed, tokens, val, train, se, len(self.attempts)))
        for key, rows in self._sets:
            if (loss := event[key]) is not None:
                rows.put(rows.pack(step, loss))

    def take_evals(self, found: Evals) -> None:
        """Take in the next evaluations of the run, all at once."""
        columns = found.columns
        steps = columns["iter"]
        if not self.attempts:
            self.attempts.append(Attempt(1))
        if found.phase != self.phase:
            self._enter(found.phase, self._before(steps[0]), steps[0])
        self.highest = max(self.highest, *steps)
        self.attempts[-1].elapsed_s = columns["elapsed_s"][-1]
        self.evaluating_s = sum(columns["eval_duration_s"], start=self.evaluating_s)
        unknown = (nan,) * len(steps)
        named = ("elapsed_s", "tokens_processed", "val_loss", "train_loss", "val_se")
        known = [columns[name] if _is_known(columns, name) else unknown for name in named]
        self.evals.extend(steps, *known, (len(self.attempts),) * len(steps))
        for key in eval_sets(tuple(columns)):
            rows = self.sets.setdefault(key, Rows(2))
            if _is_known(columns, key):
                rows.extend(steps, columns[key])

    def _training_start(self, event: dict[str, Any]) -> None:
        start = event["config"]["start_step"]
        self.max_iters = event["config"]["max_iters"]
        number = event.get("attempt") or len(self.attempts) + 1
        self.attempts.append(Attempt(number, start, event["timestamp"]))
        self.marks = [m for m in self.marks if m.last_step <= start]
        self.phase = self.marks[-1].name if self.marks else None
        if start < self.highest:
            self._rewind(start)

    def _rewind(self, step: int) -> None:
        self.rewinds += 1
        for rows in (self.evals, self.gold, self.blocked, self.skipped, *self.sets.values()):
            rows.rewind(step)
        self.first_reasons = [r for r in self.first_reasons if r.step <= step]
        self.last_reasons = deque((r for r in self.last_reasons if r.step <= step), REASONS)
        self.highest = step

    def _phase_switch(self, event: dict[str, Any]) -> None:
        step = event["iter"]
        self.attempts[-1].elapsed_s = event["elapsed_s"]
        self.highest = max(self.highest, step)
        if event["new_phase"] != self.phase:
            self._enter(event["new_phase"], step, step + 1)

    def _gold_checkpoint(self, event: dict[str, Any]) -> None:
        self.gold.put(self.gold.pack(event["iter"], event["val_loss"]))

    def _gold_blocked(self, event: dict[str, Any]) -> None:
        guard = event["reason"].partition(":")[0]
        self.blocked.put(self.blocked.pack(event["iter"], GUARDS.index(guard if guard in GUARDS else "other")))
        reason = Reason(event["iter"], event["val_loss"], event["reason"])
        if len(self.first_reasons) < ENDS:
            self.first_reasons.append(reason)
        self.last_reasons.append(reason)

    def _batch_skipped(self, event: dict[str, Any]) -> None:
        self.highest = max(self.highest, event["iter"])
        self.skipped.put(self.skipped.pack(event["iter"]))

    def _training_stopped(self, event: dict[str, Any]) -> None:
        self.highest = max(self.highest, event["iter"])
        self._end(event, event["elapsed_s"], event["iter"])

    def _training_complete(self, event: dict[str, Any]) -> None:
        self.highest = max(self.highest, event["total_steps"])
        self._end(event, event["total_elapsed_s"], event["total_steps"])

    def _end(self, event: dict[str, Any], elapsed: float, step: int) -> None:
        self.attempts[-1].elapsed_s, self.attempts[-1].end, self.attempts[-1].end_step = elapsed, event, step

    def _enter(self, phase: str, after_step: int, last_step: int) -> None:
        self.marks.append(Mark(phase, after_step, last_step))
        self.phase = phase

    def _before(self, step: int) -> int:
        """The last evaluation's step, or where the session started."""
        return int(self.evals.row(-1)[STEP]) if len(self.evals) else min(step, self.attempts[-1].start_step)


def _is_known(columns: Mapping[str, Sequence[Any]], name: str) -> bool:
    """Whether a figure was logged; its values are all numbers, or all of them are None."""
    return name in columns and columns[name][0] is not None
