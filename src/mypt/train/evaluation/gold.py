"""Which evaluation is the gold checkpoint: one pure step over the history of evaluations."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from mypt.schema.files.state import GoldState
from mypt.schema.settings.training import TrainingConfig


@dataclass(frozen=True)
class Losses:
    """One evaluation, in nats per token; `train` is None where it was not measured.

    Attributes:
        values: what else is not finite, such as `weights`.
    """

    val: float
    train: float | None
    eval_sets: Mapping[str, float] = field(default_factory=dict)
    values: tuple[str, ...] = ()

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
    always; such a val loss counts as a rise. Folding this over the evaluations of a run gives the same decisions
    wherever the run was stopped.
    """
    baseline = _with_baselines(state.baseline or {}, losses.eval_sets)
    last, is_number = state.last_val_loss, math.isfinite(losses.val)
    worse = not is_number or (last is not None and losses.val > last)
    seen = state.model_copy(
        update={
            "baseline": baseline,
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


def _with_baselines(known: Mapping[str, float], losses: Mapping[str, float]) -> dict[str, float]:
    """The known baselines that can be compared with, and for each other set its loss, once this can."""
    found = (*losses.items(), *known.items())
    return {name: loss for name, loss in found if 0 < loss < math.inf}


def _overfit(losses: Losses, training: TrainingConfig) -> str | None:
    if losses.train is None:
        return "overfit: train loss not measured"
    without_train = math.inf if losses.val > 0 else 0.0
    ratio = losses.val / losses.train if losses.train > 0 else without_train
    threshold = training.gold_overfit_ratio
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
