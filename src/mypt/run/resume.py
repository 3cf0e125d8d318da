"""Going on with a recorded run: what may change, what may not, and everything rebuilt from the record."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mypt.checkpoint.changes import Change, changed_environment, changed_settings
from mypt.checkpoint.files import read_config, read_state
from mypt.checkpoint.layout import command, log_of, log_path, log_reference
from mypt.checkpoint.lineage import recorded_name
from mypt.checkpoint.manager import CheckpointManager
from mypt.data.integrity import sealed
from mypt.errors import BundleError, ConflictError, DeviceError, UsageError
from mypt.launch import Launch
from mypt.log.locate import check_appendable, check_recorded_log
from mypt.log.replay import latest_session
from mypt.log.writer import RunLog
from mypt.run.data.places import Places, moves
from mypt.run.data.recorded import recorded_data, recorded_text
from mypt.run.fork import own_identity
from mypt.schema.files.optimizer import REPLACED_SETTINGS
from mypt.schema.files.state import TrainingState
from mypt.schema.order.labels import united
from mypt.schema.resolve import resolve_section
from mypt.schema.settings.config import GPTConfig
from mypt.schema.settings.run import RunSettings
from mypt.schema.settings.training import TrainingConfig
from mypt.train.device.choices import kept_elsewhere, settle_choices, without_hardware
from mypt.train.device.devices import environment, resolve_device
from mypt.train.loop import Trainer
from mypt.train.observer import Observer
from mypt.train.optim.schedule import LIFT, falling, find_lift, keeping
from mypt.train.parallel.layout import placed, settle_parallel
from mypt.train.run_data import RunData
from mypt.train.session import assemble, open_session
from mypt.train.step import Earlier


@dataclass(frozen=True)
class Recorded:
    """The record that a session continues.

    Attributes:
        path: of the run's bundle, for messages.
        config: its architecture.
        state: its training state.
    """

    path: Path
    config: GPTConfig
    state: TrainingState

    def values(self) -> dict[str, Any]:
        """Every recorded setting by its field name."""
        config, state = self.config, self.state
        values: dict[str, Any] = {**config.model_dump(), **state.training_config.model_dump()}
        if state.optimizer is not None:
            values |= dict.fromkeys(REPLACED_SETTINGS, f"that of torch.optim.{state.optimizer.kind}")
        if state.data is not None:
            values["tokenization"] = state.data.tokenization
            if state.data.tokenization == "bpe":
                values["bpe_vocab_size"] = state.data.bpe_vocab_size
            masked = any(data.masked for data in (state.data, *(phase.data for phase in state.curriculum)))
            values |= {"sampling": state.data.sampling, "use_loss_mask": masked}
            if state.data.text_field is not None:
                values["text_field"] = state.data.text_field
            values["curriculum"] = [(p.name, p.until_iter) for p in state.curriculum] or None
        if state.log_file:
            values["log_file"] = state.log_file
        return values


@dataclass(frozen=True)
class Resumption:
    """What holds from here on.

    Attributes:
        training: the settings, recorded ones with those of the call over them.
        device: where to compute.
        asked: the settings that the call gives.
        changes: what differs from the record.
        log_file: the log to append to.
    """

    training: TrainingConfig
    device: str
    asked: frozenset[str]
    changes: list[Change]
    log_file: Path


def resume_session(
    manager: CheckpointManager,
    source: CheckpointManager,
    settings: RunSettings,
    command: tuple[str, ...],
    observer: Observer,
) -> Trainer:
    """A trainer that continues a bundle, with the training settings of the call over the recorded ones.

    Args:
        manager: the run; its name is saved under.
        source: the bundle to go on from: the run's own last one, or an earlier one to rewind to.
        settings: what the call gave.
        command: the words of the call, for the record.
        observer: notified of what changes.

    Raises:
        ConflictError: the call would change the architecture, the tokenizer or the data; all is listed.
        BundleError: the bundle is damaged or holds no optimizer state.
    """
    recorded = _read(manager, source, settings.output.log_file)
    going_on = _resolve(recorded, settings, command)
    device, launch = going_on.device, Launch.of()
    with observer.busy("Loading the model"):
        loaded = source.load()
        loaded.model.config = config = recorded.config.model_copy(update={"device": device})
        training = settle_choices(loaded.model, going_on.training, going_on.asked, resumed=True)
        training = settle_parallel(config, training, launch, brought=recorded.state.optimizer is not None)
        model = placed(loaded.model, training, launch)
    state = recorded.state.model_copy(update={"training_config": training})
    try:
        data = recorded_data(state, config, loaded.tokenizer, Places.of_call(settings), observer)
    except ConflictError:
        if tuple(command[1:2]) == ("train",) and (other := _other_text(settings, state)):
            raise _taken(manager.path, command, other) from None
        raise
    state = _with_data(state, data)
    now = environment(device, launch)
    exact = recorded.state.training_config.reduce == training.reduce == "exact"
    moved = [*moves(recorded.state, state), *changed_environment(state.environment, now, exact=exact)]
    _report(recorded, going_on, training, moved, observer)
    state = state.model_copy(
        update={
            "log_file": log_reference(going_on.log_file, manager.path),
            "tags": united(state.tags, settings.output.tag),
            "note": state.note if settings.output.note is None else settings.output.note or None,
            "attempt": max(state.attempt, latest_session(going_on.log_file, state.run_id)),
        }
    )
    state = open_session(state, training, now, config, data, command)
    log = RunLog(going_on.log_file, state.run_id, state.attempt)
    earlier = Earlier(source.load_optimizer, source.path)
    return assemble(model, data, state, observer, checkpoint=manager, log=log, restore=earlier)


def _read(manager: CheckpointManager, source: CheckpointManager, log: Path | None) -> Recorded:
    state = read_state(source.path)
    if state.optimizer_file is None:
        run = source.path.with_name(recorded_name(source.path, state).removesuffix("_fp16"))
        todo = f"Start a new run from its weights: `mypt train NEW --init-from-model {shlex.quote(str(source.path))}`."
        if run != source.path and run.is_dir():
            todo = f"Resume the run itself: `{command('resume', run)}`."
        raise BundleError(f"{source.path} holds no optimizer state, so training cannot go on from it.", todo)
    if log is None:
        check_recorded_log(source.path, state)
    return Recorded(manager.path, read_config(source.path), own_identity(source.path, manager.name, state, log))


def _resolve(recorded: Recorded, settings: RunSettings, words: Sequence[str]) -> Resumption:
    """The settings of the call over the recorded ones.

    Raises:
        ConflictError: listing every setting that a resume cannot change.
    """
    state, path = recorded.state, recorded.path
    given = {n: v for n, v in settings.values().items() if n in settings.given and (n, v) != ("device", "auto")}
    changes = changed_settings(recorded.values(), _comparable(given, path))
    if state.optimizer is not None:
        changes = [replace(c, meaning="refused") if c.name in REPLACED_SETTINGS else c for c in changes]
    if refused := [c for c in changes if c.meaning == "refused"]:
        lines = [f"{c.name}: recorded {c.recorded}, given {c.now} ({settings.given[c.name]})." for c in refused]
        raise _taken(path, words, [*lines, *_other_text(settings, state)])
    device, moved = _device(str(given.get("device", recorded.config.device)), explicit="device" in given)
    update = {n: v for n, v in given.items() if n in TrainingConfig.model_fields}
    training = resolve_section(TrainingConfig, {**state.training_config.model_dump(), **update})
    log_file = settings.output.log_file or log_of(path, state) or log_path(path.name)
    check_appendable(log_file)
    return Resumption(training, device, frozenset(given), [*changes, *moved], log_file)


def _taken(path: Path, words: Sequence[str], details: Sequence[str]) -> ConflictError:
    """The error on a call that means another run than the one that has its name; `words` are those of the call."""
    again = shlex.join([*words, "--fresh"]) if tuple(words[1:2]) == ("train",) else command("train", path, "--fresh")
    return ConflictError(
        f"The name {path.name} is taken: {path} exists and this call contradicts its record.",
        f"Leave these out to go on with it, choose another name, or start over with `{again}`, which keeps the old "
        "bundle.",
        details,
    )


def _with_data(state: TrainingState, data: RunData) -> TrainingState:
    """The state with its data as they were found, so that the next resume finds them there."""
    phases = zip(state.curriculum, data.phases, strict=True)
    return state.model_copy(
        update={
            "data": sealed(data.primary.record),
            "curriculum": tuple(was.model_copy(update={"data": sealed(now.loader.record)}) for was, now in phases),
            "eval_sets": {name: sealed(loader.record) for name, loader in data.eval_sets.items()},
        }
    )


def _report(
    recorded: Recorded, going_on: Resumption, training: TrainingConfig, moved: list[Change], observer: Observer
) -> None:
    """Report what is resumed and what differs from the record."""
    state = recorded.state
    observer.resuming(state.step, [*going_on.changes, *moved])
    notes = [
        without_hardware(training, going_on.device),
        kept_elsewhere(training, [change.name for change in moved], going_on.asked),
        _lift_note(state, training),
        state.inexact and f"In this run {state.inexact}, so this resume is not exact.",
    ]
    for note in filter(None, notes):
        observer.notice(note)


def _lift_note(state: TrainingState, training: TrainingConfig) -> str | None:
    """A sentence on a learning rate that rises again, and the options that let it stay or fall."""
    step = state.step
    lift = find_lift(state.settings_at(step - 1), training, step) if 0 < step < training.max_iters else None
    if lift is None:
        return None
    top = f", up to {lift.highest:.4g} at step {lift.highest_step:,}" if lift.highest > LIFT * lift.next else ""
    stay, fall = (
        " ".join(f"--{name.replace('_', '-')} {value}" for name, value in settings.items())
        for settings in (keeping(lift.last, training, step), falling(lift.last, training, step))
    )
    return (
        f"The learning rate rises again: it was {lift.last:.4g} at step {step:,} and is {lift.next:.4g} at step "
        f"{step + 1:,}{top}. To keep it where it was, add `{stay}`; to let it fall from there to 0, add `{fall}`."
    )


def _comparable(given: Mapping[str, Any], bundle: Path) -> dict[str, Any]:
    """Given values in the form in which `Recorded.values` has them."""
    values = dict(given)
    if "log_file" in values:
        values["log_file"] = log_reference(values["log_file"], bundle)
    if values.get("curriculum") is not None:
        values["curriculum"] = [(p.name, p.until_iter) for p in values["curriculum"].phases]
    return values


def _other_text(settings: RunSettings, state: TrainingState) -> list[str]:
    """A line if the call names another text than the recorded one."""
    if state.data is None or not settings.data.input_file:
        return []
    try:
        recorded_text(state.data, settings.data.input_file)
    except UsageError as error:
        return [f"input_file: {error.what}"]
    return []


def _device(name: str, explicit: bool) -> tuple[str, list[Change]]:
    """The device to go on with; a recorded one that this machine lacks is replaced, and that is a change."""
    try:
        return resolve_device(name), []
    except DeviceError:
        if explicit:
            raise
        device = resolve_device("auto")
        return device, [Change("device", name, device, "trajectory")]
