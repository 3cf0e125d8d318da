"""One optimizer step where each process has a part of the weights."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

from mypt.data.loader import Batch
from mypt.model.cost import rows_at_once
from mypt.model.losses import IGNORED
from mypt.model.network import Network
from mypt.schema.settings.training import TrainingConfig
from mypt.train.device.memory import memory_told
from mypt.train.optim.optimizer import build_optimizer
from mypt.train.parallel.group import Group, Part
from mypt.train.parallel.parts import own
from mypt.train.parallel.sharding import give_parts, rows_of_processes, shard
from mypt.train.step import Stepper


@dataclass
class ShardedStepper(Stepper):
    """A `Stepper` whose processes go through the model together, layer by layer.

    None may leave a pass that the others are in. So each looks for signals and errors before a micro-batch, where all
    learn of them, and nothing is looked for in a pass: what is raised there ends the run.

    Attributes:
        replicas: how many rows of processes have all of the weights.
        asked: what is called before each micro-batch, which it can end by raising.
        passes_left: passes to come of a step, whose last one adds up the gradients of all processes; 0 where every one
            does.
    """

    replicas: int = 1
    asked: Callable[[], None] = lambda: None
    passes_left: int = 0

    @property
    def shards(self) -> int:
        """Processes that have all of the weights between them."""
        return self.group.size // self.replicas

    @property
    def has_all(self) -> bool:
        """Whether all of the weights are within reach: with the processes, their parts are lost."""
        return not self.group.lost

    @contextmanager
    def watched(self, look: Callable[[], None]) -> Iterator[None]:
        """Call `look` between the micro-batches of steps."""
        self.asked = look
        try:
            yield
        finally:
            self.asked = lambda: None

    def gradients(
        self, step: int, batches: Mapping[int, Batch], counted: int, part: Part
    ) -> tuple[Tensor | None, Tensor]:
        """Go through the own micro-batches, and as many that count for nothing as others have more."""
        rounds, config = -(-self.training.grad_accum_steps // self.group.size), self.model.config
        todo = [*batches.items(), *[(self.training.grad_accum_steps, self._nothing())] * (rounds - len(batches))]
        self.passes_left = rounds * -(-config.batch_size // rows_at_once(config, self.training))
        losses: list[Tensor] = []
        for micro, batch in todo:
            with part:
                self.asked()
            [failed] = self.group.summed([part.failed])
            if failed:
                self.passes_left = 0
                return None, torch.tensor(failed)
            with self.group.passing():
                losses.append(self.micro_step(step, micro, batch, counted))
        with self.group.passing():
            return self.group.sum(torch.stack(losses).sum()), losses[0].new_zeros(())

    def _nothing(self) -> Batch:
        """A micro-batch no token of which counts, whose gradient is 0."""
        tokens = torch.zeros(self.model.config.batch_size, self.model.config.block_size, dtype=torch.int64)
        return tokens, torch.full_like(tokens, IGNORED)

    def gradient_norm(self) -> Tensor:
        """L2 norm of the whole gradient, of which each row of processes has all parts; the same bits on all."""
        parts = get_total_norm([own(gradient) for gradient in self._gradients()])
        squares = self.group.sum(parts.double().square()) / self.replicas
        return squares.sqrt().float()

    def update(self, norm: Tensor, nonfinite: Tensor | None = None) -> None:
        """As that of `Stepper`."""
        with self.group.passing():
            super().update(norm, nonfinite)

    def _clip(self, norm: Tensor) -> None:
        scale = torch.clamp(self.training.grad_clip / (norm + 1e-6), max=1.0)
        torch._foreach_mul_([own(gradient) for gradient in self._gradients()], scale)

    def _backward(self, x: Tensor, y: Tensor, counted: int) -> Tensor:
        self.passes_left = max(0, self.passes_left - 1)
        self.model.set_requires_gradient_sync(not self.passes_left)  # type: ignore[operator]
        return super()._backward(x, y, counted)


def sharded(stepper: Stepper) -> ShardedStepper:
    """Share out the weights of a session, which the first process has; its optimizer has no moments yet."""
    replicas = share(stepper.model, stepper.group, stepper.training)
    given = {f.name: getattr(stepper, f.name) for f in fields(stepper) if f.init}
    given |= {"optimizer": build_optimizer(stepper.model, stepper.training), "loss": stepper.model.loss}
    return ShardedStepper(**given, replicas=replicas)


def share(model: Network, group: Group, training: TrainingConfig) -> int:
    """Share out a model that the first process has; returns how many rows of processes have all of it.

    No process has memory for more on its device than for its parts and one whole weight, and the model is nowhere
    whole any more when this ends.
    """
    shard_size = training.shard_size if training.parallel == "hsdp" else None
    shard_size = shard_size or group.size
    device = model.config.device
    mesh = rows_of_processes(group, torch.device(device).type, shard_size, training.collective_timeout)
    whole = {name: weight.detach() for name, weight in model.named_parameters()} if group.leads else {}
    shard(model.to_empty(device="meta"), mesh)
    with group.passing(), memory_told(model.config, training):
        give_parts(whole, model.to_empty(device=device), group)
    return group.size // shard_size
