"""Dropout whose mask is drawn fast on a CPU."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEVELS = 1 << 16
"""A mask is drawn from 16 random bits an element, so the share that is dropped is a multiple of 1/65536."""


class Dropout(nn.Module):
    """Sets a share of activations to zero while training and scales the others up (Srivastava et al. 2014).

    On a CPU torch draws one random number an element through a slow distribution; this reads four out of every 64
    random bits of the same generator and takes a fifth of the time.

    Args:
        share: of the activations, that is dropped.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        """Map x to the same shape."""
        return dropout(x, self.share if self.training else 0.0)


def dropout(x: Tensor, share: float) -> Tensor:
    """Drop a share of x, on whatever device it is."""
    if share == 0.0:
        return x
    if x.device.type != "cpu":
        return F.dropout(x, share)
    dropped: Tensor = _Dropout.apply(x, min(round(share * LEVELS), LEVELS - 1))  # type: ignore[no-untyped-call]
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
    return torch.ops.aten.native_dropout_backward(x, kept, scale)  # type: ignore[no-any-return]
