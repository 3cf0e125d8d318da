"""A new run: everything that its first session needs, built from its settings."""

from pathlib import Path

from mypt.checkpoint.layout import log_path, log_reference
from mypt.checkpoint.manager import CheckpointManager
from mypt.errors import ConflictError
from mypt.launch import Launch
from mypt.log.locate import check_appendable
from mypt.log.writer import RunLog
from mypt.model.network import Network
from mypt.run.data.new import open_data, phase_records
from mypt.run.parent import Parent, inherited_config, load_parent
from mypt.schema.order.labels import united
from mypt.schema.settings.config import GPTConfig
from mypt.schema.settings.run import RunSettings
from mypt.train.device.choices import settle_choices, without_hardware
from mypt.train.device.devices import environment, resolve_device
from mypt.train.loop import Trainer
from mypt.train.observer import Observer
from mypt.train.parallel.layout import placed, settle_parallel
from mypt.train.planning import check_memory
from mypt.train.session import assemble, check_freezing, first_state, open_session


def start_session(
    manager: CheckpointManager, settings: RunSettings, command: tuple[str, ...], observer: Observer
) -> Trainer:
    """A trainer for the first session of a run.

    Raises:
        UsageError: a setting, the text or the model to start from is unusable.
    """
    device, training, launch = resolve_device(settings.model.device), settings.training, Launch.of()
    log_file = settings.output.log_file or log_path(manager.name)
    check_appendable(log_file)
    parent = _parent(manager, settings, observer)
    config = inherited_config(settings, parent) if parent else settings.model
    config = config.model_copy(update={"device": device})
    check_freezing(config, training)
    data, config = open_data(settings, config, parent.loaded.tokenizer if parent else None, observer)
    check_memory(config, training, launch)
    with observer.busy("Building the model"):
        model = Network(config, training.seed)
        if parent is not None:
            parent.give_weights(model)
            observer.notice(_started_from(parent, config, settings))
    with observer.busy("Measuring what half precision brings"):
        training = settle_choices(model, training, settings.given)
    training = settle_parallel(config, training, launch)
    model = placed(model, training, launch)
    if note := without_hardware(training, device):
        observer.notice(note)
    state = first_state(training, data, manager.name, log_reference(log_file, manager.path)).model_copy(
        update={
            "curriculum": phase_records(data, settings.data),
            "curriculum_description": settings.data.curriculum.description if settings.data.curriculum else "",
            "parent": parent.record if parent else None,
            "init_seed": None if parent else training.seed,
            "preset": settings.preset,
            "tags": united((), settings.output.tag),
            "note": settings.output.note or None,
            "config_file": str(settings.config_file) if settings.config_file else None,
        }
    )
    state = open_session(state, training, environment(device, launch), config, data, command)
    log = RunLog(log_file, state.run_id, state.attempt)
    return assemble(model, data, state, observer, checkpoint=manager, log=log)


def _started_from(parent: Parent, config: GPTConfig, settings: RunSettings) -> str:
    """Which model; of an imported one, whose long windows nobody chose for training, how much a micro-batch is."""
    told = f"Starting from {parent.record.name} at step {parent.record.step}."
    if parent.loaded.state.imported is None or {"batch_size", "block_size"} <= settings.given.keys():
        return told
    options = "--batch-size and --block-size" if config.pos_encoding == "rope" else "--batch-size"
    windows = f"{config.batch_size} windows of {config.block_size:,} tokens"
    return f"{told} A micro-batch has {windows}; {options} can make it smaller."


def _parent(manager: CheckpointManager, settings: RunSettings, observer: Observer) -> Parent | None:
    """The model to start from; None for random weights.

    Raises:
        ConflictError: it is a bundle that the new run would replace.
    """
    name = settings.training.init_from_model
    if name is None:
        return None
    with observer.busy(f"Loading {name}"):
        parent = load_parent(name, manager.path.parent)
    if Path(parent.record.path) in (p.absolute() for p in manager.family.paths):
        raise ConflictError(
            f"{parent.record.path} would be set aside or replaced by the run that is to start from it.",
            "Give the new run a name of its own.",
        )
    return parent
