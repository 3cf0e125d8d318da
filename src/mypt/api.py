"""`GPT`, the public class: the network that trains, and that is loaded from a bundle by its name."""

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import torch

from mypt.checkpoint.family import check_place
from mypt.checkpoint.layout import check_spelling, log_path, log_reference
from mypt.checkpoint.lock import locked
from mypt.checkpoint.manager import CheckpointManager
from mypt.data.loader import GPTDataLoader
from mypt.data.tokenizer import Tokenizer
from mypt.errors import ConflictError, UsageError
from mypt.log.locate import check_appendable
from mypt.log.writer import RunLog
from mypt.model.generation import generate_text
from mypt.model.network import Network
from mypt.schema.files.state import ParentRecord
from mypt.schema.resolve import resolve_section
from mypt.schema.settings.config import GPTConfig
from mypt.schema.settings.generation import GenerationConfig
from mypt.schema.settings.output import DEFAULT_OUT_DIR
from mypt.schema.settings.training import TrainingConfig
from mypt.train.brought import check_recordable, checked_data, left_as_it_was, start_record, training_settings
from mypt.train.device.choices import settle_choices, without_hardware
from mypt.train.device.deterministic import settled
from mypt.train.device.devices import environment, resolve_device
from mypt.train.evaluation.patience import REASON, more
from mypt.train.loop import Trainer
from mypt.train.observer import Guarded, Observer, PrintObserver
from mypt.train.planning import check_room, plan_run
from mypt.train.run_data import RunData
from mypt.train.session import assemble, check_freezing, first_state, open_session
from mypt.train.stop import FitResult, stop_on_signals


class GPT(Network):
    """A GPT-2 or LLaMA-2 style model.

    Args:
        config: the architecture.
        seed: of the initial weights.

    Attributes:
        tokenizer: the one that the weights were trained with; None until they are loaded or trained.
        start_token: id that generation without a prompt starts from; None if none is recorded.
        origin: where the weights come from: the seed, or the bundle that they were loaded from or saved as.

    Example:
        >>> model = GPT.load("dante")  # doctest: +SKIP
        >>> model.fit(loader, max_iters=200)  # doctest: +SKIP
    """

    tokenizer: Tokenizer | None = None
    start_token: int | None = None

    def __init__(self, config: GPTConfig, seed: int = 1337) -> None:
        super().__init__(config, seed)
        self.origin: int | ParentRecord = seed

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
        manager = CheckpointManager.find(name, out_dir)
        loaded = manager.load_as(cls, resolve_device(device))
        loaded.model.tokenizer, loaded.model.start_token = loaded.tokenizer, loaded.state.start_token
        loaded.model.origin = manager.parent_record(loaded.model, loaded.state)
        return loaded.model

    def generate(self, prompt: str = "", **settings: Any) -> str:
        r"""The text with which the model continues a prompt; the prompt is not in it.

        Args:
            prompt: text to continue; without one, the model starts as at the beginning of a text.
            **settings: fields of `GenerationConfig`, such as `max_new_tokens=50`, `temperature=0`, `stop=["\n"]` or
                `seed=7`; the same seed gives the same text.

        Raises:
            ConfigError: a setting is unknown or out of bounds.
            UsageError: the model has no tokenizer yet, or none for a character of the prompt.
            DivergedError: the weights are not finite.

        Example:
            >>> GPT.load("dante").generate("Nel mezzo", max_new_tokens=20)  # doctest: +SKIP
        """
        return "".join(self.stream(prompt, **settings))

    def stream(self, prompt: str = "", **settings: Any) -> Iterator[str]:
        """Yield the text of `generate`, with the same arguments and errors, in pieces as they are produced."""
        config = resolve_section(GenerationConfig, settings)
        if self.tokenizer is None:
            raise UsageError(
                "The model has no tokenizer, so it has no text to read or write.",
                "Load it by GPT.load, or train it by fit.",
            )
        return generate_text(self, self.tokenizer, self.tokenizer.prompt_ids(prompt, self.start_token), config)

    def fit(
        self,
        data_loader: GPTDataLoader,
        optimizer: torch.optim.Optimizer | str | None = None,
        *,
        eval_data_loaders: Mapping[str, GPTDataLoader] | None = None,
        checkpoint: CheckpointManager | None = None,
        log_file: str | Path | None = None,
        observer: Observer | None = None,
        **settings: Any,
    ) -> FitResult:
        """Train this model, on the device it is on, as `mypt train` does.

        With a checkpoint, a run is saved that `mypt.resume` and `mypt resume` go on with as if it had never stopped.
        Ctrl-C and SIGTERM stop after the step that is running, and all is saved; a second one ends the process.

        Args:
            data_loader: the training and validation data.
            optimizer: `adamw`, the default, or `muon`, as mypt has them, or one of torch. Each group of that keeps the
                share of its own learning rate in the largest one, which is the peak unless `learning_rate` is given.
            eval_data_loaders: further sets to evaluate on, by name.
            checkpoint: where to save at each evaluation and at the end; nothing is saved without it.
            log_file: the run's log; with a checkpoint it defaults to logs/train/NAME_eval.jsonl.
            observer: who watches; by default the two-line summaries are printed.
            **settings: fields of `TrainingConfig`, such as `max_iters=200`.

        Raises:
            ConfigError: a setting is unknown, out of bounds or without effect, or what is given cannot be recorded.
            ConflictError: the checkpoint's name is taken, or the data are not the model's.
            BusyError: another process writes under this name.
            StorageError: the disk refused, or has too little room.
            DivergedError: a loss or gradient is not finite.
        """
        began = time.perf_counter()
        if isinstance(optimizer, str):
            settings, optimizer = {**settings, "optimizer": optimizer}, None
        training, observer = training_settings(settings, optimizer), Guarded(observer or PrintObserver())
        data = RunData(data_loader, dict(eval_data_loaders or {}))
        config = checked_data(self, self.tokenizer, data)
        check_freezing(config, training)
        with ExitStack() as held:
            if checkpoint is not None:
                check_recordable(self, data)
                held.enter_context(locked(checkpoint.path, observer.notice))
                _check_free(checkpoint)
            held.enter_context(left_as_it_was(self, optimizer))
            self.config = config
            training = settle_choices(self, training, settings)
            trainer = self._trainer(training, data, observer, optimizer, checkpoint, log_file)
            self.tokenizer, self.start_token = data_loader.tokenizer, data_loader.record.start_token
            trainer.stop.began = began
            with stop_on_signals(trainer.stop):
                result = trainer.run()
            if checkpoint is not None and result.state.model_dtype == "fp32":
                self.origin = checkpoint.parent_record(self, result.state)
        if result.stopped:
            observer.notice(_stopped(result, checkpoint))
        return result

    def _trainer(
        self,
        training: TrainingConfig,
        data: RunData,
        observer: Observer,
        optimizer: torch.optim.Optimizer | None,
        checkpoint: CheckpointManager | None,
        log_file: str | Path | None,
    ) -> Trainer:
        """The one session of a call, planned and with room on the disk."""
        device = str(self.device)
        if note := without_hardware(training, device):
            observer.notice(note)
        log = Path(log_file) if log_file else log_path(checkpoint.name) if checkpoint else None
        if log is not None:
            check_appendable(log)
        state = first_state(training, data, checkpoint.name if checkpoint else None, None)
        if checkpoint is not None:
            update = start_record(self, self.origin, optimizer)
            update["log_file"] = log_reference(log, checkpoint.path) if log else None
            state = state.model_copy(update=update)
        if state.unrecorded_start:
            observer.notice(f"`mypt reproduce` cannot repeat this run from its start: {state.unrecorded_start}.")
        state = open_session(state, training, environment(device), self.config, data)
        writer = RunLog(log, state.run_id, state.attempt) if log else None
        trainer = assemble(self, data, state, observer, checkpoint=checkpoint, log=writer, optimizer=optimizer)
        name, folder = (checkpoint.name, checkpoint.path.parent) if checkpoint else (type(self).__name__, Path())
        plan = plan_run(trainer.stepper, name, folder, observer, trainer.stop)
        observer.planned(plan)
        if checkpoint is not None:
            check_room(plan, checkpoint)
        trainer.state = settled(trainer.state, plan.deterministic)
        trainer.prepare(plan)
        return trainer


def _check_free(checkpoint: CheckpointManager) -> None:
    """Make sure that no run has the checkpoint's name, and that nothing is where its bundles go.

    Raises:
        ConflictError: something is there.
    """
    check_spelling(checkpoint.path)
    family = checkpoint.family
    family.check_free_for_a_run(fresh=False)
    check_place(family.path)
    if checkpoint.exists():
        name = checkpoint.name
        raise ConflictError(
            f"The model {checkpoint.path} exists already, and fit begins a new run.",
            f"Go on with it by mypt.resume({name!r}) or `mypt resume {name}`, or give CheckpointManager another name.",
        )
    if left := family.check_own(None):
        raise ConflictError(
            f"{left[0]} is left of an earlier run of this name.",
            "Give it another name, or give CheckpointManager another one.",
        )


def _stopped(result: FitResult, checkpoint: CheckpointManager | None) -> str:
    """The line on a session that ended early."""
    said = f"Stopped after step {result.state.step} ({result.stopped})"
    if checkpoint is None:
        return f"{said}; nothing is saved without a checkpoint, but the model has its weights."
    if result.stopped == REASON:
        return (
            f"{said}; everything is saved. Go on with mypt.resume({checkpoint.name!r}, patience={more(result.state)})."
        )
    return (
        f"{said}; everything is saved. Go on with mypt.resume({checkpoint.name!r}) or `mypt resume {checkpoint.name}`."
    )
