"""Going on with a recorded run: what may change, what may not, and everything rebuilt from the record."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mypt.checkpoint.manager import CheckpointManager, Loaded
from mypt.data.loader import GPTDataLoader
from mypt.data.text import Text
from mypt.record.bundle import log_of, log_path, read_config, read_state, stored_log
from mypt.record.changes import Change, changed_environment, changed_settings
from mypt.record.log import RunLog, read_log
from mypt.run.build import recorded_text
from mypt.schema.config import GPTConfig
from mypt.schema.errors import BundleError, ConflictError, DeviceError
from mypt.schema.resolve import resolve_section
from mypt.schema.run import RunSettings
from mypt.schema.state import TrainingState
from mypt.schema.training import TrainingConfig
from mypt.train.devices import Precision, environment, resolve_device
from mypt.train.loop import Trainer
from mypt.train.observer import Observer
from mypt.train.optimizer import build_optimizer
from mypt.train.start import open_session


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
    changes = changed_settings(recorded, _comparable(given, manager.path))
    text, conflicts = _text_and_conflicts(settings, state, changes)
    if conflicts or text is None:
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
        config = config.model_copy(update={"device": device})
        loaded.model.config = config
        loader = GPTDataLoader(config, loaded.tokenizer, text=text, seed=training.seed)
    now = environment(device)
    observer.resuming(state.step, [*changes, *changed_environment(state.environment, now)])
    if not state.exact_resume:
        observer.notice(f"The weights were saved as {state.model_dtype}, so this resume is not exact.")
    log_file = settings.output.log_file or log_of(manager.path, state) or log_path(manager.name)
    attempt = max([state.attempt, *read_log(log_file).attempts(state.run_id)])
    state = state.model_copy(update={"log_file": stored_log(log_file, manager.path), "attempt": attempt})
    loaded = replace(loaded, state=open_session(state, training, now, command))
    return _trainer(manager, source, loaded, loader, observer)


def recorded_values(config: GPTConfig, state: TrainingState) -> dict[str, Any]:
    """Every recorded setting by its field name."""
    values: dict[str, Any] = {**config.model_dump(), **state.training_config.model_dump()}
    if state.data is not None:
        values["tokenization"] = state.data.tokenization
        values["bpe_vocab_size"] = state.data.bpe_vocab_size
        if state.data.tokenization != "bpe":
            del values["bpe_vocab_size"]
    if state.log_file:
        values["log_file"] = state.log_file
    return values


def _comparable(given: Mapping[str, Any], bundle: Path) -> dict[str, Any]:
    return {n: stored_log(v, bundle) if n == "log_file" else v for n, v in given.items()}


def _text_and_conflicts(
    settings: RunSettings, state: TrainingState, changes: list[Change]
) -> tuple[Text | None, list[str]]:
    """The recorded text, and every difference that a resume refuses; the text is None if it is one of them."""
    conflicts = [
        f"{c.name}: recorded {c.recorded}, given {c.now} ({settings.given[c.name]})."
        for c in changes
        if c.meaning == "refused"
    ]
    given = settings.data.input_file
    try:
        return recorded_text(state.data, given), conflicts
    except ConflictError as error:
        if not given and not conflicts:
            raise
        return None, [*conflicts, f"input_file: {error.what}"]


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
    manager: CheckpointManager, source: CheckpointManager, loaded: Loaded, loader: GPTDataLoader, observer: Observer
) -> Trainer:
    state = loaded.state
    training, device = state.training_config, str(loaded.model.device)
    optimizer = build_optimizer(loaded.model, training)
    precision = Precision.of(training, device)
    scaler = source.load_optimizer(optimizer)
    if scaler:
        precision.scaler.load_state_dict(scaler)
    log = RunLog(log_of(manager.path, state) or log_path(manager.name), state.run_id, state.attempt)
    return Trainer(loaded.model, loader, optimizer, state, precision, observer, manager, log)
