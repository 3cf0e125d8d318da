"""One optimizer step, from batch to moved weights."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from mypt.checkpoint.manager import AnyOptimizer
from mypt.data.loader import Batch
from mypt.model.cost import rows_at_once
from mypt.model.losses import IGNORED
from mypt.model.network import Network
from mypt.schema.files.state import TrainingState
from mypt.schema.settings.training import TrainingConfig
from mypt.train.device.async_check import Ahead, Figures, may_run_ahead
from mypt.train.device.devices import Precision, on_device
from mypt.train.optim.schedule import learning_rate_at
from mypt.train.run_data import RunData


@dataclass
class Stepper:
    """What a step needs, and the step.

    Attributes:
        model: on its device.
        data: what is trained on and measured.
        optimizer: its state matches `state.step`.
        state: what training_state.json will hold; replaced at each evaluation, never changed in place.
        precision: fp32 or autocast.
    """

    model: Network
    data: RunData
    optimizer: AnyOptimizer
    state: TrainingState
    precision: Precision

    def __post_init__(self) -> None:
        """Start without torch.compile; know each step's figures before the next, except where a GPU computes."""
        self.loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = self.model.loss
        runs_ahead = may_run_ahead(self.model.device, self.precision, self.training.on_nonfinite)
        self.ahead = Ahead() if runs_ahead else None

    @property
    def training(self) -> TrainingConfig:
        """The settings in force."""
        return self.state.training_config

    @property
    def tokens_per_step(self) -> int:
        """Tokens that one optimizer step learns from: B x T x micro-batches."""
        return self.data.primary.tokens_per_micro_batch * self.training.grad_accum_steps

    def train_step(self, step: int) -> torch.Tensor:
        """One optimizer step; returns its mean loss in nats per token, on the device.

        Raises:
            DivergedError: loss or gradient is not finite, and spikes are not to be skipped.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate_at(step, self.training)
        batches = self.batches(step)
        counted = self.counted_tokens(batches)
        losses = [self.micro_step(step, micro, batch, counted) for micro, batch in enumerate(batches)]
        loss, norm = torch.stack(losses).sum(), self.gradient_norm()
        if self.ahead is not None:
            self.update(norm)
            self.check(self.ahead.send(step, loss, norm))
        elif self._finite(loss, norm):
            self.update(norm)
        else:
            self.optimizer.zero_grad(set_to_none=True)
            self.precision.scaler.update()
            self.spiked(Figures(step, float(loss), float(norm)))
        return loss

    def catch_up(self) -> None:
        """Wait for the steps that are under way, before the weights are measured or saved."""
        if self.ahead is not None:
            self.check(self.ahead.rest())

    def check(self, arrived: Sequence[Figures]) -> None:
        """Report a step that was taken and should not have been."""
        for figures in arrived:
            if not figures.finite:
                self.spiked(figures, taken=True)

    def spiked(self, figures: Figures, *, taken: bool = False) -> None:
        """A step is not finite: stop, or return to leave it out; `taken` where it has spoilt the weights already."""
        raise NotImplementedError

    def batches(self, step: int) -> list[Batch]:
        """The step's micro-batches, each numbered from the beginning of its phase."""
        loader = self.data.phase_at(step).loader
        return [loader.batch(index) for index in self._batch_numbers(step)]

    def counted_tokens(self, batches: Sequence[Batch]) -> int:
        """Targets of a whole step that count: all of them, unless masks leave some out."""
        if not self.data.primary.masked:
            return self.tokens_per_step
        return max(1, sum(int((y != IGNORED).sum()) for _, y in batches))

    def micro_step(self, step: int, micro: int, batch: Batch, counted: int) -> torch.Tensor:
        """Add one micro-batch's gradient; its loss counts by its share of all tokens of the step."""
        seed_torch(self.training.seed, step, micro, self.model.device)
        rows = rows_at_once(self.model.config, self.training)
        parts = zip(*(torch.split(t, rows) for t in on_device(batch, self.model.device)), strict=True)
        return torch.stack([self._backward(x, y, counted) for x, y in parts]).sum()

    def _backward(self, x: torch.Tensor, y: torch.Tensor, counted: int) -> torch.Tensor:
        """Add the gradient of some windows (b, T), and return their share of the step's loss."""
        with self.precision.autocast():
            loss = self.loss(x, y) / counted
        torch.autograd.backward(self.precision.scaler.scale(loss))
        return loss.detach()

    def gradient_norm(self) -> torch.Tensor:
        """L2 norm of the whole gradient, its loss scale taken off."""
        self.precision.unscale(self.optimizer)
        norm: torch.Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(self._gradients())))
        return norm

    def update(self, norm: torch.Tensor) -> None:
        """Clip the gradient of the given norm, move the weights, forget the gradient."""
        if self.training.grad_clip:
            torch._foreach_mul_(self._gradients(), (self.training.grad_clip / (norm + 1e-6)).clamp(max=1.0))
        self.precision.step(self.optimizer)
        self.optimizer.zero_grad(set_to_none=True)

    def _gradients(self) -> list[torch.Tensor]:
        return [p.grad for group in self.optimizer.param_groups for p in group["params"] if p.grad is not None]

    def _finite(self, loss: torch.Tensor, norm: torch.Tensor) -> bool:
        """Whether a step may move the weights; fp16's loss scale looks after gradients that overflow."""
        figures = loss if self.precision.scaler.is_enabled() else loss + norm
        return bool(torch.isfinite(figures))

    def windows(self, step: int) -> list[list[int]]:
        """First tokens of the windows of each micro-batch of a step."""
        loader = self.data.phase_at(step).loader
        return [loader.window_starts(index).tolist() for index in self._batch_numbers(step)]

    def _batch_numbers(self, step: int) -> range:
        first = self.state.micro_batches(step) - self.state.micro_batches(self.data.phase_at(step).start)
        return range(first, first + self.training.grad_accum_steps)


def seed_torch(seed: int, step: int, micro: int, device: torch.device) -> None:
    """Seed the generator of a device for one micro-step, so that its dropout depends on nothing before it."""
    mixed = np.random.SeedSequence((seed, step, micro)).generate_state(1, np.uint64)[0]
    seeded = int(mixed) & (2**63 - 1)
    if device.type == "cpu":  # torch.manual_seed would walk through the stack for the sake of other devices
        torch.default_generator.manual_seed(seeded)
    else:
        torch.manual_seed(seeded)
