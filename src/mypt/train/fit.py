"""Training from Python: the door behind `Network.fit`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mypt.checkpoint.layout import log_path, log_reference
from mypt.checkpoint.manager import CheckpointManager
from mypt.data.loader import GPTDataLoader
from mypt.errors import ConflictError
from mypt.log.writer import RunLog
from mypt.model.network import Network
from mypt.schema.resolve import resolve_section, wrong_settings
from mypt.schema.settings.data import wrong_eval_set_names
from mypt.schema.settings.training import TrainingConfig
from mypt.train.device.choices import settle_choices
from mypt.train.device.devices import environment
from mypt.train.loop import FitResult
from mypt.train.observer import Observer, PrintObserver
from mypt.train.run_data import RunData
from mypt.train.session import assemble, first_state, open_session


def fit(
    model: Network,
    data_loader: GPTDataLoader,
    optimizer: torch.optim.Optimizer | None = None,
    *,
    eval_data_loaders: Mapping[str, GPTDataLoader] | None = None,
    checkpoint: CheckpointManager | None = None,
    log_file: Path | None = None,
    observer: Observer | None = None,
    **settings: Any,
) -> FitResult:
    """Train a model from Python, as `mypt train` does.

    Args:
        model: a model on its device.
        data_loader: its training and validation data.
        optimizer: by default AdamW; its learning rate is the peak unless `learning_rate` is given.
        eval_data_loaders: further sets to evaluate on, by name.
        checkpoint: where to save at each evaluation and at the end; nothing is saved without it.
        log_file: the run's log; with a checkpoint it defaults to logs/train/NAME_eval.jsonl.
        observer: who watches; by default the two-line summaries are printed.
        **settings: fields of `TrainingConfig`.

    Raises:
        ConfigError: a setting is unknown or out of bounds.
        ConflictError: the checkpoint's name is taken.
    """
    if optimizer is not None:
        settings.setdefault("learning_rate", optimizer.param_groups[0]["lr"])
    training = resolve_section(TrainingConfig, settings)
    if wrong := wrong_eval_set_names(eval_data_loaders or ()):
        raise wrong_settings([f"{clause}." for clause in wrong])
    if checkpoint is not None and checkpoint.exists():
        raise ConflictError(
            f"The model {checkpoint.path} exists already.", "Choose another name, or go on with `mypt resume`."
        )
    if log_file is None and checkpoint is not None:
        log_file = log_path(checkpoint.name)
    device = str(model.device)
    model.config = model.config.model_copy(update={"device": device})
    training = settle_choices(model, training, settings)
    data = RunData(data_loader, dict(eval_data_loaders or {}))
    recorded_log = log_reference(log_file, checkpoint.path) if log_file and checkpoint else None
    state = open_session(first_state(training, data, recorded_log), training, environment(device))
    log = RunLog(log_file, state.run_id, state.attempt) if log_file else None
    observer = observer or PrintObserver()
    trainer = assemble(model, data, state, observer, checkpoint=checkpoint, log=log, optimizer=optimizer)
    return trainer.run()
