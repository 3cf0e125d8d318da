"""How long a step takes on this machine, from one that is really taken and then undone."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch

from mypt.train.device.devices import peak_memory
from mypt.train.evaluate import losses_of
from mypt.train.loop import Trainer
from mypt.train.optim.optimizer import build_optimizer

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


def time_step(trainer: Trainer) -> Timing:
    """Time one micro-batch, one update and one batch of evaluation; the trainer is left as it was.

    The update is that of another optimizer at a learning rate of 0, so that no weight moves and none has to be kept.
    """
    optimizer, scaler = trainer.optimizer, trainer.precision.scaler.state_dict()
    trainer.optimizer = build_optimizer(trainer.model, trainer.training)
    for group in trainer.optimizer.param_groups:
        group["lr"] = 0.0
    batch, counted = trainer.data.phase_at(trainer.state.step).loader.batch(0), trainer.tokens_per_step
    trainer.model.train()
    try:
        micro_s, update_s, eval_s = _time(
            trainer,
            lambda: trainer.micro_step(trainer.state.step, 0, batch, counted),
            lambda: _update(trainer),
            lambda: _eval_batch(trainer),
        )
        step_s = trainer.training.grad_accum_steps * micro_s + update_s
        return Timing(step_s, eval_s, peak_memory(str(trainer.model.device)))
    finally:
        trainer.optimizer.zero_grad(set_to_none=True)
        trainer.optimizer = optimizer
        if scaler:
            trainer.precision.scaler.load_state_dict(scaler)


def _update(trainer: Trainer) -> None:
    """Move no weight; a gradient that is not finite would turn even that into nan."""
    norm = trainer.gradient_norm()
    if torch.isfinite(norm):
        trainer.update(norm)


def _eval_batch(trainer: Trainer) -> float:
    x, y = next(trainer.data.primary.eval_batches("val", 1))
    return float(losses_of(trainer.model, x, y, trainer.precision).sum())


def _time(trainer: Trainer, *works: Callable[[], object]) -> list[float]:
    """Seconds of each call; short ones are repeated, and the median leaves out the first, which warms up."""
    rounds: list[list[float]] = []
    while not rounds or (sum(map(sum, rounds)) < BUDGET_S and len(rounds) < REPEATS):
        rounds.append([_seconds(trainer, work) for work in works])
    return [median(times) for times in zip(*(rounds[1:] or rounds), strict=True)]


def _seconds(trainer: Trainer, work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    if trainer.model.device.type == "cuda":
        torch.cuda.synchronize(trainer.model.device)
    return time.perf_counter() - start
