"""The training loop: step, evaluate, log, save."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from mypt.checkpoint.manager import AnyOptimizer, CheckpointManager
from mypt.data.loader import Batch
from mypt.model.gpt import GPT
from mypt.model.loss import IGNORED
from mypt.record.log import RunLog
from mypt.schema.arithmetic import rows_at_once
from mypt.schema.errors import DivergedError
from mypt.schema.events import BatchSkipped, Eval, Event, TrainingComplete, timestamp
from mypt.schema.state import TrainingState
from mypt.schema.training import TrainingConfig
from mypt.train import report
from mypt.train.clock import Clock
from mypt.train.compile import Choice, CompiledLoss, choose
from mypt.train.curriculum import RunData
from mypt.train.devices import Precision, hardware, on_device
from mypt.train.evaluate import Measured, evaluate
from mypt.train.gold import Losses, decide_gold
from mypt.train.observer import Observer
from mypt.train.pace import Pace, pace
from mypt.train.schedule import learning_rate_at
from mypt.train.stop import Stop

UNKNOWN_SAVE_S = 2.0
"""What a save is taken to last until one was measured."""


@dataclass
class FitResult:
    """What a training session leaves behind.

    Attributes:
        state: the state at the end, as it was saved.
        evals: every evaluation of this session, in order.
        complete: the closing event of the log; None if the session was stopped before max_iters.
        stopped: why it was stopped; None if it was not.
    """

    state: TrainingState
    evals: list[Eval]
    complete: TrainingComplete | None = None
    stopped: str | None = None


@dataclass
class Trainer:
    """One training session: a model, its data and optimizer, and the state that evolves.

    Attributes:
        model: on its device.
        data: what is trained on and measured.
        optimizer: its state matches `state.step`.
        state: what training_state.json will hold; replaced at each evaluation, never changed in place.
        precision: fp32 or autocast.
        observer: who watches.
        checkpoint: where to save; None saves nothing.
        log: where events go; None logs nothing.
        stop: looked at after every step.
        evals: every evaluation of this session.
    """

    model: GPT
    data: RunData
    optimizer: AnyOptimizer
    state: TrainingState
    precision: Precision
    observer: Observer
    checkpoint: CheckpointManager | None = None
    log: RunLog | None = None
    stop: Stop = field(default_factory=Stop)
    evals: list[Eval] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Start without torch.compile."""
        self.compiled = Choice(False, "never asked")
        self.loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = self.model.loss

    def settle_compile(self, training_s: float) -> None:
        """Decide on torch.compile for so many seconds of training, and put the decision into the record."""
        self.compiled = choose(self.training, str(self.model.device), training_s)
        self.loss = CompiledLoss(self.model, self.observer.notice) if self.compiled.on else self.model.loss
        training = self.training.model_copy(update={"torch_compile": "on" if self.compiled.on else "off"})
        *before, session = self.state.sessions
        sessions = (*before, session.model_copy(update={"training_config": training}))
        self.state = self.state.model_copy(update={"training_config": training, "sessions": sessions})

    @property
    def training(self) -> TrainingConfig:
        """The settings in force."""
        return self.state.training_config

    @property
    def tokens_per_step(self) -> int:
        """Tokens that one optimizer step learns from: B x T x micro-batches."""
        return self.data.primary.tokens_per_micro_batch * self.training.grad_accum_steps

    def run(self) -> FitResult:
        """Train from the state's step to max_iters, evaluating and saving on the way."""
        self.clock = Clock()
        first, last = self.state.step, self.training.max_iters
        amp = self.precision.enabled
        reason = self.compiled.reason
        self._log(report.training_start(self.clock.started_at, self.model.config, self.state, amp, reason))
        self.observer.started(first, last, self.tokens_per_step)
        self.model.train()
        for step in range(first, last):
            self._enter_phase(step)
            with self.clock.measure("training"):
                loss = self.train_step(step)
            done = step + 1
            self.observer.stepped(done, loss)
            if self._eval_due(done):
                self._evaluate(done)
            stopped = self._stop_reason(done)
            if self._eval_due(done) or self._save_due(done) or stopped:
                self._save(done)
            if stopped:
                self._log(report.training_stopped(self.state, self.clock, stopped))
                return FitResult(self.state, self.evals, stopped=stopped)
        complete = report.training_complete(self.state, self.clock, self.pace())
        self._log(complete)
        return FitResult(self.state, self.evals, complete)

    def train_step(self, step: int) -> torch.Tensor:
        """One optimizer step; returns its mean loss in nats per token, on the device.

        Raises:
            DivergedError: loss or gradient is not finite, and spikes are not to be skipped.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate_at(step, self.training)
        batches = self.batches(step)
        counted = self.counted_tokens(batches)
        losses = [self.micro_step(step, micro, batch, counted) for micro, batch in enumerate(batches)]
        loss, norm = torch.stack(losses).sum(), self.gradient_norm()
        if self._finite(loss, norm):
            self.update(norm)
        else:
            self._leave_out(step, loss, norm)
        return loss

    def pace(self) -> Pace:
        """The session's own, up to the state's step."""
        tokens = (self.state.step - self.training.start_step) * self.tokens_per_step
        return pace(tokens, self.clock.training, self.model.config, hardware(str(self.model.device)))

    def batches(self, step: int) -> list[Batch]:
        """The step's micro-batches, each numbered from the beginning of its phase."""
        loader = self.data.phase_at(step).loader
        return [loader.batch(index) for index in self._batch_numbers(step)]

    def counted_tokens(self, batches: Sequence[Batch]) -> int:
        """Targets of a whole step that count: all of them, unless masks leave some out."""
        if not self.data.primary.masked:
            return self.tokens_per_step
        return max(1, sum(int((y != IGNORED).sum()) for _, y in batches))

    def micro_step(self, step: int, micro: int, batch: Batch, counted: int) -> torch.Tensor:
        """Add one micro-batch's gradient; its loss counts by its share of all tokens of the step."""
        seed_torch(self.training.seed, step, micro, self.model.device)
        rows = rows_at_once(self.model.config)
        parts = zip(*(torch.split(t, rows) for t in on_device(batch, self.model.device)), strict=True)
        return torch.stack([self._backward(x, y, counted) for x, y in parts]).sum()

    def _backward(self, x: torch.Tensor, y: torch.Tensor, counted: int) -> torch.Tensor:
        """Add the gradient of some windows (b, T), and return their share of the step's loss."""
        with self.precision.autocast():
            loss = self.loss(x, y) / counted
        torch.autograd.backward(self.precision.scaler.scale(loss))
        return loss.detach()

    def gradient_norm(self) -> torch.Tensor:
        """L2 norm of the whole gradient, its loss scale taken off."""
        self.precision.unscale(self.optimizer)
        norm: torch.Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(self._gradients())))
        return norm

    def update(self, norm: torch.Tensor) -> None:
        """Clip the gradient of the given norm, move the weights, forget the gradient."""
        if self.training.grad_clip:
            torch._foreach_mul_(self._gradients(), (self.training.grad_clip / (norm + 1e-6)).clamp(max=1.0))
        self.precision.step(self.optimizer)
        self.optimizer.zero_grad(set_to_none=True)

    def _gradients(self) -> list[torch.Tensor]:
        return [p.grad for group in self.optimizer.param_groups for p in group["params"] if p.grad is not None]

    def _finite(self, loss: torch.Tensor, norm: torch.Tensor) -> bool:
        """Whether a step may move the weights; fp16's loss scale looks after gradients that overflow."""
        figures = loss if self.precision.scaler.is_enabled() else loss + norm
        return bool(torch.isfinite(figures))

    def _leave_out(self, step: int, loss: torch.Tensor, norm: torch.Tensor) -> None:
        """Stop before a step that would poison the weights, or skip its batches and say so."""
        self.optimizer.zero_grad(set_to_none=True)
        self.precision.scaler.update()
        loader = self.data.phase_at(step).loader
        windows = [loader.window_starts(index).tolist() for index in self._batch_numbers(step)]
        what = f"Step {step + 1} has a loss of {float(loss):.4g} and a gradient norm of {float(norm):.4g}"
        if self.training.on_spike == "stop":
            raise DivergedError(
                f"{what}, so it was not taken: the weights are those of step {step}.",
                "Go on from the last bundle with a lower --learning-rate, or leave such batches out with "
                "--on-spike skip.",
                [f"windows start at tokens {windows} of the training split", self._last_saved()],
            )
        self.observer.notice(f"{what}; its batches are left out.")
        self._log(BatchSkipped(iter=step + 1, timestamp=timestamp(), loss=str(float(loss)), windows=windows))

    def _last_saved(self) -> str:
        if self.checkpoint is None or not self.checkpoint.exists():
            return "nothing was saved yet"
        return f"the last good bundle is {self.checkpoint.path} at step {self.state.step}"

    def _batch_numbers(self, step: int) -> range:
        first = self.state.micro_batches(step) - self.state.micro_batches(self.data.phase_at(step).start)
        return range(first, first + self.training.grad_accum_steps)

    def _enter_phase(self, step: int) -> None:
        """Say that a later phase of the curriculum begins with this step."""
        phase = self.data.phase_at(step)
        if phase.start != step or step == 0:
            return
        self._advance(step)
        self._log(report.phase_switch(self.state, self.clock, phase.name))
        self.observer.notice(f"Phase {phase.name} begins at step {step}.")

    def _eval_due(self, step: int) -> bool:
        return step % self.training.eval_interval == 0 or step == self.training.max_iters

    def _save_due(self, step: int) -> bool:
        return self.training.save_interval is not None and step % self.training.save_interval == 0

    def _stop_reason(self, step: int) -> str | None:
        if step == self.training.max_iters:
            return None
        latest = self.clock.latest
        needed = latest["training"] + latest.get("saving", UNKNOWN_SAVE_S)
        if self._eval_due(step + 1):
            needed += latest.get("evaluating", 0.0)
        return self.stop.reason(step, self.training.max_minutes, needed)

    def _advance(self, step: int) -> None:
        """Bring the state up to `step`."""
        tokens = self.state.progress.tokens_processed + (step - self.state.step) * self.tokens_per_step
        progress = self.state.progress.model_copy(update={"tokens_processed": tokens})
        self.state = self.state.model_copy(update={"step": step, "progress": progress})

    def _evaluate(self, step: int) -> None:
        with self.clock.measure("evaluating"):
            measured = self._measure()
        self._advance(step)
        train_loss, val_loss = measured["train"].loss, measured["val"].loss
        progress = self.state.progress.after_eval(step, train_loss, val_loss, measured["val"].bpb)
        self.state = self.state.model_copy(update={"progress": progress})
        lr, phase = self.optimizer.param_groups[0]["lr"], self.data.phase_at(step - 1)
        event = report.evaluation(self.state, measured, self.clock, self.pace(), lr, phase.name)
        self.evals.append(event)
        self._log(event)
        self.observer.evaluated(event, self.training.max_iters, self._eta())
        further = {name: measured[name].loss for name in self.data.eval_sets}
        self._decide_gold(step, Losses(val_loss, train_loss, further))

    def _measure(self) -> dict[str, Measured]:
        """Every set that an evaluation looks at, by name."""
        done, total = 0, self.data.eval_batch_count(self.training.eval_iters)

        def advance() -> None:
            nonlocal done
            done += 1
            self.observer.evaluating(done, total)

        return {
            name: evaluate(self.model, loader, split, self.training.eval_iters, self.precision, advance)
            for name, (loader, split) in self.data.measured_sets().items()
        }

    def _decide_gold(self, step: int, losses: Losses) -> None:
        """Let the gold decision see this evaluation, and save and log what it comes to."""
        decision = decide_gold(self.state.progress.gold, step, losses, self.training)
        progress = self.state.progress.model_copy(update={"gold": decision.state})
        self.state = self.state.model_copy(update={"progress": progress})
        if decision.kind == "gold" and self.checkpoint is not None:
            self._save_to(self.checkpoint.gold())
        event = report.gold_decided(decision, step, losses.val)
        if event is not None:
            self._log(event)
            self.observer.gold_decided(event)

    def _save(self, step: int) -> None:
        self._advance(step)
        if self.checkpoint is not None:
            self._save_to(self.checkpoint)
            self.observer.saved(step)

    def _save_to(self, checkpoint: CheckpointManager) -> None:
        self.state = self.state.model_copy(update={"saved_at": timestamp()})
        tokenizer, scaler = self.data.primary.tokenizer, self.precision.scaler.state_dict()
        with self.clock.measure("saving"):
            checkpoint.save(self.model, tokenizer, self.state, self.optimizer, scaler)

    def _eta(self) -> float:
        """Seconds to max_iters at this session's own pace, evaluations and saves included."""
        c, start = self.clock, self.training.start_step
        left = self.training.max_iters - self.state.step
        pauses = (c.evaluating + c.saving) / len(self.evals) * -(-left // self.training.eval_interval)
        return left * c.training / (self.state.step - start) + pauses

    def _log(self, event: Event) -> None:
        if self.log:
            self.log.append(event)


def seed_torch(seed: int, step: int, micro: int, device: torch.device) -> None:
    """Seed the generator of a device for one micro-step, so that its dropout depends on nothing before it."""
    mixed = np.random.SeedSequence((seed, step, micro)).generate_state(1, np.uint64)[0]
    seeded = int(mixed) & (2**63 - 1)
    if device.type == "cpu":  # torch.manual_seed would walk through the stack for the sake of other devices
        torch.default_generator.manual_seed(seeded)
    else:
        torch.manual_seed(seeded)
