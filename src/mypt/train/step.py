"""One optimizer step, from batch to moved weights."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from mypt.checkpoint.manager import AnyOptimizer
from mypt.data.loader import Batch
from mypt.model.cost import rows_at_once
from mypt.model.losses import IGNORED
from mypt.model.network import Network
from mypt.schema.files.state import TrainingState
from mypt.schema.settings.training import TrainingConfig
from mypt.train.device.async_check import AsyncCheck, StepResult
from mypt.train.device.devices import on_device
from mypt.train.device.memory import memory_told
from mypt.train.device.precision import Precision
from mypt.train.optim.optimizer import Optimizer
from mypt.train.optim.schedule import learning_rate_at, lr_scales
from mypt.train.parallel.group import Group, Part
from mypt.train.parallel.reduce import Exact, Reduction, Sum
from mypt.train.parallel.shares import share_of
from mypt.train.run_data import RunData

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Earlier:
    """What an earlier session left of the optimizer's state.

    Attributes:
        give: puts the moments into an optimizer, and returns the state of its loss scale.
        bundle: where they lie; None where they are in memory.
    """

    give: Callable[[AnyOptimizer], dict[str, Any]]
    bundle: Path | None = None


@dataclass
class Stepper:
    """What a step needs, and the step.

    Attributes:
        model: on its device.
        data: what is trained on and measured.
        optimizer: from `restore` on, its state matches the session's first step.
        precision: fp32 or autocast.
        session: the state that the session began with; its settings and its count of batches hold for each step.
        loss: summed next-token loss of inputs and targets (B, T); the model's own, or compiled.
        check: where a GPU runs ahead, results on their way to the host; None where each step waits for its result.
        look: called between the parts of a step, which it can end by raising.
        computing: a context around the gradients of a step.
        earlier: what an earlier session left, until `restore` has put it into the optimizer.
        group: the processes that share each step.
        broken: what this process could not do of a step, until all know.
        lr_scales: share of each group of the optimizer in the learning rate of a step.
    """

    model: Network
    data: RunData
    optimizer: AnyOptimizer
    precision: Precision
    session: TrainingState
    loss: Loss
    check: AsyncCheck | None = None
    look: Callable[[], None] = lambda: None
    computing: Callable[[], AbstractContextManager[None]] = nullcontext
    earlier: Earlier | None = None
    group: Group = field(default_factory=Group)
    broken: Part = field(default_factory=lambda: Part(kept=False))
    lr_scales: tuple[float, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.lr_scales = lr_scales([group["lr"] for group in self.optimizer.param_groups])

    @property
    def training(self) -> TrainingConfig:
        """The settings in force."""
        return self.session.training_config

    @property
    def shards(self) -> int:
        """Processes that have all of the weights between them."""
        return 1

    @property
    def has_all(self) -> bool:
        """Whether all of the weights are within reach."""
        return True

    @property
    def tokens_per_step(self) -> int:
        """Tokens that one optimizer step learns from: B x T x micro-batches."""
        return self.data.primary.tokens_per_micro_batch * self.training.grad_accum_steps

    def restore(self) -> None:
        """Give the optimizer what an earlier session left; a step is timed before, which needs moments of its own.

        Raises:
            BundleError: that cannot be read, or does not fit.
        """
        if self.earlier is not None:
            scaler, self.earlier = self.earlier.give(self.optimizer), None
            if scaler:
                self.precision.scaler.load_state_dict(scaler)

    def step(self, step: int) -> list[StepResult]:
        """Take the step after `step` completed ones; one that is not finite, or has no loss, moves no weight.

        Returns:
            The results that are known by now: this step's own, or, where a GPU runs ahead, those of earlier steps.
        """
        for group, scale in zip(self.optimizer.param_groups, self.lr_scales, strict=True):
            group["lr"] = learning_rate_at(step, self.training) * scale
        part, batches = self.group.part(), dict[int, Batch]()
        with part:
            batches = self.batches(step)
        counted = self.counted_tokens(step, batches, part)
        if not counted:
            return [*self.catch_up(), StepResult(step, math.nan, math.nan, finite=False, empty=True)]
        loss, failed = self.gradients(step, batches, counted, part)
        self.broken = self.broken if self.broken.failed else part
        if loss is None:
            return [*self.catch_up(), self._broken_off(step)]
        if self.check is not None:
            return self._launch(step, loss, self.check.halted(failed), self.check)
        if self.group.size > 1 and bool(failed):
            return [self._broken_off(step)]
        norm = self.gradient_norm()
        finite = math.isfinite(float(loss + norm))
        overflow = not finite and math.isfinite(float(loss)) and self.precision.can_lower_scale()
        if finite:
            self.update(norm)
        else:
            self.leave_out()
        return [StepResult(step, float(loss), float(norm), finite, overflow=overflow)]

    def gradients(
        self, step: int, batches: Mapping[int, Batch], counted: int, part: Part
    ) -> tuple[Tensor | None, Tensor]:
        """Leave the whole gradient of a step in `grad` of the weights.

        Args:
            step: its number.
            batches: this process's own.
            counted: targets of the whole step that count.
            part: of this process in the step.

        Returns:
            The loss of the step, and how many processes have failed; None where the gradient was not begun or ended.
        """
        adding = self.reduction()
        with part, memory_told(self.model.config, self.training), self.computing():
            for micro, batch in batches.items():
                adding.add(self.micro_step(step, micro, batch, counted))
        return adding.finish(part.failed)

    def _broken_off(self, step: int) -> StepResult:
        self.forget()
        return StepResult(step, math.nan, math.nan, finite=False, broken=True)

    def _launch(self, step: int, loss: Tensor, halted: Tensor, check: AsyncCheck) -> list[StepResult]:
        """Let the device itself leave the weights where they are if they are not to be moved."""
        norm = self.gradient_norm()
        self.update(norm, nonfinite=(~torch.isfinite(loss + norm) | halted).float())
        return check.send(step, loss, norm, halted)

    @contextmanager
    def watched(self, look: Callable[[], None]) -> Iterator[None]:
        """Call `look` between the parts of steps and evaluations, any of which it can end by raising."""
        self.look = look
        try:
            with self.model.watched(look):
                yield
        finally:
            self.look = lambda: None

    def forget(self) -> None:
        """Forget the gradients of a step that was broken off; nothing else of it is left."""
        self.optimizer.zero_grad(set_to_none=True)

    def catch_up(self) -> list[StepResult]:
        """The results that are still on their way, before the weights are measured or saved."""
        return [] if self.check is None else self.check.rest()

    def batches(self, step: int) -> dict[int, Batch]:
        """This process's micro-batches of a step by their number in it."""
        loader, numbers = self.data.phase_at(step).loader, self._batch_numbers(step)
        return {micro: loader.batch(numbers[micro]) for micro in self.share}

    @property
    def share(self) -> range:
        """The numbers of this process's micro-batches in a step."""
        return share_of(self.training.grad_accum_steps, self.group.rank, self.group.size)

    def reduction(self) -> Reduction:
        """What adds up the gradients of one step."""
        weights = [p for group in self.optimizer.param_groups for p in group["params"] if p.requires_grad]
        return Exact(weights, self.group) if self.training.reduce == "exact" else Sum(weights, self.group)

    def counted_tokens(self, step: int, batches: Mapping[int, Batch], part: Part) -> int:
        """Targets of a whole step that count: all of them, unless masks leave some out."""
        if not self.data.phase_at(step).loader.masked:
            return self.tokens_per_step
        own = sum(int((y != IGNORED).sum()) for _, y in batches.values())
        counted, failed = self.group.summed([own, part.failed])
        return int(counted or failed)  # a step that has failed somewhere is not an empty one

    def micro_step(self, step: int, micro: int, batch: Batch, counted: int) -> Tensor:
        """Add one micro-batch's gradient; its loss counts by its share of all tokens of the step."""
        seed_torch(self.training.seed, step, micro, self.model.device)
        rows = rows_at_once(self.model.config, self.training)
        parts = zip(*(torch.split(t, rows) for t in on_device(batch, self.model.device)), strict=True)
        return torch.stack([self._backward(x, y, counted) for x, y in parts]).sum()

    def _backward(self, x: Tensor, y: Tensor, counted: int) -> Tensor:
        """Add the gradient of some windows (b, T), and return their share of the step's loss."""
        self.look()
        with self.precision.autocast():
            loss = self.loss(x, y) / counted
        torch.autograd.backward(self.precision.scaler.scale(loss))
        return loss.detach()

    def gradient_norm(self) -> Tensor:
        """L2 norm of the whole gradient, its loss scale taken off."""
        self.precision.unscale(self.optimizer)
        return get_total_norm(self._gradients())

    def update(self, norm: Tensor, nonfinite: Tensor | None = None) -> None:
        """Clip the gradient of the given norm, move the weights, clear the gradient.

        Args:
            norm: as `gradient_norm` gives it.
            nonfinite: 1 on the device where no weight may move, else 0; only mypt's own optimizers know it.
        """
        if self.training.grad_clip:
            self._clip(norm)
        if nonfinite is not None and isinstance(self.optimizer, Optimizer):
            self.optimizer.step(nonfinite)
        else:
            self.precision.step(self.optimizer)
        self.optimizer.zero_grad(set_to_none=True)

    def _clip(self, norm: Tensor) -> None:
        clip_grads_with_norm_(self._weights(), self.training.grad_clip, norm)

    def leave_out(self) -> None:
        """Move no weight, clear the gradient, and lower fp16's loss scale, if there is one."""
        self.optimizer.zero_grad(set_to_none=True)
        self.precision.scaler.update()

    def windows(self, step: int) -> list[list[int]]:
        """First tokens of the windows of each micro-batch of a step."""
        loader = self.data.phase_at(step).loader
        return [loader.window_starts(index).tolist() for index in self._batch_numbers(step)]

    def _weights(self) -> list[Tensor]:
        return [p for group in self.optimizer.param_groups for p in group["params"] if p.grad is not None]

    def _gradients(self) -> list[Tensor]:
        return [p.grad for p in self._weights() if p.grad is not None]

    def _batch_numbers(self, step: int) -> range:
        """The numbers of a step's micro-batches from the beginning of its phase."""
        first = self.session.micro_batches(step) - self.session.micro_batches(self.data.phase_at(step).start)
        return range(first, first + self.training.grad_accum_steps)


def seed_torch(seed: int, step: int, micro: int, device: torch.device) -> None:
    """Seed the generator of a device for one micro-step, so that its dropout depends on nothing before it."""
    mixed = np.random.SeedSequence((seed, step, micro)).generate_state(1, np.uint64)[0]
    seeded = int(mixed) & (2**63 - 1)
    if device.type == "cpu":  # torch.manual_seed would walk through the stack for the sake of other devices
        torch.default_generator.manual_seed(seeded)
    else:
        torch.manual_seed(seeded)
