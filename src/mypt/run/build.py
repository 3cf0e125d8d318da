"""From settings to the things that train: text, tokenizer, model, data, and the timed plan."""

import shutil
from pathlib import Path

from mypt.checkpoint.manager import CheckpointManager
from mypt.data.text import STDIN, Text, is_sample, read_text
from mypt.data.tokenizer import Tokenizer
from mypt.record.commit import storage_errors
from mypt.record.plan import Plan
from mypt.schema.arithmetic import disk_needed, parameter_count, training_memory
from mypt.schema.errors import ConfigError, ConflictError, InputError, StorageError
from mypt.schema.run import DataConfig
from mypt.schema.state import DataRecord
from mypt.train.loop import Trainer
from mypt.train.observer import Observer
from mypt.train.timing import time_step


def build_tokenizer(data: DataConfig, text: Text) -> Tokenizer:
    """The tokenizer that the settings name, trained on the text where it needs to be."""
    if data.tokenization == "gpt2":
        return Tokenizer.gpt2()
    if data.tokenization == "char":
        return Tokenizer.char(text.content)
    return Tokenizer.train_bpe(text.content, data.bpe_vocab_size)


def fitting_vocab_size(tokenizer: Tokenizer, given: int | None, default: int) -> int:
    """The embedding's rows: as given, else the default for gpt2 and the tokenizer's own size for the rest.

    Raises:
        ConfigError: fewer were given than the tokenizer has tokens.
    """
    if given is None:
        return default if tokenizer.kind == "gpt2" else tokenizer.vocab_size
    if given < tokenizer.vocab_size:
        raise ConfigError(
            f"vocab_size {given} is smaller than the {tokenizer.vocab_size} tokens of the {tokenizer.kind} tokenizer.",
            "Leave vocab_size out, or give at least that many.",
        )
    return given


def recorded_text(record: DataRecord | None, given: tuple[str, ...]) -> Text:
    """The text of a recorded run, read again from where the record says, or from `given`, and checked.

    Raises:
        InputError: it cannot be found.
        ConflictError: it is another text than the recorded one.
    """
    if record is None:
        raise InputError("The record does not say which text this model was trained on.", "Train a new model.")
    paths = given or tuple(s.path for s in record.sources)
    if not given and (not paths or STDIN in paths):
        raise InputError(
            "The text of this run came from standard input or from memory and cannot be read again.",
            "Give the same text by --input-file.",
        )
    text = read_text([p for p in paths if not is_sample(p)])
    if text.fingerprint != record.fingerprint:
        raise ConflictError(
            f"The text of {', '.join(s.path for s in text.sources)} is not the one that this run was trained on: "
            f"its SHA-256 is {text.fingerprint[:12]}… instead of {record.fingerprint[:12]}….",
            "Give the recorded text by --input-file, or train a new model on the changed one.",
        )
    return text


def plan_run(trainer: Trainer, name: str, out_dir: Path, observer: Observer) -> Plan:
    """Time one step and gather what the run will take."""
    loader, config, training = trainer.loader, trainer.model.config, trainer.training
    with observer.busy("Timing one step"):
        timing = time_step(trainer)
    batches = sum(loader.eval_batch_count(s, training.eval_iters) for s in ("train", "val"))
    return Plan(
        name=name,
        data=loader.record,
        config=config,
        training=training,
        first_step=trainer.state.step,
        parameters=parameter_count(config),
        precision=training.amp_dtype if trainer.precision.enabled else "fp32",
        memory_estimate=training_memory(config),
        memory_measured=timing.peak_bytes,
        disk_needed=disk_needed(config, training),
        disk_free=_free_bytes(out_dir),
        step_s=timing.step_s,
        eval_s=batches * timing.eval_batch_s,
    )


def check_room(plan: Plan, manager: CheckpointManager) -> None:
    """Make sure, before the first step, that the bundles can be written.

    Raises:
        StorageError: the folder cannot be written, or the disk has too little room.
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


def _free_bytes(folder: Path) -> int:
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
