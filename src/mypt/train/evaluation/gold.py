"""Which evaluation is the gold checkpoint: one pure step over the history of evaluations."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from mypt.schema.files.gold import GoldState, Measure
from mypt.schema.settings.training import TrainingConfig
from mypt.train.evaluation.measure import comparable


@dataclass(frozen=True)
class Losses:
    """One evaluation, in nats per token; `train` is None where it was not measured.

    Attributes:
        values: what else is not finite, such as `weights`.
        measures: what the losses of `val` and of the sets were measured with; empty in sessions of older versions.
    """

    val: float
    train: float | None
    eval_sets: Mapping[str, float] = field(default_factory=dict)
    values: tuple[str, ...] = ()
    measures: Mapping[str, Measure] = field(default_factory=dict)

    @property
    def not_finite(self) -> tuple[str, ...]:
        """All that is not finite, as in `val nan`."""
        losses = {"val": self.val, "train": self.train, **self.eval_sets}
        named = (f"{n} {loss}" for n, loss in losses.items() if loss is not None and not math.isfinite(loss))
        return (*named, *self.values)


@dataclass(frozen=True)
class Decision:
    """The decision on one evaluation.

    Attributes:
        kind: `gold`, `blocked` by a guard although the loss is better, or `none`.
        best: val loss of the gold checkpoint before.
        reason: of a block.
        state: what the next decision starts from.
    """

    kind: Literal["gold", "blocked", "none"]
    best: float | None
    reason: str | None
    state: GoldState


def decide_gold(state: GoldState, step: int, losses: Losses, training: TrainingConfig) -> Decision:
    """Decide on one evaluation.

    The loss has to be lower than that of the gold checkpoint, and no guard may hold: overfitting, a rising trend
    before the dip, a regression on a further eval set. An evaluation of which anything is not finite is blocked
    always; such a val loss counts as a rise. What was measured otherwise is compared with nothing. Folding this over
    the evaluations of a run gives the same decisions wherever the run was stopped.
    """
    state = _with_baselines(comparable(state, losses.measures), losses)
    baseline = state.baseline or {}
    last, is_number = state.last_val_loss, math.isfinite(losses.val)
    worse = not is_number or (last is not None and losses.val > last)
    seen = state.model_copy(
        update={
            "consecutive_rises": state.consecutive_rises + 1 if worse else 0,
            "last_val_loss": losses.val if is_number else last,
        }
    )
    if losses.not_finite:
        return Decision("blocked", state.val_loss, f"not finite: {', '.join(losses.not_finite)}", seen)
    if losses.val >= (math.inf if state.val_loss is None else state.val_loss):
        return Decision("none", state.val_loss, None, seen)
    reason = (
        _overfit(losses, training)
        or _trend(0 if worse else state.consecutive_rises, training)
        or _regression(losses, baseline, training)
    )
    if reason is not None:
        return Decision("blocked", state.val_loss, reason, seen)
    gold = seen.model_copy(update={"step": step, "val_loss": losses.val})
    return Decision("gold", state.val_loss, None, gold)


def note_baselines(state: GoldState, losses: Losses) -> GoldState:
    """Take what an evaluation before the first step tells: baselines of the sets that have none, and nothing else.

    The next evaluation may lower them: where a run starts from random weights, its first losses are no measure.
    """
    known = comparable(state, losses.measures)
    new = tuple(name for name in losses.eval_sets if name not in (known.baseline or {}))
    return _with_baselines(known, losses).model_copy(update={"provisional": (*known.provisional, *new)})


def _with_baselines(state: GoldState, losses: Losses) -> GoldState:
    """The state after the losses of further sets were seen: each of those without a baseline has got one.

    A loss that is 0 or no number cannot be compared with, so it is none, and the next one takes its place.
    """
    usable = {name: loss for name, loss in losses.eval_sets.items() if 0 < loss < math.inf}
    baseline = {name: loss for name, loss in (state.baseline or {}).items() if 0 < loss < math.inf}
    lower = {
        name: loss for name, loss in usable.items() if name in state.provisional and loss < baseline.get(name, loss)
    }
    return state.model_copy(
        update={
            "baseline": {**usable, **baseline, **lower},
            "provisional": tuple(name for name in state.provisional if name not in usable),
            "measures": {**state.measures, **losses.measures},
        }
    )


def _overfit(losses: Losses, training: TrainingConfig) -> str | None:
    if losses.train is None:
        return "overfit: train loss not measured"
    threshold = training.gold_overfit_ratio
    if losses.train <= 0:
        return f"overfit: the train loss is 0, threshold={threshold:.1f}x" if losses.val > 0 else None
    ratio = losses.val / losses.train
    return f"overfit: val/train={ratio:.1f}x, threshold={threshold:.1f}x" if ratio > threshold else None


def _trend(rises: int, training: TrainingConfig) -> str | None:
    return f"trend: {rises} consecutive val rises" if rises >= training.gold_consec_rises else None


def _regression(losses: Losses, baseline: Mapping[str, float], training: TrainingConfig) -> str | None:
    threshold = training.gold_eval_regression
    for name, now in losses.eval_sets.items():
        was = baseline.get(name, math.inf)
        if now > was * (1 + threshold):
            return (
                f"eval regression: {name} {was:.4f}→{now:.4f} (+{100 * (now / was - 1):.0f}%, "
                f"threshold={100 * threshold:.0f}%)"
            )
    return None
