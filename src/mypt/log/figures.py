"""What a log comes to: the summary that `mypt logs summarize --json` prints, and the points of curves."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

from mypt.log.reader import SkippedLines

T = TypeVar("T")
State = Literal["running", "crashed", "unfinished", "stopped", "complete"]
"""`running` is a run whose lock is held, and `crashed` one whose lock nobody holds; of a log alone, or of a run on
another host that no lock shows, `unfinished` is all that can be told."""
AT_EACH_END = 5
"""How many of a long list are told from its start, and how many from its end."""


@dataclass(kw_only=True)
class Few(Generic[T]):
    """A list that may be long: its length, and the items at both ends. A short one is whole in `first`."""

    count: int = 0
    first: list[T] = field(default_factory=list)
    last: list[T] = field(default_factory=list)

    @classmethod
    def of(cls, items: Iterable[T]) -> "Few[T]":
        """The ends of a list that is told item by item."""
        few = cls()
        for item in items:
            few.add(item)
        return few

    def add(self, item: T) -> None:
        """Take in the next item."""
        self.count += 1
        (self.first if self.count <= AT_EACH_END else self.last).append(item)
        del self.last[:-AT_EACH_END]


class Thinned(Generic[T]):
    """A list that keeps no more than `most` items, evenly chosen, and the last one."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: list[T] = []
        self._count, self._stride = 0, 1
        self._last: T | None = None

    def add(self, item: T, instead: bool = False) -> None:
        """Take in the next item, or one in place of the last."""
        if instead and self._last is not None:
            if self._kept[-1] is self._last:
                self._kept[-1] = item
            self._last = item
            return
        if self._count % self._stride == 0:
            self._kept.append(item)
        self._last = item
        self._count += 1
        if len(self._kept) > self._most:
            self._kept, self._stride = self._kept[::2], self._stride * 2

    def all(self) -> list[T]:
        """The items that were kept."""
        missing = self._last is not None and self._last is not self._kept[-1]
        return [*self._kept, self._last] if self._last is not None and missing else self._kept


@dataclass(kw_only=True)
class LossPoint:
    """A val loss at a step."""

    step: int
    loss: float


@dataclass(kw_only=True)
class CurvePoint:
    """One evaluation: where it was made, in three measures, and what it found; None for a loss that is no number."""

    step: int
    tokens: int
    seconds: float
    val_loss: float | None
    train_loss: float | None = None
    lr: float | None = None


@dataclass(kw_only=True)
class StepPoint:
    """One logged step and its train loss, placed in time and tokens between the evaluations around it."""

    step: int
    tokens: float
    seconds: float
    loss: float


@dataclass(kw_only=True)
class LossFigures:
    """The course of one loss; None where it was no number.

    Attributes:
        se: standard error of `last`, where that is a number and it was logged.
        change_pct: from `start` to `last`.
    """

    start: float | None
    best: float | None
    best_step: int | None
    last: float | None
    se: float | None
    change_pct: float | None


@dataclass(kw_only=True)
class SessionFigures:
    """One session of a run: from a `training_start` to the next.

    Attributes:
        end: None where it ended without a word, or still goes on.
        end_step: where it stopped or completed.
        reason: why it stopped.
    """

    number: int
    start_step: int
    started_at: str | None
    elapsed_s: float
    end: Literal["complete", "stopped"] | None
    end_step: int | None
    reason: str | None


@dataclass(kw_only=True)
class Phase:
    """A phase of the curriculum, and the last step before its own first."""

    name: str
    after_step: int


@dataclass(kw_only=True)
class Blocked:
    """A val loss that a guard kept from becoming gold; None where it was no number."""

    step: int
    loss: float | None
    reason: str


@dataclass(kw_only=True)
class GoldFigures:
    """What became gold and what did not; `blocked_by` counts by guard."""

    count: int
    first: LossPoint | None
    last: LossPoint | None
    blocked: Few[Blocked]
    blocked_by: dict[str, int]


@dataclass(kw_only=True)
class Time:
    """Where the seconds went, over all sessions; training and saving are known of a session that completed."""

    elapsed_s: float
    evaluating_s: float
    training_s: float | None
    saving_s: float | None


@dataclass(kw_only=True)
class Rates:
    """Tokens a second between evaluations, which count as part of the time.

    Attributes:
        overall: of all evaluations.
        first_quarter: of the first quarter of them.
        last_quarter: of the last quarter.
        tflops: 10^12 floating point operations a second of the last session's training time alone.
        mfu: its share of the device's dense bf16 peak; None where that is not known.
    """

    overall: float | None
    first_quarter: float | None
    last_quarter: float | None
    tflops: float | None = None
    mfu: float | None = None


@dataclass(kw_only=True)
class Spike:
    """A val loss above the one before it by more than chance and 5 %."""

    step: int
    before: float
    loss: float


@dataclass(kw_only=True)
class Stall:
    """A gap between two evaluations that is long against the usual one."""

    step: int
    gap_s: float
    usual_s: float


@dataclass(kw_only=True)
class NotFinite:
    """An evaluation of which a loss was no number, and of which sets."""

    step: int
    losses: list[str]


@dataclass(kw_only=True)
class MeasureChange:
    """A step from which on losses of some sets are measured otherwise, so that those before do not compare."""

    step: int
    sets: list[str]
    reason: str


@dataclass(kw_only=True)
class Anomalies:
    """What deserves a look.

    Attributes:
        batches_skipped: steps left out because of a loss or gradient that was not finite.
        batches_empty: steps left out because no token of them counts by the loss mask.
        losses_not_finite: evaluations of which a loss was no number.
        outputs_lost: sessions of which what they reported could not be shown to the end.
        rising: how many evaluations at the end are each above the one before.
        overfit_after: the step of the best val loss, if it rises from there on while the train loss falls.
    """

    batches_skipped: int
    batches_empty: int
    losses_not_finite: int
    not_finite: Few[NotFinite]
    outputs_lost: int
    measured_otherwise: Few[MeasureChange]
    spikes: Few[Spike]
    stalls: Few[Stall]
    rising: int
    overfit_after: int | None


@dataclass(kw_only=True)
class Evaluated:
    """What `mypt evaluate` found of a bundle: loss and bits per byte of a text, or the metrics of a task."""

    step: int
    bundle: str
    source: str
    figures: dict[str, float]


@dataclass(kw_only=True)
class StepFigures:
    """The single steps that were logged, with `--log-interval`.

    Attributes:
        last_loss: of the last one; None where it was no number.
        largest_grad_norm: the largest finite L2 norm of the gradient, before clipping.
        largest_grad_norm_step: its step.
    """

    count: int = 0
    last_loss: float | None = None
    largest_grad_norm: float | None = None
    largest_grad_norm_step: int | None = None


@dataclass(kw_only=True)
class Summary:
    """One run of a log.

    Attributes:
        attempts: its sessions.
        rewinds: sessions that started before what an earlier one had reached, and superseded it.
        steps: None where single steps were not logged.
        passed_over: lines of the whole log that are no events.
        curve: val losses by step, thinned to at most a few thousand.
        last_word: timestamp of the last event.
        evaluated: what `mypt evaluate` found of its bundles.
        host: the other host that the run was last written on, if its process never gave its lock back.
        tags: what the run is looked for by, as its bundle has them.
        note: what somebody noted on it.
    """

    schema_version: Literal[1] = 1
    log: str
    run_id: str | None
    runs: int
    state: State
    attempts: list[SessionFigures]
    rewinds: int
    step: int
    max_iters: int | None
    tokens: int
    evaluations: int
    time: Time
    tokens_per_s: Rates
    val_loss: LossFigures
    train_loss: LossFigures | None
    eval_sets: dict[str, LossFigures]
    phases: list[Phase]
    gold: GoldFigures
    signs: Anomalies
    passed_over: SkippedLines
    advice: list[str]
    curve: list[LossPoint]
    steps: StepFigures | None = None
    last_word: str | None = None
    host: str | None = None
    evaluated: Few[Evaluated] = field(default_factory=Few)
    tags: tuple[str, ...] = ()
    note: str | None = None
