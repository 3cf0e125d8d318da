"""How far the host runs ahead of a GPU: it looks at the figures of a step when a later one has been launched."""

import math
from collections import deque
from dataclasses import dataclass

import torch
from torch import Tensor

from mypt.train.device.devices import Precision

STEPS_AHEAD = 2
"""Enough that the GPU never waits for the host, and so few that a signal or a diverging run is seen at once."""


@dataclass(frozen=True)
class Figures:
    """Loss and gradient norm of a step, counted from 0."""

    step: int
    loss: float
    norm: float

    def __str__(self) -> str:
        return f"Step {self.step + 1} has a loss of {self.loss:.4g} and a gradient norm of {self.norm:.4g}"

    @property
    def finite(self) -> bool:
        """Whether the step was fit to be taken."""
        return math.isfinite(self.loss) and math.isfinite(self.norm)


class Ahead:
    """Figures on their way from the device to the host, oldest first.

    Args:
        limit: steps that may be under way at one time.

    Attributes:
        latest_loss: of the last step that has arrived; None before the first.
    """

    def __init__(self, limit: int = STEPS_AHEAD) -> None:
        self.limit = limit
        self.latest_loss: float | None = None
        self._coming: deque[tuple[int, Tensor, torch.Event | None]] = deque()

    def send(self, step: int, loss: Tensor, norm: Tensor) -> list[Figures]:
        """Add those of a step that was launched; returns those of the steps before the last `limit`."""
        figures = torch.stack([loss.float(), norm.float()])
        event = None
        if figures.is_cuda:
            held = torch.empty(2, pin_memory=True)
            figures, event = held.copy_(figures, non_blocking=True), torch.Event(loss.device)
            event.record(torch.accelerator.current_stream(loss.device))
        self._coming.append((step, figures, event))
        return self._arrive(self.limit)

    def rest(self) -> list[Figures]:
        """Those of all steps that are under way, once the device is done with them."""
        return self._arrive(0)

    def _arrive(self, left: int) -> list[Figures]:
        arrived = []
        while len(self._coming) > left:
            step, figures, event = self._coming.popleft()
            if event is not None:
                event.synchronize()
            arrived.append(Figures(step, *figures.tolist()))
            self.latest_loss = arrived[-1].loss
        return arrived


def may_run_ahead(device: torch.device, precision: Precision, on_nonfinite: str) -> bool:
    """Whether steps can be launched before it is known that those before them were finite.

    To leave a step out, or to adapt a loss scale to it, it has to be known first.
    """
    return device.type == "cuda" and on_nonfinite == "stop" and not precision.scaler.is_enabled()
