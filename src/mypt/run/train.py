"""`mypt train` and `mypt resume`: start a run, or resume the one of this name."""

import time
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from mypt.checkpoint.files import read_state
from mypt.checkpoint.layout import log_path
from mypt.checkpoint.lock import locked
from mypt.checkpoint.manager import CheckpointManager
from mypt.errors import ConflictError, ExportError
from mypt.run.archive import copy_run, move_run
from mypt.run.export import Export, export_fp16
from mypt.run.plan import check_room, plan_run
from mypt.run.resume import resume_session
from mypt.run.start import start_session
from mypt.schema.settings.run import RunSettings
from mypt.train.device.devices import keep_freed_memory
from mypt.train.loop import FitResult, Trainer
from mypt.train.observer import Observer
from mypt.train.plan import Plan
from mypt.train.stop import StopNow, stop_on_signals


@dataclass(frozen=True)
class Call:
    """One call of `mypt train` or `mypt resume`.

    Attributes:
        name: the model.
        settings: of the call, resolved.
        fresh: start over although the name is taken; the old bundle is moved aside.
        dry_run: do everything up to one timed step, and write nothing.
        must_exist: the name has to be a recorded run.
        from_gold: rewind to the run's gold bundle and go on from there under the same name.
        command: the words of the call, for the record.
        began: when it began, by `time.perf_counter`.
    """

    name: str
    settings: RunSettings
    fresh: bool = False
    dry_run: bool = False
    must_exist: bool = False
    from_gold: bool = False
    command: tuple[str, ...] = ()
    began: float = field(default_factory=time.perf_counter)


@dataclass(frozen=True)
class Outcome:
    """What a call of `mypt train` or `mypt resume` came to.

    Attributes:
        path: the bundle.
        step: the step that the bundle is at.
        plan: what was planned; None if there was nothing left to do.
        result: the training; None after a dry run or if there was nothing left to do.
        export: the fp16 bundle; None if it was not made.
        stopped: why the session or the export at its end was broken off; None if neither was.
    """

    path: Path
    step: int
    plan: Plan | None = None
    result: FitResult | None = None
    export: Export | None = None
    stopped: str | None = None


def train(call: Call, observer: Observer) -> Outcome:
    """Resolve, build, run, save: start a run, or resume the recorded one if the call does not contradict it.

    Raises:
        UsageError: the call, a setting or the text is wrong, or it contradicts the recorded run.
        BundleError: the recorded run cannot be read.
        StorageError: the disk refused.
    """
    keep_freed_memory()
    manager = _manager(call)
    recorded = manager.exists() and not call.fresh
    with ExitStack() as held:
        if recorded and not call.dry_run:  # no other process may move the bundle while it is read and resumed
            held.enter_context(locked(manager.path, observer.notice, *manager.family()))
        trainer = _build(call, manager, recorded, observer)
        if trainer.state.step >= trainer.training.max_iters and not trainer.state.evaluation_pending:
            return Outcome(manager.path, trainer.state.step)
        plan = plan_run(trainer.stepper, manager.name, manager.path.parent, observer)
        observer.planned(plan)
        if call.dry_run:
            return Outcome(manager.path, trainer.state.step, plan)
        check_room(plan, manager)
        if not recorded:
            held.enter_context(locked(manager.path, observer.notice, *manager.family()))
        _keep_what_was_there(call, manager, trainer, recorded, observer)
        trainer.compile_for(plan.training_s)
        trainer.stop.began = call.began
        trainer.expect(plan)
        with stop_on_signals(trainer.stop):
            result = trainer.run()
            outcome = Outcome(manager.path, result.state.step, plan, result, stopped=result.stopped)
            return outcome if result.stopped else _export(outcome, trainer, manager, observer)


def _manager(call: Call) -> CheckpointManager:
    """The bundle of the call's name; a gold bundle belongs to its run, and training would replace the best model.

    Raises:
        UsageError: it has to be there and is not.
        ConflictError: the name is that of another run's gold bundle.
    """
    find = CheckpointManager.find if call.must_exist else CheckpointManager
    manager = find(call.name, call.settings.output.out_dir)
    run = manager.name.removesuffix("_gold")
    if run != manager.name and manager.path.with_name(run).is_dir():
        raise ConflictError(
            f"{manager.path} is the gold bundle of {run}, and training would replace it.",
            f"Rewind the run with `mypt resume {run} --from gold`, or choose another name.",
        )
    return manager


def _build(call: Call, manager: CheckpointManager, recorded: bool, observer: Observer) -> Trainer:
    """The session of the call: the first of a new run, or one that resumes the last or the gold bundle."""
    if not recorded:
        return start_session(manager, call.settings, call.command, observer)
    source = _gold_of(manager) if call.from_gold else manager
    return resume_session(manager, source, call.settings, call.command, observer)


def _gold_of(manager: CheckpointManager) -> CheckpointManager:
    """The gold bundle of a run.

    Raises:
        ConflictError: the name's bundle and its gold are not of the same run.
    """
    gold = CheckpointManager.find(f"{manager.name}_gold", manager.path.parent)
    if read_state(gold.path).run_id != read_state(manager.path).run_id:
        raise ConflictError(
            f"{gold.path} is not of the run that {manager.path} is of.", "Resume it under its own name instead."
        )
    return gold


def _keep_what_was_there(
    call: Call, manager: CheckpointManager, trainer: Trainer, recorded: bool, observer: Observer
) -> None:
    """Set the name's earlier run aside for a fresh start, and keep a copy of the last step before a rewind."""
    log = trainer.log.path if trainer.log else log_path(manager.name)
    if call.fresh:
        move_run(manager, log, observer)
    elif not recorded and manager.exists():
        raise ConflictError(f"Another process has made {manager.path} meanwhile.", "Choose another name.")
    if call.from_gold:
        copy_run(manager, log, observer)


def _export(outcome: Outcome, trainer: Trainer, manager: CheckpointManager, observer: Observer) -> Outcome:
    """Make the fp16 bundle of a run that is complete; that it is refused or broken off costs the run nothing."""
    before, primary = trainer.state.progress.last_val_loss, trainer.stepper.data.primary
    model = trainer.stepper.model
    try:
        with observer.busy("Exporting fp16"), model.watched(trainer.stop.look):
            trainer.stop.look()
            export = export_fp16(model, primary.tokenizer, trainer.state, manager.fp16(), primary, before)
            return replace(outcome, export=export)
    except StopNow as stop:
        return replace(outcome, stopped=stop.reason)
    except ExportError as error:
        observer.notice(f"The fp16 bundle was not made: {error.what}")
        return outcome
