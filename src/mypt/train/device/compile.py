"""torch.compile: whether a run uses it."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial

import torch
from torch import Tensor

from mypt.model.blocks import Block
from mypt.model.network import Network
from mypt.schema.settings.training import TrainingConfig
from mypt.train.device.choices import Choice
from mypt.train.device.memory import is_shortage
from mypt.train.device.precision import Precision
from mypt.train.parallel.parts import is_sharded
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


def compile_on_all(stepper: Stepper, step: int, at_once: Callable[[], AbstractContextManager[None]]) -> str | None:
    """Compile the loss of a session on all processes, or on none.

    Args:
        stepper: takes the steps.
        step: the next one.
        at_once: a context for passes that have no layers to look between, as compiled ones, and that may be broken off.

    Returns:
        Why it cannot be compiled; None if it can.
    """
    group, eager, in_parts = stepper.group, stepper.loss, is_sharded(stepper.model)
    attempt = partial(try_block, stepper.model, stepper.precision) if in_parts else partial(try_compiled, stepper, step)
    failed = next((why for why in group.each(attempt) if why is not None), None)
    if failed:
        stepper.loss = eager
    elif in_parts:
        compile_blocks(stepper.model)
    else:
        stepper.computing = at_once
    return failed


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


def compile_blocks(model: Network) -> None:
    """Compile each layer on its own, when it is first called: what processes do together is done between layers."""
    if model.rope is not None:
        model.rope.cover(model.config.block_size)
    for block in model.blocks:
        block.forward = torch.compile(block.forward)


def try_block(model: Network, precision: Precision) -> str | None:
    """Compile a layer of the size of the model's, and go through it forward and backward, in this process alone.

    Returns:
        Why it cannot be compiled; None if it can.
    """
    config = model.config
    try:
        block = Block(config).to(model.device)
        x = torch.randn(1, config.block_size, config.n_embd, device=model.device, requires_grad=True)
        with precision.autocast():
            y: Tensor = torch.compile(block)(x, 0, model.rope, None, None)
        torch.autograd.backward(y.float().sum())
        return None
    except Exception as error:  # as in `try_compiled`
        if is_shortage(error):
            raise
        return (str(error).splitlines() or [type(error).__name__])[0]
