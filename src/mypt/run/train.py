"""`mypt train`: start a run, or go on with the one that has this name."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from mypt.checkpoint.manager import CheckpointManager
from mypt.data.loader import GPTDataLoader
from mypt.data.text import read_text
from mypt.model.gpt import GPT
from mypt.record.bundle import OPTIMIZER_FILE, log_path
from mypt.record.commit import move_aside
from mypt.record.log import RunLog
from mypt.record.plan import Plan
from mypt.run.build import build_tokenizer, check_room, fitting_vocab_size, plan_run
from mypt.run.export import Export, export_fp16
from mypt.run.resume import prepare_resume
from mypt.schema.errors import ExportError
from mypt.schema.resolve import resolve_settings
from mypt.schema.run import RunSettings
from mypt.schema.state import TrainingState
from mypt.train.devices import Precision, environment, resolve_device
from mypt.train.loop import FitResult, Trainer
from mypt.train.observer import Observer
from mypt.train.optimizer import build_optimizer


@dataclass(frozen=True)
class Call:
    """One call of `mypt train` or `mypt resume`.

    Attributes:
        name: the model.
        command_line: the settings given in the call, by field name.
        config_file: a flat JSON file of settings.
        preset: a shipped preset.
        fresh: start over although the name is taken; the old bundle is moved aside.
        dry_run: do everything up to one timed step, and write nothing.
        must_exist: the name has to be a recorded run.
    """

    name: str
    command_line: Mapping[str, Any]
    config_file: Path | None = None
    preset: str | None = None
    fresh: bool = False
    dry_run: bool = False
    must_exist: bool = False


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
    settings = resolve_settings(call.command_line, call.config_file, call.preset)
    out_dir = settings.output.out_dir
    manager_of = CheckpointManager.find if call.must_exist else CheckpointManager
    manager = manager_of(call.name, out_dir)
    going_on = manager.exists() and not call.fresh
    trainer = prepare_resume(manager, settings, observer) if going_on else _prepare(manager, settings, observer)
    if trainer.state.step >= trainer.training.max_iters:
        return Outcome(manager.path, None, None, None, trainer.state.step)
    plan = plan_run(trainer, manager.name, out_dir, observer)
    observer.planned(plan)
    if call.dry_run:
        return Outcome(manager.path, plan, None, None, trainer.state.step)
    check_room(plan, manager)
    if call.fresh:
        _move_old_aside(manager, trainer, observer)
    result = trainer.run()
    return Outcome(manager.path, plan, result, _export(trainer, manager, observer), result.state.step)


def _prepare(manager: CheckpointManager, settings: RunSettings, observer: Observer) -> Trainer:
    """Everything that a new run needs, built from its settings."""
    device = resolve_device(settings.model.device)
    with observer.busy("Reading the text"):
        text = read_text(settings.data.input_file)
    if not settings.data.input_file:
        observer.notice(f"No --input-file was given, so this trains on the {text.sources[0].path}.")
    with observer.busy(f"Tokenizing {len(text.content):,} characters ({settings.data.tokenization})"):
        tokenizer = build_tokenizer(settings.data, text)
        given = settings.model.vocab_size if "vocab_size" in settings.given else None
        vocab_size = fitting_vocab_size(tokenizer, given, settings.model.vocab_size)
        config = settings.model.model_copy(update={"vocab_size": vocab_size, "device": device})
        training = settings.training
        loader = GPTDataLoader(config, tokenizer, text=text, seed=training.seed)
    if tokenizer.kind == "bpe":
        loader.record = loader.record.model_copy(update={"bpe_vocab_size": settings.data.bpe_vocab_size})
    with observer.busy("Building the model"):
        model = GPT(config, training.seed).to(device)
    log_file = settings.output.log_file or log_path(manager.name)
    state = TrainingState(
        step=0,
        optimizer_file=OPTIMIZER_FILE,
        training_config=training,
        exact_resume=training.save_dtype == "fp32",
        model_dtype=training.save_dtype,
        data=loader.record,
        log_file=str(log_file),
        preset=settings.preset,
        config_file=str(settings.config_file) if settings.config_file else None,
        environment=environment(device),
    )
    optimizer = build_optimizer(model, training)
    precision = Precision.of(training, device)
    return Trainer(model, loader, optimizer, state, precision, observer, manager, RunLog(log_file))


def _move_old_aside(manager: CheckpointManager, trainer: Trainer, observer: Observer) -> None:
    """Rename what the name had before, bundles and log, so that a fresh start loses nothing."""
    suffix = f"{datetime.now():%Y%m%d-%H%M%S}"
    olds = [manager.path, manager.path.with_name(f"{manager.name}_fp16")]
    olds += [trainer.log.path] if trainer.log else []
    for old in olds:
        if old.exists():
            observer.notice(f"Moved {old} aside to {move_aside(old, suffix)}.")


def _export(trainer: Trainer, manager: CheckpointManager, observer: Observer) -> Export | None:
    """The fp16 bundle at the end of training; a refusal is told and costs the run nothing."""
    target = CheckpointManager(f"{manager.name}_fp16", manager.path.parent)
    try:
        with observer.busy("Exporting fp16"):
            before = trainer.state.progress.last_val_loss
            return export_fp16(trainer.model, trainer.loader.tokenizer, trainer.state, target, trainer.loader, before)
    except ExportError as error:
        observer.notice(f"The fp16 bundle was not made: {error.what}")
        return None
