"""torch.compile: whether a run uses it."""

from collections.abc import Callable

import torch
from torch import Tensor

from mypt.model.network import Network
from mypt.schema.settings.training import TrainingConfig
from mypt.train.device.choices import Choice
from mypt.train.device.memory import is_shortage
from mypt.train.step import Stepper

PAYS_AFTER_S = 300.0
"""Seconds of training on a GPU from which compiling, which takes most of a minute, pays."""


def choose(training: TrainingConfig, device: str, training_s: float) -> Choice:
    """Decide for a session that will train for `training_s` seconds.

    On a CPU it does not pay at all: a step of 4 layers, 128 wide, takes 25 ms compiled and 21 ms as it is.
    """
    if training.torch_compile != "auto":
        return Choice(training.torch_compile == "on", "as it was set")
    if not device.startswith("cuda"):
        return Choice(False, "it is slower there" if device == "cpu" else "it was never measured there")
    if training_s < PAYS_AFTER_S:
        return Choice(False, f"{training_s:.0f} s of training would not repay it")
    return Choice(True, f"{training_s:.0f} s of training repay it")


def compiled_loss(model: Network) -> Callable[[Tensor, Tensor], Tensor]:
    """`Network.loss`, compiled when it is first called; its kernels are not chosen by timing where order counts."""
    if model.rope is not None:  # compiled code computes no angles
        model.rope.cover(model.config.block_size)
    if torch.are_deterministic_algorithms_enabled():
        return torch.compile(model.loss, options={"deterministic": True})
    return torch.compile(model.loss)


def try_compiled(stepper: Stepper, step: int) -> str | None:
    """Compile the loss of a session, and go through a micro-batch of a step forward and backward.

    Nothing is left to fail in a step that counts then.

    Returns:
        Why it cannot be compiled; None if it can.
    """
    stepper.loss = compiled_loss(stepper.model)
    try:
        stepper.model.train()
        micro, batch = next(iter(stepper.batches(step).items()))
        stepper.micro_step(step, micro, batch, stepper.tokens_per_step)
        return None
    except Exception as error:  # the compiler raises many types of errors
        if is_shortage(error):
            raise
        return (str(error).splitlines() or [type(error).__name__])[0]
    finally:
        stepper.forget()
