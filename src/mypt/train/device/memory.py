"""What is said where the memory of the host or of a GPU is not enough to train."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from mypt.errors import ShortOfMemoryError
from mypt.model.cost import rows_at_once
from mypt.schema.settings.config import GPTConfig
from mypt.schema.settings.training import TrainingConfig


@contextmanager
def memory_told(config: GPTConfig, training: TrainingConfig) -> Iterator[None]:
    """Tell of memory that is not enough by what to set.

    Raises:
        ShortOfMemoryError: in place of the errors that torch and Python have for it.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_shortage(error):
            raise
        where = "the host" if config.device == "cpu" else f"the device {config.device}"
        raise ShortOfMemoryError(
            f"The memory of {where} is not enough to train this model.", _todo(config, training)
        ) from error


def is_shortage(error: BaseException) -> bool:
    """Whether an error says that memory could not be had; torch has one for GPUs, and a text for the host."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _todo(config: GPTConfig, training: TrainingConfig) -> str:
    """What takes less memory, the settings that change nothing that is computed first."""
    ways = [] if training.use_checkpoint else ["--use-checkpoint, which computes the same in more time"]
    if (rows := rows_at_once(config, training)) > 1:
        ways.append(f"--rows-at-once {rows // 2}, which takes fewer windows at one time")
    return (
        f"Call again with {', or '.join(ways)}." if ways else "Train a smaller model, or one with a shorter block_size."
    )
