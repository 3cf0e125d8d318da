"""How long a step takes on this machine, from one that is really taken and then undone."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch

from mypt.train.devices import peak_memory
from mypt.train.loop import Trainer
from mypt.train.optimizer import build_optimizer

REPEAT_BELOW_S = 0.5
REPEATS = 5


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
    """Time one micro-batch, one update and one batch of evaluation; the trainer is left as it was."""
    weights = {n: w.clone() for n, w in trainer.model.state_dict().items()}
    optimizer, scaler = trainer.optimizer, trainer.precision.scaler.state_dict()
    trainer.optimizer = build_optimizer(trainer.model, trainer.training)
    trainer.model.train()
    try:
        micro_s = _time(trainer, lambda: trainer.micro_step(trainer.state.step, 0))
        update_s = _time(trainer, trainer.update)
        eval_s = _time(trainer, lambda: _eval_batch(trainer))
        step_s = trainer.training.grad_accum_steps * micro_s + update_s
        return Timing(step_s, eval_s, peak_memory(str(trainer.model.device)))
    finally:
        trainer.optimizer.zero_grad(set_to_none=True)
        trainer.optimizer = optimizer
        trainer.model.load_state_dict(weights)
        if scaler:
            trainer.precision.scaler.load_state_dict(scaler)


def _eval_batch(trainer: Trainer) -> float:
    x, y = next(trainer.loader.eval_batches("val", 1))
    with torch.no_grad(), trainer.precision.autocast():
        return float(trainer.model.loss(x.to(trainer.model.device), y.to(trainer.model.device)))


def _time(trainer: Trainer, work: Callable[[], object]) -> float:
    """Seconds of one call; a short one is repeated and its median taken, since the first warms up."""
    times: list[float] = []
    while not times or (times[0] < REPEAT_BELOW_S and len(times) < REPEATS):
        start = time.perf_counter()
        work()
        if trainer.model.device.type == "cuda":
            torch.cuda.synchronize(trainer.model.device)
        times.append(time.perf_counter() - start)
    return median(times)
