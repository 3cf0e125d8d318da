"""`mypt train` and `mypt resume`: start a run, or resume the one of this name."""

import time
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from mypt.checkpoint.family import Family, check_nothing_added, check_place, record_of, run_name
from mypt.checkpoint.files import read_state
from mypt.checkpoint.layout import check_spelling
from mypt.checkpoint.lock import locked, owner_file
from mypt.checkpoint.manager import CheckpointManager
from mypt.errors import ConflictError, ExportError
from mypt.launch import Launch
from mypt.run.archive import keep_copy, move_aside
from mypt.run.exchange.fp16 import Export, export_fp16
from mypt.run.fork import complete, settle
from mypt.run.parallel.share import Shared, restore, share_out
from mypt.run.resume import resume_session
from mypt.run.start import start_session
from mypt.schema.files.state import TrainingState
from mypt.schema.settings.run import RunSettings
from mypt.train.device.deterministic import settled
from mypt.train.device.devices import keep_freed_memory
from mypt.train.evaluation.patience import REASON, is_over, more
from mypt.train.loop import Trainer
from mypt.train.observer import Mirrored, Observer
from mypt.train.parallel.disk import saves_in_parts
from mypt.train.parallel.meeting import Meeting, meeting_of
from mypt.train.parallel.parts import is_sharded
from mypt.train.plan import Plan
from mypt.train.planning import check_room, plan_run
from mypt.train.stop import FitResult, StopNow, stop_on_signals


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
        patience: where that of the run is over, one to go on with; None where it is not.
    """

    path: Path
    step: int
    plan: Plan | None = None
    result: FitResult | None = None
    export: Export | None = None
    stopped: str | None = None
    patience: int | None = None


def train(call: Call, observer: Observer) -> Outcome:
    """Resolve, build, run, save: start a run, or resume the recorded one if the call does not contradict it.

    Raises:
        UsageError: the call, a setting or the text is wrong, or it contradicts the recorded run.
        BundleError: the recorded run cannot be read.
        StorageError: the disk refused.
    """
    keep_freed_memory()
    launch, manager = Launch.of(), _manager(call)
    with ExitStack() as held:
        if (meeting := held.enter_context(meeting_of(launch))) is not None:
            call = _started_anew(call, manager, meeting)
        observer = held.enter_context(Mirrored(observer, call.settings.output.mirror, call.name))
        if not call.dry_run:
            held.enter_context(locked(manager.path, observer.notice))
        recorded = manager.exists() and not call.fresh
        if recorded and not call.dry_run:
            complete(manager.family, observer)
        in_the_way = _in_the_way(call, manager, recorded)
        trainer = _build(call, manager, recorded, observer)
        if (nothing := _nothing_left(trainer.state, manager.path)) is not None:
            return nothing
        trainer.stop.began = call.began
        share_out(trainer, launch, meeting, _shared(trainer, call))
        limit = None if call.dry_run else trainer.stop
        plan = plan_run(trainer.stepper, manager.name, manager.path.parent, observer, limit)
        restore(trainer.stepper)
        observer.planned(plan)
        if call.dry_run:
            return Outcome(manager.path, trainer.state.step, plan)
        trainer.group.first(lambda: _make_room(call, plan, manager, in_the_way, recorded, observer))
        trainer.keeper.in_parts = saves_in_parts(trainer.stepper, observer, owner_file(manager.path))
        if meeting is not None:
            meeting.begin(str(trainer.state.run_id), trainer.state.attempt)
        trainer.state = settled(trainer.state, plan.deterministic)
        trainer.prepare(plan)
        with stop_on_signals(trainer.stop):
            result = trainer.run()
            patience = more(result.state) if result.stopped == REASON else None
            outcome = Outcome(manager.path, result.state.step, plan, result, None, result.stopped, patience)
            return outcome if result.stopped else _export(outcome, trainer, manager, observer)


def _nothing_left(state: TrainingState, path: Path) -> Outcome | None:
    """What comes of a call that finds its run at its last step, or with its patience over; None if there is work."""
    if state.evaluation_pending:
        return None
    if state.step >= state.training_config.max_iters:
        return Outcome(path, state.step)
    return Outcome(path, state.step, patience=more(state)) if is_over(state) else None


def _make_room(
    call: Call, plan: Plan, manager: CheckpointManager, in_the_way: list[Path], recorded: bool, observer: Observer
) -> None:
    """Prepare the places that the run writes; what is there and is not its own is moved aside."""
    check_room(plan, manager)
    if in_the_way:
        move_aside(manager.family, in_the_way, observer)
    if recorded or call.from_gold:
        settle(manager.family, plan.state, observer)
    if call.from_gold and manager.exists():
        keep_copy(manager.family, observer)


def _shared(trainer: Trainer, call: Call) -> Shared:
    stepper = trainer.stepper
    return Shared(call.name, stepper.model.config, stepper.data.primary.tokenizer.file, stepper.session, call.dry_run)


def _started_anew(call: Call, manager: CheckpointManager, meeting: Meeting) -> Call:
    """What the call means where torchrun has started the processes again: what the job has saved is gone on with."""
    begun = meeting.begun()
    if begun is None or not manager.exists():
        return call
    there, (run_id, attempt) = read_state(manager.path), begun
    is_own = there.run_id == run_id and there.attempt >= attempt
    return replace(call, fresh=False, from_gold=False) if is_own else call


def _manager(call: Call) -> CheckpointManager:
    """The bundle of the call's name.

    Raises:
        UsageError: it has to be there and is not.
        ConflictError: another run keeps its gold or fp16 bundle under this name.
    """
    out_dir = call.settings.output.out_dir
    if call.must_exist and not (call.from_gold and Family(out_dir / call.name).gold.exists()):
        manager = CheckpointManager.find(call.name, out_dir)
    else:
        manager = CheckpointManager(call.name, out_dir)
    check_spelling(manager.path)
    manager.family.check_free_for_a_run(fresh=call.fresh)
    return manager


def _in_the_way(call: Call, manager: CheckpointManager, recorded: bool) -> list[Path]:
    """What is at the places that the run writes and is not its own, but an earlier one's of this name.

    Raises:
        ConflictError: something else is there.
    """
    family = manager.family
    check_place(family.path)
    if call.from_gold:
        return family.check_own(_gold_of(manager).run_id)
    if recorded:
        check_nothing_added(family.path)
        return family.check_own(read_state(family.path).run_id)
    return [*filter(Path.exists, [family.path]), *family.check_own(None)]


def _build(call: Call, manager: CheckpointManager, recorded: bool, observer: Observer) -> Trainer:
    """The session of the call: the first of a new run, or one that resumes the last or the gold bundle."""
    if not recorded and not call.from_gold:
        return start_session(manager, call.settings, call.command, observer)
    source = manager.gold() if call.from_gold else manager
    return resume_session(manager, source, call.settings, call.command, observer)


def _gold_of(manager: CheckpointManager) -> TrainingState:
    """The record of a run's gold bundle, which may be all that is left of the run.

    Raises:
        UsageError: there is none.
        ConflictError: it is of another run.
    """
    gold = CheckpointManager.find(manager.gold().name, manager.path.parent)
    state, last = read_state(gold.path), record_of(manager.path)
    if run_name(gold.path) != manager.name if last is None else state.run_id != last.run_id:
        raise ConflictError(
            f"{gold.path} is not of the run that {manager.path} is of.", "Resume it under its own name instead."
        )
    return state


def _export(outcome: Outcome, trainer: Trainer, manager: CheckpointManager, observer: Observer) -> Outcome:
    """Make the fp16 bundle of a run that is complete; that it is refused or broken off costs the run nothing.

    Of a model in parts the bundle alone has all. A GPU may have no room for it, so its loss is not measured there.
    """
    before, primary = trainer.state.progress.last_val_loss, trainer.stepper.data.primary
    parts = is_sharded(trainer.stepper.model)
    model = manager.load().model if parts else trainer.stepper.model
    measured = None if parts and model.config.device != "cpu" else primary
    try:
        with observer.busy("Exporting fp16"), model.watched(trainer.stop.look):
            trainer.stop.look()
            export = export_fp16(model, primary.tokenizer, trainer.state, manager.fp16(), measured, before)
            return replace(outcome, export=export)
    except StopNow as stop:
        return replace(outcome, stopped=stop.reason)
    except ExportError as error:
        observer.notice(f"The fp16 bundle was not made: {error.what}")
        return outcome
