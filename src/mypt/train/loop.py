"""The training loop: step, evaluate, log, save."""

from collections.abc import Callable
from dataclasses import dataclass, field

from mypt.checkpoint.files import read_state
from mypt.checkpoint.manager import CheckpointManager, Content
from mypt.errors import DivergedError
from mypt.log.reader import RunLog
from mypt.schema.files.events import BatchSkipped, Eval, Event, TrainingComplete, timestamp
from mypt.schema.files.state import TrainingState
from mypt.train import events as report
from mypt.train.device.async_check import Figures
from mypt.train.device.async_save import Saver
from mypt.train.device.compile import Choice, CompiledLoss, choose
from mypt.train.device.devices import hardware
from mypt.train.evaluate import Measured, evaluate
from mypt.train.gold import Losses, decide_gold
from mypt.train.observer import Observer
from mypt.train.step import Stepper
from mypt.train.stop import Stop
from mypt.train.throughput import Clock, Pace, pace

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
class Trainer(Stepper):
    """One training session: steps, and an evaluation, a line of the log and a bundle now and then.

    Attributes:
        observer: who watches.
        checkpoint: where to save; None saves nothing.
        log: where events go; None logs nothing.
        stop: looked at after every step.
        evals: every evaluation of this session.
    """

    observer: Observer
    checkpoint: CheckpointManager | None = None
    log: RunLog | None = None
    stop: Stop = field(default_factory=Stop)
    evals: list[Eval] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Save in turn, except where a GPU goes on meanwhile."""
        super().__post_init__()
        self.saver = Saver(beside=self.model.device.type == "cuda")
        self.compiled = Choice(False, "never asked")

    def settle_compile(self, training_s: float) -> None:
        """Decide on torch.compile for so many seconds of training, and put the decision into the record."""
        self.compiled = choose(self.training, str(self.model.device), training_s)
        self.loss = CompiledLoss(self.model, self.observer.notice) if self.compiled.on else self.model.loss
        training = self.training.model_copy(update={"torch_compile": "on" if self.compiled.on else "off"})
        *before, session = self.state.sessions
        sessions = (*before, session.model_copy(update={"training_config": training}))
        self.state = self.state.model_copy(update={"training_config": training, "sessions": sessions})

    def run(self) -> FitResult:
        """Train from the state's step to max_iters, evaluating and saving on the way."""
        self.clock = Clock()
        first, last = self.state.step, self.training.max_iters
        amp = self.precision.enabled
        reason = self.compiled.reason
        self._log(report.training_start(self.clock.started_at, self.model.config, self.state, amp, reason))
        self.observer.started(first, last, self.tokens_per_step)
        self.model.train()
        with self.saver:
            stopped = self._train(range(first, last))
        if stopped:
            self._log(report.training_stopped(self.state, self.clock, stopped))
            return FitResult(self.state, self.evals, stopped=stopped)
        complete = report.training_complete(self.state, self.clock, self.pace())
        self._log(complete)
        return FitResult(self.state, self.evals, complete)

    def _train(self, steps: range) -> str | None:
        """Take the steps, evaluating and saving on the way; why it was stopped, None if it was not."""
        for step in steps:
            done = step + 1
            self._enter_phase(step)
            with self.clock.measure("training"):
                loss = self.train_step(step)
                if self._eval_due(done):
                    self.catch_up()
            known = self.ahead.latest_loss if self.ahead else None
            self.observer.stepped(done, loss if known is None else known)
            if self._eval_due(done):
                self._evaluate(done)
            stopped = self._stop_reason(done)
            if self._eval_due(done) or self._save_due(done) or stopped:
                self.catch_up()
                self._save(done)
            if stopped:
                return stopped
        return None

    def pace(self) -> Pace:
        """The session's own, up to the state's step."""
        tokens = (self.state.step - self.training.start_step) * self.tokens_per_step
        return pace(tokens, self.clock.training, self.model.config, hardware(str(self.model.device)))

    def spiked(self, figures: Figures, *, taken: bool = False) -> None:
        """Stop, or say that the step's batches are left out.

        Raises:
            DivergedError: spikes are not to be skipped, or it is too late to.
        """
        windows = self.windows(figures.step)
        if taken or self.training.on_nonfinite == "stop":
            so = f"so it was not taken: the weights are those of step {figures.step}"
            if taken:
                so = "which came to light after it was taken: the weights in memory are spoilt, none of them was saved"
            raise DivergedError(
                f"{figures}, {so}.",
                "Go on from the last bundle with a lower --learning-rate, or leave such batches out with "
                "--on-nonfinite skip.",
                [f"windows start at tokens {windows} of the training split", self._last_saved()],
            )
        self.observer.notice(f"{figures}; its batches are left out.")
        self._log(BatchSkipped(iter=figures.step + 1, timestamp=timestamp(), loss=str(figures.loss), windows=windows))

    def _last_saved(self) -> str:
        self.saver.wait()
        if self.checkpoint is None or not self.checkpoint.exists():
            return "nothing was saved yet"
        return f"the last good bundle is {self.checkpoint.path} at step {read_state(self.checkpoint.path).step}"

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
            self._save_to(self.checkpoint, lambda: self.observer.saved(step))

    def _save_to(self, checkpoint: CheckpointManager, done: Callable[[], None] = lambda: None) -> None:
        self.state = self.state.model_copy(update={"saved_at": timestamp()})
        tokenizer, scaler = self.data.primary.tokenizer, self.precision.scaler.state_dict()
        with self.clock.measure("saving"):
            content = Content.of(self.model, tokenizer, self.state, self.optimizer, scaler, copied=self.saver.beside)
            self.saver.save(checkpoint, content, done)

    def _eta(self) -> float:
        """Seconds to max_iters at this session's own pace, evaluations and saves included."""
        c, start = self.clock, self.training.start_step
        left = self.training.max_iters - self.state.step
        pauses = (c.evaluating + c.saving) / len(self.evals) * -(-left // self.training.eval_interval)
        return left * c.training / (self.state.step - start) + pauses

    def _log(self, event: Event) -> None:
        if self.log:
            self.log.append(event)
