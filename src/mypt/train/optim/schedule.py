"""The learning rate as a pure function of the step."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mypt.schema.settings.training import TrainingConfig

COSINE_FLOOR = 0.1
"""Share of the peak that the cosine ends at where no `min_lr` is given (Hoffmann et al. 2022)."""


def learning_rate_at(step: int, training: TrainingConfig) -> float:
    """Learning rate of the step that follows `step` completed ones, 0 <= step < max_iters.

    It rises linearly over the warm-up to `learning_rate`, then follows `lr_schedule` down to `min_lr` at max_iters.
    """
    peak, warmup = training.learning_rate, training.warmup_steps
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    done = min((step - warmup) / max(training.max_iters - warmup, 1), 1.0)
    if training.lr_schedule == "constant":
        return peak
    floor = COSINE_FLOOR if training.lr_schedule == "cosine" else 0.0
    floor = floor if training.min_lr is None else training.min_lr / peak
    left = 0.5 * (1 + math.cos(math.pi * done)) if training.lr_schedule == "cosine" else 1 - done
    return peak * (floor + (1 - floor) * left)


def lr_scales(rates: Sequence[float]) -> tuple[float, ...]:
    """Share of each group of weights in the learning rate of a step: that of its own rate in the largest one."""
    peak = max(rates)
    return tuple(float(rate) / float(peak) for rate in rates)


@dataclass(frozen=True)
class Lift:
    """A learning rate that rises again where a run goes on with another schedule.

    Attributes:
        last: rate of the last step taken.
        next: rate of the first step to come.
        highest: the highest rate to come.
        highest_step: the number of its step, counted from 1.
    """

    last: float
    next: float
    highest: float
    highest_step: int


LIFT = 1.01
"""Ratio of two learning rates from which the one counts as higher."""


def find_lift(before: TrainingConfig, now: TrainingConfig, step: int) -> Lift | None:
    """The lift that settings bring about which take over after `step` steps; None if the rate goes on as it was to.

    Args:
        before: the settings that the step was taken with, 0 < step.
        now: the settings of the steps to come, step < now.max_iters.
        step: steps taken.
    """
    last = learning_rate_at(step - 1, before)
    planned = _highest(step, before)[0] if step < before.max_iters else last
    highest, index = _highest(step, now)
    if highest <= LIFT * max(last, planned):
        return None
    return Lift(last, learning_rate_at(step, now), highest, index + 1)


def keeping(rate: float, now: TrainingConfig, step: int) -> dict[str, str]:
    """The settings to change for a learning rate that stays at `rate` from a step on."""
    changes = {"lr_schedule": "constant", "learning_rate": f"{rate:.6g}"}
    if now.min_lr is not None and now.min_lr > float(changes["learning_rate"]):
        changes["min_lr"] = "0"
    return changes | _without_warmup(now, step)


def falling(rate: float, now: TrainingConfig, step: int) -> dict[str, str]:
    """The settings to change for a learning rate that falls from `rate` at a step to 0 at the end of the run."""
    changes = _without_warmup(now, step)
    warmup = 0 if changes else now.warmup_steps
    peak = rate * (now.max_iters - warmup) / (now.max_iters - step)
    return {"lr_schedule": "linear", "min_lr": "0", "learning_rate": f"{peak:.6g}", **changes}


def _highest(step: int, training: TrainingConfig) -> tuple[float, int]:
    """The highest rate from a step on, and the first step that has it."""
    index = max(step, min(training.warmup_steps, training.max_iters - 1))
    return learning_rate_at(index, training), index


def _without_warmup(training: TrainingConfig, step: int) -> dict[str, str]:
    return {"warmup_iters": "0"} if step < training.warmup_steps else {}
