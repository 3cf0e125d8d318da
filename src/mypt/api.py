"""`GPT`, the public class: the network that trains, and that is loaded from a bundle by its name."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch

from mypt.checkpoint.layout import log_path, log_reference
from mypt.checkpoint.manager import CheckpointManager
from mypt.data.loader import GPTDataLoader
from mypt.data.tokenizer import Tokenizer
from mypt.errors import ConflictError
from mypt.log.writer import RunLog
from mypt.model.network import Network
from mypt.schema.resolve import resolve_section, wrong_settings
from mypt.schema.settings.data import wrong_eval_set_names
from mypt.schema.settings.output import DEFAULT_OUT_DIR
from mypt.schema.settings.training import TrainingConfig
from mypt.train.device.choices import settle_choices
from mypt.train.device.devices import environment, resolve_device
from mypt.train.loop import FitResult
from mypt.train.observer import Observer, PrintObserver
from mypt.train.run_data import RunData
from mypt.train.session import assemble, first_state, open_session


class GPT(Network):
    """A GPT-2 or LLaMA-2 style model.

    Args:
        config: the architecture.
        seed: of the initial weights.

    Attributes:
        tokenizer: the one that the weights were trained with; None until they are loaded or trained.

    Example:
        >>> model = GPT.load("dante")  # doctest: +SKIP
        >>> model.fit(loader, max_iters=200)  # doctest: +SKIP
    """

    tokenizer: Tokenizer | None = None

    @classmethod
    def load(cls, name: str, out_dir: str | Path = DEFAULT_OUT_DIR, device: str = "auto") -> Self:
        """The model of a bundle: the last step, gold or fp16, in fp32.

        Args:
            name: of the bundle, such as `dante` or `dante_gold`, or its path.
            out_dir: folder of all bundles.
            device: `auto` takes the fastest that is present.

        Raises:
            UsageError: there is no such bundle, or no such device.
            BundleError: a file of it is missing or damaged.
        """
        loaded = CheckpointManager.find(name, out_dir).load_as(cls, resolve_device(device))
        loaded.model.tokenizer = loaded.tokenizer
        return loaded.model

    def fit(
        self,
        data_loader: GPTDataLoader,
        optimizer: torch.optim.Optimizer | None = None,
        *,
        eval_data_loaders: Mapping[str, GPTDataLoader] | None = None,
        checkpoint: CheckpointManager | None = None,
        log_file: Path | None = None,
        observer: Observer | None = None,
        **settings: Any,
    ) -> FitResult:
        """Train this model, on the device it is on, as `mypt train` does.

        Args:
            data_loader: the training and validation data.
            optimizer: by default AdamW; its learning rate is the peak unless `learning_rate` is given.
            eval_data_loaders: further sets to evaluate on, by name.
            checkpoint: where to save at each evaluation and at the end; nothing is saved without it.
            log_file: the run's log; with a checkpoint it defaults to logs/train/NAME_eval.jsonl.
            observer: who watches; by default the two-line summaries are printed.
            **settings: fields of `TrainingConfig`, such as `max_iters=200`.

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
        device = str(self.device)
        self.tokenizer, self.config = data_loader.tokenizer, self.config.model_copy(update={"device": device})
        training = settle_choices(self, training, settings)
        data = RunData(data_loader, dict(eval_data_loaders or {}))
        recorded_log = log_reference(log_file, checkpoint.path) if log_file and checkpoint else None
        state = first_state(training, data, checkpoint.name if checkpoint else None, recorded_log)
        state = open_session(state, training, environment(device))
        log = RunLog(log_file, state.run_id, state.attempt) if log_file else None
        observer = observer or PrintObserver()
        return assemble(self, data, state, observer, checkpoint=checkpoint, log=log, optimizer=optimizer).run()
