"""What a run will take, measured and checked before its first step."""

import os
import shutil
from pathlib import Path

from mypt import units
from mypt.checkpoint.atomic import rehearse, storage_errors
from mypt.checkpoint.manager import CheckpointManager
from mypt.errors import ConfigError, StorageError
from mypt.launch import ALONE, Launch
from mypt.model.cost import disk_needed, parameter_count, training_memory
from mypt.schema.settings.config import GPTConfig
from mypt.schema.settings.training import TrainingConfig
from mypt.train.benchmark_step import time_step
from mypt.train.device.memory import memory_told
from mypt.train.evaluation.masks import long_conversations, mask_uses
from mypt.train.evaluation.measure import measured_beforehand
from mypt.train.observer import Observer
from mypt.train.plan import Plan
from mypt.train.step import Stepper
from mypt.train.stop import Stop, StopNow


def plan_run(stepper: Stepper, name: str, out_dir: Path, observer: Observer, stop: Stop | None = None) -> Plan:
    """Time one step and gather what the run will take.

    Args:
        stepper: takes the step.
        name: of the run.
        out_dir: where its bundles go.
        observer: who watches.
        stop: ends the timing where the time limit ends; None where the limit is of no interest.

    Raises:
        ConfigError: the time limit ends before the first step.
        ShortOfMemoryError: there is not enough memory for a step.
    """
    config, training = stepper.model.config, stepper.training
    if stop is None:
        stop = Stop()
    else:
        stop.limit(training.max_minutes, 0.0)
    try:
        with observer.busy("Timing one step"), stepper.watched(stop.look), memory_told(config, training):
            timing = time_step(stepper)
    except StopNow as ended:
        raise ConfigError(
            f"max_minutes {training.max_minutes} is over before the first step, which takes longer to be prepared.",
            "Give a larger --max-minutes, or a smaller model; nothing was changed.",
        ) from ended
    if training.deterministic and timing.deterministic is not None:
        observer.notice(f"This run is not deterministic, as it was set to be: {timing.deterministic.reason}.")
    batches = stepper.data.eval_batch_count(training.eval_iters)
    return Plan(
        name=name,
        state=stepper.session,
        config=config,
        parameters=parameter_count(config),
        precision=stepper.precision.name,
        memory_estimate=training_memory(config, training, stepper.group.size, stepper.shards),
        memory_measured=timing.peak_bytes,
        disk_needed=disk_needed(config, training),
        disk_free=_free_bytes(out_dir),
        step_s=timing.step_s,
        eval_s=-(-batches // stepper.group.size) * timing.eval_batch_s,
        beforehand=measured_beforehand(stepper.session, stepper.data.primary.record, config),
        masks=mask_uses(stepper.data),
        long=long_conversations(stepper.data),
        deterministic=timing.deterministic,
    )


def check_memory(config: GPTConfig, training: TrainingConfig, launch: Launch = ALONE) -> None:
    """Make sure that a model can be built on this machine, before it is tried.

    Raises:
        ConfigError: its training needs more than twice the memory that there is, were it shared out as far as it may.
    """
    shards = launch.size if training.parallel != "ddp" else 1
    there, needed = physical_memory(), training_memory(config, training, launch.size, shards)
    needed = max(needed, 4 * parameter_count(config))  # which the first process has, whatever the others have
    if there is not None and needed > 2 * there:
        raise ConfigError(
            f"Training this model needs about {units.size(needed)} of memory; this machine has {units.size(there)}.",
            "Choose a smaller n_layer, n_embd, vocab_size, batch_size or block_size.",
        )


def physical_memory() -> int | None:
    """Bytes of memory of this machine; None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def check_room(plan: Plan, manager: CheckpointManager) -> None:
    """Make sure, before the first step, that the bundles can be written, and those that are there replaced.

    Raises:
        StorageError: the folder cannot be written, a bundle cannot be replaced, or the disk has too little room.
    """
    with storage_errors(manager.path):
        manager.path.parent.mkdir(parents=True, exist_ok=True)
        probe = manager.path.with_name(f".{manager.name}.probe")
        probe.unlink(missing_ok=True)
        probe.touch(exist_ok=False)  # which follows no link
        probe.unlink()
    if plan.disk_needed > plan.disk_free:
        raise StorageError(
            f"The bundles of {plan.name} need {plan.disk_needed:,} bytes in {manager.path.parent}, "
            f"and {plan.disk_free:,} are free.",
            "Make room, or choose another disk with --out-dir.",
        )
    for path in manager.family.paths:
        rehearse(path)


def _free_bytes(folder: Path) -> int:
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
