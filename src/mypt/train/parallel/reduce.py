"""The gradient of a step and its loss, from those of the micro-batches of all processes."""

from collections.abc import Sequence
from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor

from mypt.train.parallel.group import Group


class Reduction(Protocol):
    """Adds up one step."""

    def add(self, loss: Tensor) -> None:
        """Take in one more micro-batch: its part of the loss, and its gradient, which lies in `grad` of the weights."""

    def finish(self, failed: bool) -> tuple[Tensor, Tensor]:
        """Leave the whole gradient in `grad`; returns the loss and how many processes have failed.

        Args:
            failed: whether this one has, of whose part nothing is used then.
        """


class Sum:
    """Autograd adds up the micro-batches of a process; then one all-reduce adds up the processes.

    Args:
        weights: that have gradients.
        group: whose gradients.
    """

    def __init__(self, weights: Sequence[Tensor], group: Group) -> None:
        self.weights = weights
        self.group = group
        self._losses: list[Tensor] = []

    def add(self, loss: Tensor) -> None:
        """Take in the loss; the gradient is where it belongs."""
        self._losses.append(loss)

    def finish(self, failed: bool) -> tuple[Tensor, Tensor]:
        """Add up the processes."""
        zero = self.weights[0].new_zeros(())
        loss = torch.stack(self._losses).sum() if self._losses else zero
        if self.group.size == 1:
            return loss, zero
        flat = _flat(self.weights, loss, failed)
        return _spread(self.group.sum(flat), self.weights)


class Exact:
    """A balanced tree over the micro-batches of a step, the same for each number of processes that is a power of two.

    Floating point sums depend on their order, and that of a tree whose leaves are the micro-batches does not depend on
    who adds which branch: each process adds the branch of its own, and of the branches above each adds a slice.

    Args:
        weights: that have gradients.
        group: whose gradients.
    """

    def __init__(self, weights: Sequence[Tensor], group: Group) -> None:
        self.weights = weights
        self.group = group
        self._branches: list[tuple[int, Tensor]] = []

    def add(self, loss: Tensor) -> None:
        """Add a leaf, and every branch that is whole by it."""
        level, branch = 0, _flat(self.weights, loss, failed=False)
        for weight in self.weights:
            weight.grad = None
        while self._branches and self._branches[-1][0] == level:
            level, branch = level + 1, self._branches.pop()[1].add_(branch)
        self._branches.append((level, branch))

    def finish(self, failed: bool) -> tuple[Tensor, Tensor]:
        """Add up the branches of the processes."""
        if failed:
            self._branches = [(0, _flat(self.weights, self.weights[0].new_zeros(()), failed))]
        [(_, branch)] = self._branches
        return _spread(branch if self.group.size == 1 else self._over_processes(branch), self.weights)

    def _over_processes(self, branch: Tensor) -> Tensor:
        size = self.group.size
        padded = torch.nn.functional.pad(branch, (0, -branch.numel() % size))
        slices = torch.empty_like(padded)
        with self.group.together():
            dist.all_to_all_single(slices, padded)
        branches = slices.view(size, -1)
        while len(branches) > 1:
            branches = branches[0::2] + branches[1::2]
        with self.group.together():
            dist.all_gather_into_tensor(padded, branches[0].contiguous())
        return padded[: branch.numel()]


def _flat(weights: Sequence[Tensor], loss: Tensor, failed: bool) -> Tensor:
    """All gradients in one row, and behind them the loss and whether the process has failed; then all else is 0."""
    grads = [torch.zeros_like(w).flatten() if w.grad is None or failed else w.grad.flatten() for w in weights]
    return torch.cat([*grads, loss.new_zeros(1) if failed else loss.view(1), loss.new_full((1,), float(failed))])


def _spread(flat: Tensor, weights: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Let each weight have its part of the row as its gradient; returns the two figures behind them."""
    at = 0
    for weight in weights:
        weight.grad = flat[at : at + weight.numel()].view_as(weight)
        at += weight.numel()
    return flat[-2], flat[-1]
