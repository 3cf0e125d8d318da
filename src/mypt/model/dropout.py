"""Dropout with fast mask generation on a CPU."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEVELS = 1 << 16
"""Masks use 16 random bits per element, so probabilities are rounded to multiples of 1/65536."""


class Dropout(nn.Module):
    """Dropout (Srivastava et al. 2014).

    On a CPU torch samples a Bernoulli distribution for each element; this takes 16 bits per element from 64-bit
    integers of the same generator and needs a fifth of the time.

    Args:
        p: probability of dropping an activation.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Apply dropout to x of any shape while training."""
        return dropout(x, self.p if self.training else 0.0)


def dropout(x: Tensor, p: float) -> Tensor:
    """Set elements of x to zero with probability p and scale the others by 1 / (1 - p)."""
    if p == 0.0:
        return x
    if x.device.type != "cpu":
        return F.dropout(x, p)
    dropped: Tensor = _Dropout.apply(x, min(round(p * LEVELS), LEVELS - 1))  # type: ignore[no-untyped-call]
    return dropped


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, level: int) -> Tensor:
        words = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        kept = (words.view(torch.int16)[: x.numel()] >= level - LEVELS // 2).view(x.shape)
        ctx.scale = LEVELS / (LEVELS - level)
        ctx.save_for_backward(kept)
        return _masked(x, kept, ctx.scale)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (kept,) = ctx.saved_tensors
        return _masked(grads[0], kept, ctx.scale), None


def _masked(x: Tensor, kept: Tensor, scale: float) -> Tensor:
    masked: Tensor = torch.ops.aten.native_dropout_backward(x, kept, scale)
    return masked
