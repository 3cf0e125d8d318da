"""How long a step takes on this machine, from one that is really taken and then undone."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median

import torch

from mypt.train.device.devices import peak_memory
from mypt.train.evaluation.evaluate import losses_of
from mypt.train.optim.optimizer import build_optimizer
from mypt.train.step import Stepper

BUDGET_S = 2.0
REPEATS = 6


@dataclass(frozen=True)
class Timing:
    """Measured seconds and bytes.

    Attributes:
        step_s: one optimizer step, all its micro-batches included.
        eval_batch_s: one batch of an evaluation.
        peak_bytes: the most memory held so far; None where the system does not tell.
    """

    step_s: float
    eval_batch_s: float
    peak_bytes: int | None


def time_step(stepper: Stepper) -> Timing:
    """Time one micro-batch, one update and one batch of evaluation; nothing of the session changes.

    The update is that of another optimizer at a learning rate of 0, so that no weight moves and none has to be kept.
    """
    scaler = stepper.precision.scaler.state_dict()
    probe = replace(stepper, optimizer=build_optimizer(stepper.model, stepper.training), check=None)
    for group in probe.optimizer.param_groups:
        group["lr"] = 0.0
    step, counted = stepper.session.step, stepper.tokens_per_step
    batch = stepper.data.phase_at(step).loader.batch(0)
    stepper.model.train()
    try:
        micro_s, update_s, eval_s = _time(
            stepper.model.device,
            lambda: probe.micro_step(step, 0, batch, counted),
            lambda: _update(probe),
            lambda: _eval_batch(probe),
        )
        step_s = stepper.training.grad_accum_steps * micro_s + update_s
        return Timing(step_s, eval_s, peak_memory(str(stepper.model.device)))
    finally:
        probe.optimizer.zero_grad(set_to_none=True)
        if scaler:
            stepper.precision.scaler.load_state_dict(scaler)


def _update(stepper: Stepper) -> None:
    """Move no weight; a gradient that is not finite would turn even that into nan."""
    norm = stepper.gradient_norm()
    if torch.isfinite(norm):
        stepper.update(norm)
    else:
        stepper.leave_out()


def _eval_batch(stepper: Stepper) -> float:
    x, y = next(stepper.data.primary.eval_batches("val", 1, stepper.training.eval_seed))
    return float(losses_of(stepper.model, x, y, stepper.training, stepper.precision).sum())


def _time(device: torch.device, *works: Callable[[], object]) -> list[float]:
    """Seconds of each call; short ones are repeated, and the median leaves out the first, which warms up."""
    rounds: list[list[float]] = []
    while not rounds or (sum(map(sum, rounds)) < BUDGET_S and len(rounds) < REPEATS):
        rounds.append([_seconds(device, work) for work in works])
    return [median(times) for times in zip(*(rounds[1:] or rounds), strict=True)]


def _seconds(device: torch.device, work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return time.perf_counter() - start
