"""Going on with a recorded run: what may change, what may not, and everything rebuilt from the record."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mypt.checkpoint.changes import Change, changed_environment, changed_settings
from mypt.checkpoint.files import read_config, read_state
from mypt.checkpoint.layout import log_of, log_path, log_reference
from mypt.checkpoint.manager import CheckpointManager, Loaded
from mypt.data.text import source_path
from mypt.errors import BundleError, ConflictError, DeviceError, UsageError
from mypt.log.reader import RunLog, latest_attempt
from mypt.model.network import Network
from mypt.run.data import recorded_data, recorded_text
from mypt.schema.files.state import TrainingState
from mypt.schema.resolve import resolve_section
from mypt.schema.settings.config import GPTConfig
from mypt.schema.settings.run import RunSettings
from mypt.schema.settings.training import TrainingConfig
from mypt.train.device.choices import kept_elsewhere, settle_choices, without_hardware
from mypt.train.device.devices import Precision, environment, resolve_device
from mypt.train.freezing import apply_settings
from mypt.train.loop import Trainer
from mypt.train.observer import Observer
from mypt.train.optim.optimizer import build_optimizer
from mypt.train.run_data import RunData
from mypt.train.session import open_session


def prepare_resume(
    manager: CheckpointManager,
    settings: RunSettings,
    command: tuple[str, ...],
    observer: Observer,
    source: CheckpointManager | None = None,
) -> Trainer:
    """A trainer that goes on where a bundle stopped, with the training settings that were given.

    Args:
        manager: the run; its name is saved under.
        settings: what the call gave.
        command: the words of the call, for the record.
        observer: is told what changes.
        source: an earlier bundle of the run to rewind to; by default the run's own last one.

    Raises:
        ConflictError: the call would change the architecture, the tokenizer or the data; all is listed.
        BundleError: the bundle is damaged or holds no optimizer state.
    """
    source = source or manager
    config, state = read_config(source.path), read_state(source.path)
    if state.optimizer_file is None:
        raise BundleError(
            f"{source.path} holds no optimizer state, so training cannot go on from it.",
            "Resume the bundle that it was exported from.",
        )
    recorded = recorded_values(config, state)
    given = {n: v for n, v in settings.values().items() if n in settings.given and (n, v) != ("device", "auto")}
    changes = changed_settings(recorded, _comparable(given, settings, manager.path))
    conflicts = [
        f"{c.name}: recorded {c.recorded}, given {c.now} ({settings.given[c.name]})."
        for c in changes
        if c.meaning == "refused"
    ]
    if conflicts:
        conflicts += _other_text(settings, state)
        raise ConflictError(
            f"{manager.path} exists and this call contradicts its record.",
            f"Leave these out to go on with it, choose another name, or start over with "
            f"`mypt train {manager.name} --fresh`, which keeps the old bundle.",
            conflicts,
        )
    device, moved = _device(str(given.get("device", config.device)), explicit="device" in given)
    changes += moved
    with observer.busy("Loading the model"):
        loaded = source.load(device)
        training = _merged(state, given)
        training = settle_choices(loaded.model, training, given, resumed=True)
        config = config.model_copy(update={"device": device})
        loaded.model.config = config
        apply_settings(loaded.model, training)
    data = recorded_data(
        state.model_copy(update={"training_config": training}), config, loaded.tokenizer, settings.data, observer
    )
    now = environment(device)
    circumstances = changed_environment(state.environment, now)
    observer.resuming(state.step, [*changes, *circumstances])
    for note in (without_hardware(training, device), kept_elsewhere(training, [c.name for c in circumstances], given)):
        if note is not None:
            observer.notice(note)
    if not state.exact_resume:
        observer.notice(f"The weights were saved as {state.model_dtype}, so this resume is not exact.")
    log_file = settings.output.log_file or log_of(manager.path, state) or log_path(manager.name)
    attempt = max(state.attempt, latest_attempt(log_file, state.run_id))
    sets = {name: loader.record for name, loader in data.eval_sets.items()}
    update = {"log_file": log_reference(log_file, manager.path), "attempt": attempt, "eval_sets": sets}
    state = state.model_copy(update=update)
    loaded = replace(loaded, state=open_session(state, training, now, command))
    return _trainer(manager, source, loaded, data, observer)


def recorded_values(config: GPTConfig, state: TrainingState) -> dict[str, Any]:
    """Every recorded setting by its field name."""
    values: dict[str, Any] = {**config.model_dump(), **state.training_config.model_dump()}
    if state.data is not None:
        values["tokenization"] = state.data.tokenization
        values["bpe_vocab_size"] = state.data.bpe_vocab_size
        if state.data.tokenization != "bpe":
            del values["bpe_vocab_size"]
        values |= {"sampling": state.data.sampling, "use_loss_mask": state.data.masked}
        values["curriculum"] = [(p.name, p.until_iter, p.data.dataset_dir) for p in state.curriculum] or None
        values["eval_sets"] = {name: record.sources[0].path for name, record in state.eval_sets.items()}
    if state.log_file:
        values["log_file"] = state.log_file
    return values


def _comparable(given: Mapping[str, Any], settings: RunSettings, bundle: Path) -> dict[str, Any]:
    """Given values in the form in which `recorded_values` has them."""
    values = {n: v for n, v in given.items() if n not in ("eval_sets", "eval_dataset_dir")}
    if "log_file" in values:
        values["log_file"] = log_reference(values["log_file"], bundle)
    if values.get("curriculum") is not None:
        phases = values["curriculum"].phases
        values["curriculum"] = [(p.name, p.until_iter, source_path(p.dataset_dir)) for p in phases]
    if settings.data.every_eval_set:
        values["eval_sets"] = {name: source_path(path) for name, path in settings.data.every_eval_set.items()}
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


def _merged(state: TrainingState, given: Mapping[str, Any]) -> TrainingConfig:
    update = {n: v for n, v in given.items() if n in TrainingConfig.model_fields}
    values = {**state.training_config.model_dump(), **update}
    return resolve_section(TrainingConfig, values)


def _trainer(
    manager: CheckpointManager, source: CheckpointManager, loaded: Loaded[Network], data: RunData, observer: Observer
) -> Trainer:
    state = loaded.state
    training, device = state.training_config, str(loaded.model.device)
    optimizer = build_optimizer(loaded.model, training)
    precision = Precision.of(training, device)
    scaler = source.load_optimizer(optimizer)
    if scaler:
        precision.scaler.load_state_dict(scaler)
    log = RunLog(log_of(manager.path, state) or log_path(manager.name), state.run_id, state.attempt)
    return Trainer(loaded.model, data, optimizer, state, precision, observer, manager, log)
