"""Lets the host run ahead of a GPU: the result of a step is read when a later one has been launched."""

import math
from collections import deque
from dataclasses import dataclass

import torch
from torch import Tensor

STEPS_AHEAD = 2
"""Enough that the GPU never waits for the host, and so few that a signal or a diverging run is seen at once."""


@dataclass(frozen=True)
class StepResult:
    """What a step came to.

    Attributes:
        step: counted from 0.
        loss: mean over the tokens of the step, nats per token.
        grad_norm: L2 norm of the whole gradient, before clipping.
        finite: whether the step moved the weights.
        empty: whether the loss mask left none of its tokens, so that there is no loss; then it moved none.
        overflow: whether the gradient was too large for fp16 at its loss scale alone, which was lowered then.
        broken: whether a process has not done its part of it; neither it nor a later step moved the weights.
    """

    step: int
    loss: float
    grad_norm: float
    finite: bool = True
    empty: bool = False
    overflow: bool = False
    broken: bool = False

    def __str__(self) -> str:
        if self.empty:
            return f"Step {self.step + 1} has no token that counts by the loss mask"
        if self.overflow:
            return f"Step {self.step + 1} has gradients beyond fp16, whose loss scale is lowered"
        return f"Step {self.step + 1} has a loss of {self.loss:.4g} and a gradient norm of {self.grad_norm:.4g}"


class AsyncCheck:
    """Results on their way from the device to the host, oldest first.

    Args:
        limit: steps that may be under way at one time.
    """

    def __init__(self, limit: int = STEPS_AHEAD) -> None:
        self.limit = limit
        self._under_way: deque[tuple[int, Tensor, torch.Event | None]] = deque()
        self._failed: Tensor | None = None

    def halted(self, failed: Tensor) -> Tensor:
        """Whether, with this step, a process has failed at any: from then on no step may move the weights.

        The hosts learn of it some steps later, and all at the same one, which the weights are still at then.
        """
        self._failed = failed if self._failed is None else self._failed + failed
        return self._failed > 0

    def send(self, step: int, loss: Tensor, norm: Tensor, halted: Tensor) -> list[StepResult]:
        """Add a step that was launched; returns the results of the steps before the last `limit`."""
        figures = torch.stack([loss.float(), norm.float(), halted.float()])
        event = None
        if figures.is_cuda:
            pinned = torch.empty(3, pin_memory=True)
            figures, event = pinned.copy_(figures, non_blocking=True), torch.Event(loss.device)
            event.record(torch.accelerator.current_stream(loss.device))
        self._under_way.append((step, figures, event))
        return self._arrive(self.limit)

    def rest(self) -> list[StepResult]:
        """The results of all steps that are under way, once the device is done with them."""
        return self._arrive(0)

    def _arrive(self, left: int) -> list[StepResult]:
        arrived = []
        while len(self._under_way) > left:
            step, figures, event = self._under_way.popleft()
            if event is not None:
                event.synchronize()
            loss, norm, halted = figures.tolist()
            arrived.append(StepResult(step, loss, norm, math.isfinite(loss + norm), broken=halted > 0))
        return arrived
