"""The training loop: step, evaluate, log, save."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mypt.checkpoint.manager import CheckpointManager
from mypt.data.loader import GPTDataLoader, Split
from mypt.model.gpt import GPT
from mypt.record.bundle import OPTIMIZER_FILE, log_path
from mypt.record.log import RunLog
from mypt.schema.errors import ConflictError
from mypt.schema.events import Eval, TrainingComplete, timestamp
from mypt.schema.resolve import resolve_section
from mypt.schema.state import TrainingState
from mypt.schema.training import TrainingConfig
from mypt.train.devices import Precision, environment
from mypt.train.evaluate import evaluate
from mypt.train.observer import Observer, PrintObserver
from mypt.train.optimizer import build_optimizer
from mypt.train.schedule import learning_rate_at
from mypt.train.start import training_start

PHASE = "main"
"""Name of the only phase of a run without a curriculum."""


@dataclass
class Clock:
    """Where this session's time goes, in seconds, since it started."""

    started_at: str = field(default_factory=timestamp)
    began: float = field(default_factory=time.perf_counter)
    training: float = 0.0
    evaluating: float = 0.0
    saving: float = 0.0

    @contextmanager
    def measure(self, what: str) -> Iterator[None]:
        """Add the time of a block to `training`, `evaluating` or `saving`."""
        start = time.perf_counter()
        yield
        setattr(self, what, getattr(self, what) + time.perf_counter() - start)

    @property
    def elapsed(self) -> float:
        """Seconds since the session started."""
        return time.perf_counter() - self.began


@dataclass
class FitResult:
    """What a training session leaves behind.

    Attributes:
        state: the state at the end, as it was saved.
        evals: every evaluation of this session, in order.
        complete: the closing event of the log.
    """

    state: TrainingState
    evals: list[Eval]
    complete: TrainingComplete


@dataclass
class Trainer:
    """One training session: a model, its data and optimizer, and the state that evolves.

    Attributes:
        model: on its device.
        loader: the data.
        optimizer: its state matches `state.step`.
        state: what training_state.json will hold; replaced at each evaluation, never changed in place.
        precision: fp32 or autocast.
        observer: who watches.
        checkpoint: where to save; None saves nothing.
        log: where events go; None logs nothing.
    """

    model: GPT
    loader: GPTDataLoader
    optimizer: torch.optim.Optimizer
    state: TrainingState
    precision: Precision
    observer: Observer
    checkpoint: CheckpointManager | None = None
    log: RunLog | None = None
    evals: list[Eval] = field(default_factory=list)

    @property
    def training(self) -> TrainingConfig:
        """The settings in force."""
        return self.state.training_config

    @property
    def tokens_per_step(self) -> int:
        """Tokens that one optimizer step learns from: B x T x micro-batches."""
        return self.loader.tokens_per_micro_batch * self.training.grad_accum_steps

    def run(self) -> FitResult:
        """Train from the state's step to max_iters, evaluating and saving on the way."""
        self.clock = Clock()
        first, last = self.state.step, self.training.max_iters
        self._log_start()
        self.observer.started(first, last, self.tokens_per_step)
        self.model.train()
        for step in range(first, last):
            with self.clock.measure("training"):
                loss = self.train_step(step)
            self.observer.stepped(step + 1, loss)
            if (step + 1) % self.training.eval_interval == 0 or step + 1 == last:
                self._finish_interval(step + 1, self.optimizer.param_groups[0]["lr"])
        return self._complete()

    def train_step(self, step: int) -> torch.Tensor:
        """One optimizer step; returns its mean loss in nats per token, on the device."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate_at(step, self.training)
        losses = [self.micro_step(step, micro) for micro in range(self.training.grad_accum_steps)]
        self.update()
        return torch.stack(losses).sum()

    def micro_step(self, step: int, micro: int) -> torch.Tensor:
        """Add one micro-batch's gradient; its loss counts by its share of all tokens of the step."""
        seed_torch(self.training.seed, step, micro)
        x, y = (t.to(self.model.device) for t in self.loader.batch(step, micro))
        with self.precision.autocast():
            loss = self.model.loss(x, y) / self.tokens_per_step
        torch.autograd.backward(self.precision.scaler.scale(loss))
        return loss.detach()

    def update(self) -> None:
        """Clip the gradient, move the weights, forget the gradient."""
        scaler = self.precision.scaler
        if self.training.grad_clip:
            scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.training.grad_clip)
        scaler.step(self.optimizer)
        scaler.update()
        self.optimizer.zero_grad(set_to_none=True)

    def _finish_interval(self, step: int, lr: float) -> None:
        started = time.perf_counter()
        with self.clock.measure("evaluating"):
            train_loss, val_loss = self._evaluate("train"), self._evaluate("val")
        steps = step - self.state.step
        tokens = self.state.progress.tokens_processed + steps * self.tokens_per_step
        progress = self.state.progress.model_copy(update={"tokens_processed": tokens})
        self.state = self.state.model_copy(
            update={"step": step, "progress": progress.after_eval(step, train_loss, val_loss)}
        )
        event = Eval(
            iter=step,
            timestamp=timestamp(),
            elapsed_s=self.clock.elapsed,
            tokens_processed=tokens,
            progress_pct=100 * step / self.training.max_iters,
            lr=lr,
            phase=PHASE,
            val_loss=val_loss,
            eval_duration_s=time.perf_counter() - started,
            train_loss=train_loss,
        )
        self.evals.append(event)
        if self.log:
            self.log.append(event)
        if self.checkpoint:
            with self.clock.measure("saving"):
                self._save(self.checkpoint)
        self.observer.evaluated(event, self.training.max_iters, self._eta())

    def _evaluate(self, split: Split) -> float:
        counts = [self.loader.eval_batch_count(s, self.training.eval_iters) for s in ("train", "val")]
        done = 0 if split == "train" else counts[0]

        def advance() -> None:
            nonlocal done
            done += 1
            self.observer.evaluating(done, sum(counts))

        return evaluate(self.model, self.loader, split, self.training.eval_iters, self.precision, advance)

    def _save(self, checkpoint: CheckpointManager) -> None:
        self.state = self.state.model_copy(update={"saved_at": timestamp()})
        checkpoint.save(
            self.model, self.loader.tokenizer, self.state, self.optimizer, self.precision.scaler.state_dict()
        )

    def _eta(self) -> float:
        """Seconds to max_iters at this session's own pace, evaluations and saves included."""
        c, start = self.clock, self.training.start_step
        left = self.training.max_iters - self.state.step
        pauses = (c.evaluating + c.saving) / len(self.evals) * -(-left // self.training.eval_interval)
        return left * c.training / (self.state.step - start) + pauses

    def _log_start(self) -> None:
        if self.log:
            amp = self.precision.enabled
            self.log.append(training_start(self.clock.started_at, self.model.config, self.state, amp))

    def _complete(self) -> FitResult:
        c, progress = self.clock, self.state.progress
        steps = self.state.step - self.training.start_step
        rate = steps / c.training if c.training else 0.0
        event = TrainingComplete(
            timestamp=timestamp(),
            started_at=c.started_at,
            total_elapsed_s=c.elapsed,
            total_elapsed_h=c.elapsed / 3600,
            total_steps=self.state.step,
            total_tokens=progress.tokens_processed,
            steps_per_sec=rate,
            tokens_per_sec=round(rate * self.tokens_per_step),
            final_train_loss=progress.last_train_loss,
            final_val_loss=progress.last_val_loss,
            best_val_loss=progress.best_val_loss,
            gold_step=None,
            config_file=self.state.config_file,
            dataset_dir=None,
            training_s=c.training,
            eval_s=c.evaluating,
            save_s=c.saving,
        )
        if self.log:
            self.log.append(event)
        return FitResult(self.state, self.evals, event)


def seed_torch(seed: int, step: int, micro: int) -> None:
    """Seed torch's generators for one micro-step, so that its dropout depends on nothing before it."""
    mixed = np.random.SeedSequence((seed, step, micro)).generate_state(1, np.uint64)[0]
    torch.manual_seed(int(mixed) & (2**63 - 1))


def fit(
    model: GPT,
    data_loader: GPTDataLoader,
    optimizer: torch.optim.Optimizer | None = None,
    *,
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
    if checkpoint is not None and checkpoint.exists():
        raise ConflictError(
            f"The model {checkpoint.path} exists already.", "Choose another name, or go on with `mypt resume`."
        )
    if log_file is None and checkpoint is not None:
        log_file = log_path(checkpoint.name)
    device = str(model.device)
    model.config = model.config.model_copy(update={"device": device})
    state = TrainingState(
        step=0, optimizer_file=OPTIMIZER_FILE if checkpoint else None, training_config=training,
        exact_resume=training.save_dtype == "fp32", model_dtype=training.save_dtype, data=data_loader.record,
        log_file=str(log_file) if log_file else None, environment=environment(device),
    )  # fmt: skip
    trainer = Trainer(
        model, data_loader, optimizer or build_optimizer(model, training), state,
        Precision.of(training, device), observer or PrintObserver(), checkpoint,
        RunLog(log_file) if log_file else None,
    )  # fmt: skip
    return trainer.run()
