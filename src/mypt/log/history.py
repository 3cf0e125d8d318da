"""What is kept of a run while its log streams by: figures in typed arrays, and never the events themselves."""

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from math import inf, isfinite, nan
from struct import Struct
from typing import Any

from mypt.log.figures import (
    Blocked,
    Evaluated,
    Few,
    GoldFigures,
    LossPoint,
    MeasureChange,
    NotFinite,
    Phase,
    SessionFigures,
    StepFigures,
)
from mypt.schema.files.events import eval_sets, metrics_of

GUARDS = ("overfit", "trend", "eval regression", "not finite", "other")
"""What can keep a val loss from becoming gold, as the reason of the event begins."""
_ROW = Struct("7d")
"""One evaluation: its figures in the order of `EvalColumns`."""


def _column() -> "array[float]":
    return array("d")


def _session(number: int, start_step: int = 0, started_at: str | None = None) -> SessionFigures:
    """A session of which no more than its start is known yet."""
    return SessionFigures(
        number=number, start_step=start_step, started_at=started_at, elapsed_s=0.0, end=None, end_step=None, reason=None
    )


def _no_gold() -> GoldFigures:
    return GoldFigures(count=0, first=None, last=None, blocked=Few(), blocked_by=dict.fromkeys(GUARDS, 0))


@dataclass(frozen=True)
class EvalColumns:
    """The live evaluations, a column for each figure; nan where one was not logged.

    Attributes:
        session: which session of the log it is of, counted from 1.
    """

    step: "array[float]"
    elapsed: "array[float]"
    tokens: "array[float]"
    val: "array[float]"
    train: "array[float]"
    se: "array[float]"
    session: "array[float]"

    def __len__(self) -> int:
        return len(self.step)

    def since(self, first: int) -> "EvalColumns":
        """Those from one on."""
        return EvalColumns(*(getattr(self, column.name)[first:] for column in fields(self)))


@dataclass
class LossColumns:
    """The live evaluations of one further set."""

    step: "array[float]" = field(default_factory=_column)
    loss: "array[float]" = field(default_factory=_column)


@dataclass
class RunHistory:
    """One run of a log. Time and sessions are of all that was done, everything else of what is live.

    Attributes:
        end: the closing event of the last session; empty where there is none.
        rewinds: sessions that started before what the run had reached.
        highest: the step that the run had reached at its end.
        skipped_batches: steps that were left out because they were not finite.
        empty_batches: steps that were left out because no token of them counts.
        outputs_lost: sessions that went on without output.
        not_finite: live evaluations of which a loss was no number.
        not_finite_since: the step of the first of those that the run ends with; None where its last one is finite.
        measured_otherwise: where losses began to be measured otherwise.
        borders: how many evaluations there were each time that this was so of the val loss.
        last_word: timestamp of the last event.
        evaluated: what `mypt evaluate` found of bundles of the live branch.
    """

    sessions: list[SessionFigures] = field(default_factory=list)
    end: dict[str, Any] = field(default_factory=dict)
    max_iters: int | None = None
    rewinds: int = 0
    highest: int = 0
    evaluating_s: float = 0.0
    sets: dict[str, LossColumns] = field(default_factory=dict)
    phases: list[Phase] = field(default_factory=list)
    steps: StepFigures | None = None
    gold: GoldFigures = field(default_factory=_no_gold)
    skipped_batches: int = 0
    empty_batches: int = 0
    outputs_lost: int = 0
    not_finite: Few[NotFinite] = field(default_factory=Few)
    not_finite_since: int | None = None
    measured_otherwise: Few[MeasureChange] = field(default_factory=Few)
    borders: list[int] = field(default_factory=list)
    last_word: str | None = None
    evaluated: Few[Evaluated] = field(default_factory=Few)
    _rows: "array[float]" = field(default_factory=_column)
    """Figures of the live evaluations, one evaluation after another."""
    _last_eval: int | None = None
    _keys: list[str] = field(default_factory=list)
    _sets: list[tuple[str, LossColumns]] = field(default_factory=list)

    def evals(self) -> EvalColumns:
        """The live evaluations so far."""
        return EvalColumns(*(self._rows[number::7] for number in range(7)))

    def add(self, event: dict[str, Any], is_live: bool) -> None:
        """Take in the next event of the run."""
        name = event["event"]
        if name == "evaluation":
            self._evaluation(event, is_live)
            return
        self.last_word = event["timestamp"]
        if name == "training_start":
            self._start(event)
            return
        self._announce()
        step = event["total_steps"] if name == "training_complete" else event["iter"]
        if step > self.highest:
            self.highest = step
        if name == "eval":
            self._eval(event, step, is_live)
            return
        session = self.sessions[-1]
        if name in ("training_stopped", "training_complete"):
            session.elapsed_s = event["elapsed_s" if name == "training_stopped" else "total_elapsed_s"]
            session.end = "stopped" if name == "training_stopped" else "complete"
            session.end_step, session.reason = step, event.get("reason")
            self.end = event
        elif name == "phase_switch":
            session.elapsed_s = event["elapsed_s"]
        if is_live:
            self._live(name, event, step)

    def _announce(self) -> None:
        """Begin a session that was never announced, if none is known."""
        if not self.sessions:
            self.sessions.append(_session(1))

    def _evaluation(self, event: dict[str, Any], is_live: bool) -> None:
        """Take in what another program measured, which is no word of the run and takes it no further."""
        self._announce()
        if is_live:
            figures = {"loss": event.get("loss"), "bpb": event.get("bpb"), **metrics_of(event)}
            known = {name: value for name, value in figures.items() if value is not None and isfinite(value)}
            self.evaluated.add(
                Evaluated(step=event["iter"], bundle=event["bundle"], source=event["source"], figures=known)
            )

    def _start(self, event: dict[str, Any]) -> None:
        step = event["config"]["start_step"]
        self.max_iters = event["config"]["max_iters"]
        number = event.get("attempt") or len(self.sessions) + 1
        self.sessions.append(_session(number, step, event["timestamp"]))
        self.end = {}
        if step < self.highest:
            self.rewinds, self.highest = self.rewinds + 1, step

    def _eval(self, event: dict[str, Any], step: int, is_live: bool) -> None:
        """The event that a long log is made of: every call in here is made a million times."""
        elapsed = event["elapsed_s"]
        self.sessions[-1].elapsed_s = elapsed
        self.evaluating_s += event["eval_duration_s"]
        if not is_live:
            return
        if not self.phases or event["phase"] != self.phases[-1].name:
            before = min(step, self.sessions[-1].start_step) if self._last_eval is None else self._last_eval
            self.phases.append(Phase(name=event["phase"], after_step=before))
        if step == self._last_eval:
            self._forget(step)
        self._last_eval = step
        train, se = event.get("train_loss"), event.get("val_se")
        train, se = nan if train is None else train, nan if se is None else se
        row = _ROW.pack(step, elapsed, event["tokens_processed"], event["val_loss"], train, se, len(self.sessions))
        self._rows.frombytes(row)  # at a third of the time that the array takes for single numbers
        if (keys := [*event]) != self._keys:
            self._keys = keys
            self._sets = [(key, self.sets.setdefault(key, LossColumns())) for key in eval_sets(keys)]
        total = event["val_loss"] + (0.0 if event.get("train_loss") is None else train)
        for key, columns in self._sets:
            if (loss := event[key]) is not None:
                columns.step.append(step)
                columns.loss.append(loss)
                total += loss
        if isfinite(total):
            self.not_finite_since = None
        else:
            self.not_finite.add(NotFinite(step=step, losses=losses_not_finite(event)))
            self.not_finite_since = step if self.not_finite_since is None else self.not_finite_since

    def _forget(self, step: int) -> None:
        """Forget the evaluation of a step that a later session has made again."""
        del self._rows[-len(fields(EvalColumns)) :]
        self.borders = [min(border, len(self._rows) // len(fields(EvalColumns))) for border in self.borders]
        for columns in self.sets.values():
            if columns.step and columns.step[-1] == step:
                columns.step.pop(), columns.loss.pop()

    def _measure(self, event: dict[str, Any], step: int) -> None:
        """Begin anew with the losses of the sets that are measured otherwise from here on."""
        self.measured_otherwise.add(MeasureChange(step=step, sets=event["sets"], reason=event["reason"]))
        if "val" in event["sets"]:
            self.borders.append(len(self._rows) // len(fields(EvalColumns)))
        for name in event["sets"]:
            self.sets.pop(f"eval_{name}", None)
        self._keys = []

    def _live(self, name: str, event: dict[str, Any], step: int) -> None:
        """Take in what is live of an event, but for evaluations."""
        if name == "step":
            self._step(event, step)
        elif name == "phase_switch" and (not self.phases or event["new_phase"] != self.phases[-1].name):
            self.phases.append(Phase(name=event["new_phase"], after_step=step))
        elif name == "gold_checkpoint":
            self.gold.count += 1
            self.gold.last = LossPoint(step=step, loss=event["val_loss"])
            self.gold.first = self.gold.first or self.gold.last
        elif name == "gold_blocked":
            guard = event["reason"].partition(":")[0]
            self.gold.blocked_by[guard if guard in GUARDS else "other"] += 1
            loss = event["val_loss"] if isfinite(event["val_loss"]) else None
            self.gold.blocked.add(Blocked(step=step, loss=loss, reason=event["reason"]))
        elif name == "gold_remeasured":
            self._measure(event, step)
        elif name == "batch_skipped":
            self.skipped_batches += event["loss"] is not None
            self.empty_batches += event["loss"] is None
        elif name == "output_lost":
            self.outputs_lost += 1

    def _step(self, event: dict[str, Any], step: int) -> None:
        figures = self.steps = self.steps or StepFigures()
        norm, largest = event["grad_norm"], figures.largest_grad_norm
        figures.count += 1
        figures.last_loss = event["loss"] if isfinite(event["loss"]) else None
        if isfinite(norm) and norm > (-inf if largest is None else largest):
            figures.largest_grad_norm, figures.largest_grad_norm_step = norm, step


def losses_not_finite(event: Mapping[str, Any]) -> list[str]:
    """The sets of which an evaluation has a loss that is no number: val, train, and further sets by name."""
    further = {key.removeprefix("eval_"): event[key] for key in eval_sets(event)}
    losses = {"val": event["val_loss"], "train": event.get("train_loss"), **further}
    return [name for name, loss in losses.items() if loss is not None and not isfinite(loss)]


def finite(values: Sequence[float]) -> Sequence[float]:
    """The values that are numbers: mostly all of them, which their sum tells at once."""
    return values if isfinite(sum(values)) else [x for x in values if isfinite(x)]
