"""What each of several processes holds of a model: all of it, or a part."""

import torch

from mypt.errors import ConfigError
from mypt.launch import Launch
from mypt.model.cost import training_memory
from mypt.model.network import Network
from mypt.schema.settings.config import GPTConfig
from mypt.schema.settings.training import TrainingConfig
from mypt.train.device.precision import Precision
from mypt.train.planning import physical_memory


def settle_parallel(
    config: GPTConfig, training: TrainingConfig, launch: Launch, *, brought: bool = False
) -> TrainingConfig:
    """The settings with what each process of a job holds: as they have it, or as memory allows.

    Args:
        config: the architecture, and the device.
        training: the settings, with half precision decided.
        launch: of this process.
        brought: whether the optimizer is one of a caller.

    Raises:
        ConfigError: they cannot be used so.
    """
    if launch.size == 1:
        return training
    problem, parallel = _hindrance(config, training, brought), training.parallel
    if parallel == "auto":
        parallel = "ddp" if problem or training.reduce == "exact" or _fits(config, training, launch) else "fsdp"
    elif parallel != "ddp" and problem:
        raise ConfigError(f"The weights cannot be shared out by --parallel {parallel}: {problem[0]}.", problem[1])
    if parallel != "ddp" and training.sample_prompt:
        raise ConfigError(
            f"--sample-prompt needs all of the model in one process, and with --parallel {parallel} none has it.",
            "Leave it out, or turn it off by an empty one, and use `mypt generate` on what is saved.",
        )
    shard_size = check_rows(training, launch) if parallel == "hsdp" else training.shard_size
    return training.model_copy(update={"parallel": parallel, "shard_size": shard_size})


def in_parts(training: TrainingConfig, size: int) -> bool:
    """Whether each of so many processes has a part of the weights."""
    return size > 1 and training.parallel in ("fsdp", "hsdp")


def placed(model: Network, training: TrainingConfig, launch: Launch) -> Network:
    """A model where a session takes it: on the device, there without values where the first process has them.

    One that is to be shared out may be too large for a device: the first process has it in the memory of its host, and
    the others have nothing of it.
    """
    device = model.config.device
    if in_parts(training, launch.size):
        return model.to("cpu") if launch.leads else model.to_empty(device="meta")
    return model.to_empty(device=device) if model.device.type == "meta" else model.to(device)


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


def _hindrance(config: GPTConfig, training: TrainingConfig, brought: bool) -> tuple[str, str] | None:
    """Why each process has to hold all of the weights, and what to do; None if it need not."""
    if brought:
        return "the run has an optimizer that was brought to it", "Leave --parallel out."
    if Precision.of(training, config.device).scaler.is_enabled():
        return "fp16 needs a loss scale, which is not kept for parts", "Give --amp-dtype bf16, or leave --parallel out."
    return None


def _fits(config: GPTConfig, training: TrainingConfig, launch: Launch) -> bool:
    """Whether each process has the memory for all of the weights, by estimate."""
    if config.device.startswith("cuda"):
        there: int | None = torch.cuda.get_device_properties(config.device).total_memory
    else:
        memory = physical_memory()
        there = memory // launch.on_host if memory is not None else None
    return there is None or training_memory(config, training, launch.size) <= there
