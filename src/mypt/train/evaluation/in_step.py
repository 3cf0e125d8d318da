"""Evaluation where each process has a part of the weights: all go through the model together, and equally often."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from mypt.data.loader import Batch
from mypt.train.parallel.group import Group

Measure = Callable[[Tensor, Tensor], Tensor]


def padded(measure: Measure, rows: int, group: Group) -> Measure:
    """`measure` of inputs and targets (b, T) by passes as of `rows` windows, as all others take."""

    def measured(x: Tensor, y: Tensor) -> Tensor:
        filled = (torch.cat([t, t[:1].expand(rows - len(t), -1)]) for t in (x, y))
        with group.passing():
            return measure(*filled)[: len(x)]

    return measured


def in_step(
    batches: Iterator[Batch], rounds: int, group: Group, look: Callable[[], None], measure: Measure, block_size: int
) -> Iterator[Batch]:
    """The batches of this process, each of which all begin, or none; where others have one more, it measures nothing.

    Args:
        batches: this process's own, at most `rounds`.
        rounds: the most that one has.
        group: the processes.
        look: called before each batch; what it raises on one process, all raise.
        measure: as `padded` gives it.
        block_size: tokens of a window.
    """
    nothing = torch.zeros(1, block_size, dtype=torch.int64)
    for _ in range(rounds):
        part, batch = group.part(), None
        with part:
            look()
            batch = next(batches, None)
        group.settle(part)
        if batch is None:
            measure(nothing, nothing)
        else:
            yield batch
