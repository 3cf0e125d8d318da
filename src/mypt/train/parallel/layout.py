"""What each of several processes holds of a model: all of it, or a part."""

import torch

from mypt.errors import ConfigError
from mypt.launch import Launch
from mypt.model.cost import training_memory
from mypt.schema.settings.config import GPTConfig
from mypt.schema.settings.training import TrainingConfig
from mypt.train.optim.optimizer import Optimizer
from mypt.train.planning import physical_memory
from mypt.train.step import Stepper


def parallel_of(stepper: Stepper, launch: Launch) -> dict[str, object]:
    """The settings `parallel` and `shard_size` as the processes use them: as they are set, or as memory allows.

    Raises:
        ConfigError: they are set, and cannot be used.
    """
    training, config = stepper.training, stepper.model.config
    problem = _hindrance(stepper)
    parallel = training.parallel
    if parallel == "auto":
        parallel = "ddp" if problem or training.reduce == "exact" or _fits(config, training, launch) else "fsdp"
    elif parallel != "ddp" and problem:
        raise ConfigError(f"The weights cannot be shared out by --parallel {parallel}: {problem[0]}.", problem[1])
    if parallel != "hsdp":
        return {"parallel": parallel}
    return {"parallel": parallel, "shard_size": check_rows(training, launch)}


def check_rows(training: TrainingConfig, launch: Launch) -> int:
    """How many processes are to have all of the weights between them; all of them without hsdp.

    Raises:
        ConfigError: they cannot be parted into rows of so many.
    """
    shard_size = (training.shard_size or launch.on_host) if training.parallel == "hsdp" else launch.size
    if launch.size % shard_size:
        raise ConfigError(
            f"{launch.size} processes cannot be parted into rows of {shard_size} (--shard-size).",
            f"Give a --shard-size that divides {launch.size}, or start a multiple of {shard_size} processes.",
        )
    return shard_size


def _hindrance(stepper: Stepper) -> tuple[str, str] | None:
    """Why each process has to hold all of the weights, and what to do; None if it need not."""
    if not isinstance(stepper.optimizer, Optimizer):
        return "the run has an optimizer that was brought to it", "Leave --parallel out."
    if stepper.precision.scaler.is_enabled():
        return "fp16 needs a loss scale, which is not kept for parts", "Give --amp-dtype bf16, or leave --parallel out."
    return None


def _fits(config: GPTConfig, training: TrainingConfig, launch: Launch) -> bool:
    """Whether each process has the memory for all of the weights, by estimate."""
    if config.device.startswith("cuda"):
        there: int | None = torch.cuda.get_device_properties(config.device).total_memory
    else:
        memory = physical_memory()
        there = memory // launch.on_host if memory is not None else None
    return there is None or training_memory(config, training) <= there
