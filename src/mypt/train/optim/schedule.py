"""The learning rate as a pure function of the step."""

import math

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
