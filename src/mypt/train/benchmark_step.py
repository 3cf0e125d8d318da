"""How long a step takes on this machine, from one that is really taken and then undone."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from statistics import median

import torch
from torch import Tensor

from mypt.data.loader import Batch
from mypt.model.cost import rows_at_once
from mypt.train.device.choices import Choice
from mypt.train.device.deterministic import decide, in_order, refusal, unavailable, ways_to_compute
from mypt.train.device.devices import peak_memory
from mypt.train.device.memory import memory_told
from mypt.train.evaluation.evaluate import losses_of
from mypt.train.optim.optimizer import AdamW, Optimizer, build_optimizer
from mypt.train.parallel.parts import is_sharded, put_aside
from mypt.train.step import Stepper

BUDGET_S = 2.0
LONG_S = 4.0
"""Seconds of a micro-batch from which on a part of it is timed."""
REPEATS = 6


@dataclass(frozen=True)
class Timing:
    """Measured seconds and bytes.

    Attributes:
        step_s: one optimizer step, all its micro-batches included.
        eval_batch_s: one batch of an evaluation.
        peak_bytes: the most memory held so far; None where the system does not tell.
        deterministic: whether a GPU is to compute the same each time; None where the settings say so already.
    """

    step_s: float
    eval_batch_s: float
    peak_bytes: int | None
    deterministic: Choice | None = None


def time_step(stepper: Stepper) -> Timing:
    """Time one micro-batch, one update and one batch of evaluation; nothing of the session changes.

    The update is that of another optimizer at a learning rate of 0, so that no weight moves and none has to be kept.
    Beside its moments there are no others: the session's own have none yet, not before `Stepper.restore`.
    """
    of_each = _of_each(stepper)
    adding_s = _seconds(stepper.model.device, lambda: _add_up(stepper))
    return Timing(
        max(timing.step_s for timing in of_each) + adding_s,
        max(timing.eval_batch_s for timing in of_each),
        of_each[stepper.group.rank].peak_bytes,
        min((timing.deterministic for timing in of_each), key=lambda choice: choice is not None and choice.on),
    )


def _of_each(stepper: Stepper) -> list[Timing]:
    """What each process measures; with weights in parts they measure together, and an error there ends all."""
    group = stepper.group
    if not is_sharded(stepper.model):
        return group.each(lambda: _of_this_process(stepper))
    with group.passing():
        return group.gathered(_of_this_process(stepper))


def _of_this_process(stepper: Stepper) -> Timing:
    device, training = str(stepper.model.device), stepper.training
    try:
        with memory_told(stepper.model.config, training):
            timing = _timed(stepper, ways_to_compute(training, device))
        return replace(timing, deterministic=timing.deterministic or unavailable(training, device))
    except RuntimeError as error:
        if (refused := refusal(error)) is None:
            raise
    return replace(_timed(stepper, (False,)), deterministic=Choice(False, refused))


def _timed(stepper: Stepper, ways: tuple[bool, ...]) -> Timing:
    """Time a step in the way, or the two ways, in which a GPU may compute; what is told is that of the chosen one."""
    scaler = stepper.precision.scaler.state_dict()
    probe = replace(stepper, optimizer=_stand_in(stepper), check=None)
    for group in probe.optimizer.param_groups:
        group["lr"] = 0.0
    step, counted = stepper.session.step, stepper.tokens_per_step
    batch = stepper.data.phase_at(step).loader.batch(0)
    stepper.model.train()
    try:
        rows = _rows_to_time(probe, step, batch, counted)
        part, times_more = (batch[0][:rows], batch[1][:rows]), len(batch[0]) / rows
        works = (
            lambda: probe.micro_step(step, 0, part, counted),
            lambda: _update(probe, ahead=stepper.check is not None),
            lambda: _eval_batch(probe, rows),
        )
        todo = [partial(_in_order, way, work) for way in ways for work in works]
        times = _time(stepper.model.device, *todo, agreed=_agreement(stepper))
        parts = {way: times[3 * i : 3 * i + 3] for i, way in enumerate(ways)}
        step_s = {way: len(stepper.share) * times_more * micro + update for way, (micro, update, _) in parts.items()}
        choice = decide(step_s) if len(ways) > 1 else None
        way = ways[0] if choice is None else choice.on
        return Timing(step_s[way], times_more * parts[way][2], peak_memory(str(stepper.model.device)), choice)
    finally:
        probe.optimizer.zero_grad(set_to_none=True)
        if scaler:
            stepper.precision.scaler.load_state_dict(scaler)


def _rows_to_time(stepper: Stepper, step: int, batch: Batch, counted: int) -> int:
    """Windows of a micro-batch to time: all, or where that takes long, as many as go through the model together.

    Those are what a micro-batch is made of, one after another, so that it takes so many times as long.
    """
    size, rows = len(batch[0]), rows_at_once(stepper.model.config, stepper.training)
    if rows >= size:
        return size
    part = batch[0][:rows], batch[1][:rows]
    first = _seconds(stepper.model.device, lambda: stepper.micro_step(step, 0, part, counted))
    return rows if _agreement(stepper)(first * size / rows > LONG_S) else size


def _agreement(stepper: Stepper) -> Callable[[bool], bool]:
    """What comes of it that this process has measured enough: with weights in parts all end when the first has."""
    if is_sharded(stepper.model):
        return lambda enough: stepper.group.summed([enough])[0] > 0
    return bool


def _in_order(way: bool, work: Callable[[], object]) -> None:
    with in_order(way):
        work()


class _OneByOne(AdamW):
    """Moves tensor after tensor, each with moments that are gone before the next one has its own."""

    def step(self, lr: float, weight_decay: float, nonfinite: Tensor | None = None) -> None:
        """Move the tensors that have gradients."""
        for p in self.params:
            if p.grad is not None:
                AdamW([p], self.betas).step(lr, weight_decay, nonfinite)


def _stand_in(stepper: Stepper) -> Optimizer:
    """What is stepped in place of the session's optimizer, which may be a caller's own that has moments already."""
    own, training = stepper.optimizer, stepper.training
    if isinstance(own, Optimizer) or not own.state_dict()["state"]:
        return build_optimizer(stepper.model, training)
    params = [p for group in own.param_groups for p in group["params"]]
    rule = _OneByOne(params, (training.beta1, training.beta2))
    return Optimizer([{"rule": rule, "params": params, "lr": training.learning_rate, "weight_decay": 0.0}])


def _update(stepper: Stepper, ahead: bool) -> None:
    """Move no weight; a gradient that is not finite would turn even that into nan.

    Where steps are to be launched `ahead` of their results, the device decides by itself, which may take more memory.
    """
    norm = stepper.gradient_norm()
    if torch.isfinite(norm):
        stepper.update(norm, nonfinite=torch.zeros_like(norm) if ahead else None)
    else:
        stepper.leave_out()


def _add_up(stepper: Stepper) -> None:
    """Add up the gradients of all processes, which are zeros; with weights in parts that was done on the way."""
    if stepper.group.size > 1 and not is_sharded(stepper.model):
        stepper.reduction().finish(failed=True)
        stepper.forget()


def _eval_batch(stepper: Stepper, rows: int) -> float:
    x, y = next(stepper.data.primary.eval_batches("val", 1, stepper.training.eval_seed))
    loss = float(losses_of(stepper.model, x[:rows], y[:rows], stepper.training, stepper.precision).sum())
    put_aside(stepper.model)
    return loss


def _time(device: torch.device, *works: Callable[[], object], agreed: Callable[[bool], bool] = bool) -> list[float]:
    """Seconds of each call, in turn; short ones are repeated, and the median leaves out the first, which warms up."""
    rounds: list[list[float]] = []
    while not rounds or not agreed(sum(map(sum, rounds)) >= BUDGET_S or len(rounds) == REPEATS):
        rounds.append([_seconds(device, work) for work in works])
    return [median(times) for times in zip(*(rounds[1:] or rounds), strict=True)]


def _seconds(device: torch.device, work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return time.perf_counter() - start
