"""`mypt train`: start a run, or go on with the one that has this name."""

import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from mypt.checkpoint.archive import archived_log_path, copy_bundle, log_of_run, move_bundle
from mypt.checkpoint.atomic import copy_file, rename_noreplace
from mypt.checkpoint.files import read_state
from mypt.checkpoint.layout import log_path, log_reference
from mypt.checkpoint.lock import locked
from mypt.checkpoint.manager import CheckpointManager
from mypt.errors import ConflictError, ExportError
from mypt.log.reader import RunLog
from mypt.model.network import Network
from mypt.run.data import open_data, phase_records
from mypt.run.export import Export, export_fp16
from mypt.run.parent import inherited_config, load_parent
from mypt.run.plan import check_room, plan_run
from mypt.run.resume import prepare_resume
from mypt.schema.settings.run import RunSettings
from mypt.train.device.choices import settle_choices, without_hardware
from mypt.train.device.devices import Precision, environment, keep_freed_memory, resolve_device
from mypt.train.freezing import apply_settings, check_freezing
from mypt.train.loop import FitResult, Trainer
from mypt.train.observer import Observer
from mypt.train.optim.optimizer import build_optimizer
from mypt.train.plan import Plan
from mypt.train.session import first_state, open_session
from mypt.train.stop import stop_on_signals


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
        plan: what was planned; None if there was nothing left to do.
        result: the training; None after a dry run or if there was nothing left to do.
        export: the fp16 bundle; None if it was not made.
        step: the step that the bundle is at.
    """

    path: Path
    plan: Plan | None
    result: FitResult | None
    export: Export | None
    step: int


def train(call: Call, observer: Observer) -> Outcome:
    """Start the run, or go on with the recorded one if nothing in the call contradicts it.

    Raises:
        UsageError: the call, a setting or the text is wrong, or it contradicts the recorded run.
        BundleError: the recorded run cannot be read.
        StorageError: the disk refused.
    """
    keep_freed_memory()
    settings, out_dir = call.settings, call.settings.output.out_dir
    manager_of = CheckpointManager.find if call.must_exist else CheckpointManager
    manager = manager_of(call.name, out_dir)
    _refuse_gold(manager)
    going_on = manager.exists() and not call.fresh
    with ExitStack() as held:
        if going_on and not call.dry_run:  # nobody else may move the bundle while it is read and gone on with
            held.enter_context(locked(manager.path, observer.notice, *manager.family()))
        if going_on:
            source = _gold_of(manager) if call.from_gold else None
            trainer = prepare_resume(manager, settings, call.command, observer, source)
        else:
            trainer = _prepare(manager, settings, call, observer)
        return _carry_out(call, trainer, manager, held, observer)


def _carry_out(
    call: Call, trainer: Trainer, manager: CheckpointManager, held: ExitStack, observer: Observer
) -> Outcome:
    """Plan, train, export."""
    going_on = trainer.state.step > 0
    if trainer.state.step >= trainer.training.max_iters:
        return Outcome(manager.path, None, None, None, trainer.state.step)
    plan = plan_run(trainer, manager.name, manager.path.parent, observer)
    observer.planned(plan)
    if call.dry_run:
        return Outcome(manager.path, plan, None, None, trainer.state.step)
    check_room(plan, manager)
    if not going_on:
        held.enter_context(locked(manager.path, observer.notice, *manager.family()))
    if call.fresh:
        _move_old_aside(manager, trainer, observer)
    elif not going_on and manager.exists():
        raise ConflictError(f"Another process has made {manager.path} meanwhile.", "Choose another name.")
    if call.from_gold:
        _keep_copy(manager, trainer, observer)
    trainer.settle_compile(plan.training_s)
    trainer.stop.began = call.began
    with stop_on_signals(trainer.stop):
        result = trainer.run()
    export = None if result.stopped else _export(trainer, manager, observer)
    return Outcome(manager.path, plan, result, export, result.state.step)


def _prepare(manager: CheckpointManager, settings: RunSettings, call: Call, observer: Observer) -> Trainer:
    """Everything that a new run needs, built from its settings."""
    device, training, config = resolve_device(settings.model.device), settings.training, settings.model
    parent = None
    if training.init_from_model is not None:
        with observer.busy(f"Loading {training.init_from_model}"):
            parent = load_parent(training.init_from_model, manager.path.parent)
        if Path(parent.record.path) in (p.absolute() for p in (manager.path, *manager.family())):
            raise ConflictError(
                f"{parent.record.path} would be set aside or replaced by the run that is to start from it.",
                "Give the new run a name of its own.",
            )
        config = inherited_config(settings, parent)
    config = config.model_copy(update={"device": device})
    check_freezing(config, training)
    opened = open_data(settings, config, parent.loaded.tokenizer if parent else None, observer)
    with observer.busy("Building the model"):
        model = Network(opened.config, training.seed)
        if parent is not None:
            parent.give_weights(model)
            observer.notice(f"Starting from {parent.record.name} at step {parent.record.step}.")
        model.to(device)
    with observer.busy("Measuring what half precision brings"):
        training = settle_choices(model, training, settings.given)
    apply_settings(model, training)
    if note := without_hardware(training, device):
        observer.notice(note)
    log_file = settings.output.log_file or log_path(manager.name)
    state = first_state(training, opened.data, log_reference(log_file, manager.path)).model_copy(
        update={
            "curriculum": phase_records(opened.data, settings.data),
            "parent": parent.record if parent else None,
            "preset": settings.preset,
            "config_file": str(settings.config_file) if settings.config_file else None,
        }
    )
    state = open_session(state, training, environment(device), call.command)
    log = RunLog(log_file, state.run_id, state.attempt)
    optimizer, precision = build_optimizer(model, training), Precision.of(training, device)
    return Trainer(model, opened.data, optimizer, state, precision, observer, manager, log)


def _refuse_gold(manager: CheckpointManager) -> None:
    """A gold bundle belongs to its run: training under its name would replace the best model by a later one.

    Raises:
        ConflictError: the name is that of another run's gold bundle.
    """
    run = manager.name.removesuffix("_gold")
    if run != manager.name and manager.path.with_name(run).is_dir():
        raise ConflictError(
            f"{manager.path} is the gold bundle of {run}, and training would replace it.",
            f"Rewind the run with `mypt resume {run} --from gold`, or choose another name.",
        )


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


def _move_old_aside(manager: CheckpointManager, trainer: Trainer, observer: Observer) -> None:
    """Rename what the name had before, bundles and log, so that a fresh start loses nothing."""
    kept = _aside(manager)
    log = trainer.log.path if trainer.log else log_path(manager.name)
    kept_log = archived_log_path(log, manager.name, kept.name)
    for old, new in zip((manager.path, *manager.family()), (kept.path, *kept.family()), strict=True):
        if old.exists():
            own_log = log_of_run(old) or log
            move_bundle(old, new, kept_log if own_log.absolute() == log.absolute() else own_log)
            observer.notice(f"Moved {old} aside to {new}.")
    if log.exists():
        rename_noreplace(log, kept_log)
        observer.notice(f"Moved {log} aside to {kept_log}.")


def _keep_copy(manager: CheckpointManager, trainer: Trainer, observer: Observer) -> None:
    """Keep the last bundle and the log as they are under a name of their own, before a rewind goes on from gold."""
    kept = _aside(manager)
    log = trainer.log.path if trainer.log else log_path(manager.name)
    kept_log = archived_log_path(log, manager.name, kept.name)
    if log.exists():
        copy_file(log, kept_log)
    copy_bundle(manager.path, kept.path, kept_log)
    observer.notice(f"Kept a copy of {manager.path} in {kept.path}.")


def _aside(manager: CheckpointManager) -> CheckpointManager:
    return CheckpointManager(f"{manager.name}_{datetime.now():%Y%m%d-%H%M%S}", manager.path.parent)


def _export(trainer: Trainer, manager: CheckpointManager, observer: Observer) -> Export | None:
    """The fp16 bundle at the end of training; a refusal is told and costs the run nothing."""
    target = manager.fp16()
    try:
        with observer.busy("Exporting fp16"):
            before = trainer.state.progress.last_val_loss
            primary = trainer.data.primary
            return export_fp16(trainer.model, primary.tokenizer, trainer.state, target, primary, before)
    except ExportError as error:
        observer.notice(f"The fp16 bundle was not made: {error.what}")
        return None
