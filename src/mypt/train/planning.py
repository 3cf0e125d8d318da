"""What a run will take, measured and checked before its first step."""

import shutil
from pathlib import Path

from mypt.checkpoint.atomic import rehearse, storage_errors
from mypt.checkpoint.manager import CheckpointManager
from mypt.errors import StorageError
from mypt.model.cost import disk_needed, parameter_count, training_memory
from mypt.train.benchmark_step import time_step
from mypt.train.evaluation.measure import measured_beforehand
from mypt.train.observer import Observer
from mypt.train.plan import Plan
from mypt.train.step import Stepper


def plan_run(stepper: Stepper, name: str, out_dir: Path, observer: Observer) -> Plan:
    """Time one step and gather what the run will take."""
    config, training = stepper.model.config, stepper.training
    with observer.busy("Timing one step"):
        timing = time_step(stepper)
    batches = stepper.data.eval_batch_count(training.eval_iters)
    return Plan(
        name=name,
        state=stepper.session,
        config=config,
        parameters=parameter_count(config),
        precision=training.amp_dtype if stepper.precision.enabled else "fp32",
        memory_estimate=training_memory(config, training),
        memory_measured=timing.peak_bytes,
        disk_needed=disk_needed(config, training),
        disk_free=_free_bytes(out_dir),
        step_s=timing.step_s,
        eval_s=batches * timing.eval_batch_s,
        beforehand=measured_beforehand(stepper.session, stepper.data.primary.record, config),
    )


def check_room(plan: Plan, manager: CheckpointManager) -> None:
    """Make sure, before the first step, that the bundles can be written, and those that are there replaced.

    Raises:
        StorageError: the folder cannot be written, a bundle cannot be replaced, or the disk has too little room.
    """
    with storage_errors(manager.path):
        manager.path.parent.mkdir(parents=True, exist_ok=True)
        probe = manager.path.with_name(f".{manager.name}.probe")
        probe.touch()
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
