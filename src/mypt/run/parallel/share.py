"""What the first process of a run hands to the others: the record, the weights, the moments."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from mypt.checkpoint.changes import changed_environment
from mypt.checkpoint.manager import load_optimizer_state
from mypt.errors import ConfigError, ConflictError, DeviceError
from mypt.launch import Launch
from mypt.schema.files.environment import Environment
from mypt.schema.files.state import TrainingState
from mypt.schema.files.tokenizer import TokenizerFile
from mypt.schema.settings.config import GPTConfig
from mypt.schema.settings.training import TrainingConfig
from mypt.train.loop import Trainer
from mypt.train.parallel.gather import restore_parts
from mypt.train.parallel.group import Group
from mypt.train.parallel.layout import in_parts
from mypt.train.parallel.meeting import Meeting
from mypt.train.parallel.parts import is_sharded
from mypt.train.step import Stepper

SAME = {"mypt", "torch", "numpy", "tiktoken"}
"""Versions that all processes have to share: other ones may compute other bits, or read other tokens."""


@dataclass(frozen=True)
class Shared:
    """What a session is, for the processes that join it.

    Attributes:
        name: of the run.
        config: the architecture.
        tokenizer: of the run.
        state: as the session begins with it.
        dry_run: whether it ends with the plan.
    """

    name: str
    config: GPTConfig
    tokenizer: TokenizerFile
    state: TrainingState
    dry_run: bool


def share_out(trainer: Trainer, launch: Launch, meeting: Meeting | None, shared: Shared) -> None:
    """Let the processes of the job join a session that the first one has put together.

    Raises:
        ConfigError: there are more processes than micro-batches, or they cannot be added up exactly.
        DeviceError: the device is one that processes cannot share.
        UsageError: another process cannot open the data, or opens others.
    """
    trainer.stop.elastic = launch.elastic
    if launch.size == 1 or meeting is None:
        return
    check_processes(trainer.training, trainer.stepper.model.config.device, launch.size)
    meeting.call(trainer.training.collective_timeout)
    group = Group(launch, meeting)
    group.first(lambda: shared)
    group.each(lambda: None)  # the others put their session together
    trainer.stepper.group = group
    check_windows(trainer.stepper)
    share_weights(trainer)


def check_processes(training: TrainingConfig, device: str, size: int) -> None:
    """Make sure that so many processes can share a step; raises as `share_out`."""
    micro_batches, several = training.grad_accum_steps, "es" * (training.grad_accum_steps > 1)
    if device not in ("cpu", "cuda"):
        raise DeviceError(
            f"{size} processes cannot share the device {device}.",
            "Leave --device out: each process takes the GPU that torchrun has for it.",
        )
    if size > micro_batches:
        raise ConfigError(
            f"A step has {micro_batches} micro-batch{several}, which {size} processes cannot share.",
            f"Set --grad-accum-steps to {size} or more, with a smaller --batch-size if the global batch is to stay the "
            f"same, or start at most {micro_batches} process{several}.",
        )
    if training.reduce == "exact" and size & (size - 1):
        raise ConfigError(
            f"{size} processes cannot add up gradients by --reduce exact: it is no power of two.",
            "Start 1, 2, 4, 8, ... processes, or leave --reduce exact out.",
        )


def check_alike(shared: Environment | None, own: Environment, place: str) -> None:
    """Make sure that a process has the versions that the first one has.

    Raises:
        ConflictError: it has others.
    """
    if others := [c for c in changed_environment(shared, own) if c.name in SAME]:
        raise ConflictError(
            f"{place[0].upper()}{place[1:]} has other versions than process 0.",
            "Install the same on every host.",
            [f"{c.name}: {c.recorded} there, {c.now} here." for c in others],
        )


def check_windows(stepper: Stepper) -> None:
    """Make sure that all processes have the first windows of the first one.

    Raises:
        ConflictError: a process would train on other windows.
    """
    hashes = stepper.group.gathered(_first_windows(stepper))
    if other := next((rank for rank, found in enumerate(hashes) if found != hashes[0]), None):
        raise ConflictError(
            f"Process {other} would train on other windows than process 0.",
            "Let every host have the same data; `mypt data inspect FOLDER --check` looks at a copy.",
        )


def share_weights(trainer: Trainer) -> None:
    """Give all processes the weights that the first has: their parts of these if the settings say so, or all."""
    if in_parts(trainer.training, trainer.group.size):
        from mypt.train.parallel.sharded_step import sharded  # which loads FSDP

        trainer.stepper = trainer.keeper.stepper = sharded(trainer.stepper)
    else:
        give(trainer.group, trainer.stepper.model.state_dict().values())


def restore(stepper: Stepper) -> None:
    """Give the optimizers of all processes what an earlier session left on the disk of the first.

    Raises:
        BundleError: that cannot be read, or does not fit.
    """
    group, optimizer = stepper.group, stepper.optimizer
    if group.size == 1:
        stepper.restore()
        return
    if is_sharded(stepper.model):
        restore_parts(stepper)
        return
    resumed = stepper.earlier is not None
    group.first(stepper.restore)
    stepper.earlier = None  # of the others, who get what the first has
    held = optimizer.state_dict() if resumed else None
    skeleton = group.first(lambda: None if held is None else _skeleton(held))
    if skeleton is None:
        return
    received = held or _filled(skeleton, stepper.model.device)
    give(group, _tensors(received))
    scale = group.first(stepper.precision.scaler.state_dict)
    if not group.leads:
        load_optimizer_state(received, optimizer)
        stepper.precision.scaler.load_state_dict(scale)


def _first_windows(stepper: Stepper) -> str:
    step = stepper.session.step
    loader = stepper.data.phase_at(step).loader
    first = stepper.session.micro_batches(step) - stepper.session.micro_batches(stepper.data.phase_at(step).start)
    return hashlib.sha256(b"".join(t.numpy().tobytes() for t in loader.batch(first))).hexdigest()


def give(group: Group, tensors: Iterable[Tensor]) -> None:
    """Let all processes have what tensors hold on the first."""
    for tensor in tensors if group.size > 1 else ():
        with group.together():
            dist.broadcast(tensor, 0)


def _skeleton(state: dict[str, Any]) -> dict[str, Any]:
    """The state of an optimizer with tensors that have no values."""
    moments = {
        number: {n: v.to("meta") if isinstance(v, Tensor) else v for n, v in of_weight.items()}
        for number, of_weight in state["state"].items()
    }
    return {**state, "state": moments}


def _filled(skeleton: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """A state with tensors to receive the values."""
    moments = {
        number: {n: torch.empty_like(v, device=device) if isinstance(v, Tensor) else v for n, v in of_weight.items()}
        for number, of_weight in skeleton["state"].items()
    }
    return {**skeleton, "state": moments}


def _tensors(state: dict[str, Any]) -> list[Tensor]:
    return [v for of_weight in state["state"].values() for v in of_weight.values() if isinstance(v, Tensor)]
