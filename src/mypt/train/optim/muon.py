"""Muon: momentum whose every matrix is made orthogonal before it moves the weights."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from math import sqrt

import torch
from torch import Tensor

from mypt.train.device.precision import has_hardware_for
from mypt.train.parallel.parts import own

MOMENTUM = 0.9
ROUNDS = 5
QUINTIC = (3.4445, -4.7750, 2.0315)
"""Coefficients of Jordan et al. 2024 (kellerjordan.github.io/posts/muon): five rounds bring singular values near 1."""
RMS = 0.2
"""Root mean square of an update at a learning rate of 1, that of AdamW, so that both share one learning rate and one
weight decay (Liu et al. 2025, "Muon is Scalable for LLM Training", section 2.2)."""


@dataclass(frozen=True)
class Piece:
    """A matrix within a tensor: rows `start` to `stop`, turned to lie if it stands."""

    number: int
    start: int
    stop: int
    turned: bool

    def of(self, tensors: Sequence[Tensor] | Mapping[int, Tensor]) -> Tensor:
        """A view of the piece, at least as wide as high."""
        rows = tensors[self.number][self.start : self.stop]
        return rows.mT if self.turned else rows


class Muon:
    """The update of some matrices of one device; those of equal shape are made orthogonal together.

    Args:
        params: the tensors (rows, columns).
        pieces: rows of each of the matrices that lie in a tensor, one above the other, such as query, key and value.
        dtype: in which they are made orthogonal; by default bf16 where the hardware has it, as runs that recorded
            none have used.
    """

    def __init__(
        self, params: Sequence[Tensor], pieces: Sequence[Sequence[int]], dtype: torch.dtype | None = None
    ) -> None:
        self.params = [own(p.detach()) for p in params]
        self.sources = list(params)
        device = self.params[0].device
        self.dtype = dtype or (torch.bfloat16 if has_hardware_for(str(device), "bf16") else torch.float32)
        self.by_shape: dict[tuple[int, int], list[Piece]] = {}
        for number, (p, heights) in enumerate(zip(params, pieces, strict=True)):
            columns = p.size(1)
            for rows, stop in zip(heights, accumulate(heights), strict=True):
                shape = (min(rows, columns), max(rows, columns))
                piece = Piece(number, stop - rows, stop, rows > columns)
                self.by_shape.setdefault(shape, []).append(piece)

    @cached_property
    def momentum(self) -> list[Tensor]:
        """Running means of the gradients."""
        return [torch.zeros_like(p) for p in self.params]

    @torch.no_grad()
    def step(self, lr: float, weight_decay: float, nonfinite: Tensor | None = None) -> None:
        """Move the matrices by their gradients, unless `nonfinite` is 1."""
        if nonfinite is None:
            self._move(lr, weight_decay)
            return
        before = [(t, t.clone()) for t in (*self.params, *self.momentum)]
        self._move(lr, weight_decay)
        for tensor, held in before:
            tensor.copy_(torch.where(nonfinite.bool(), held, tensor))

    def ahead(self) -> list[Tensor]:
        """The momentum after this step's gradients, and once more by them, which is Nesterov's."""
        grads = [own(p.grad) for p in self.sources if p.grad is not None]
        torch._foreach_lerp_(self.momentum, grads, 1 - MOMENTUM)
        return list(torch._foreach_lerp(grads, self.momentum, MOMENTUM))

    def _move(self, lr: float, weight_decay: float) -> None:
        ahead = self.ahead()
        torch._foreach_mul_(self.params, 1 - lr * weight_decay)
        for shape, pieces in self.by_shape.items():
            updates = orthogonalized(torch.stack([piece.of(ahead) for piece in pieces]).to(self.dtype))
            moved = [piece.of(self.params) for piece in pieces]
            torch._foreach_add_(moved, list(updates.unbind()), alpha=-lr * RMS * sqrt(shape[1]))

    def state(self) -> list[dict[str, Tensor]]:
        """What a resume needs, for each tensor."""
        return [{"momentum_buffer": m} for m in self.momentum]


def orthogonalized(matrices: Tensor) -> Tensor:
    """About the nearest orthogonal matrix to each of `matrices` (n, rows, columns), rows <= columns.

    Newton-Schulz: an odd polynomial of a matrix acts on its singular values alone and drives them towards 1.
    """
    a, b, c = QUINTIC
    x: Tensor = matrices / (matrices.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(ROUNDS):
        gram = x @ x.mT
        inner = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, inner, x, beta=a)
    return x
