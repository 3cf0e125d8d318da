"""The training loop: step, evaluate, log, save."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from mypt.checkpoint.files import read_state
from mypt.checkpoint.manager import CheckpointManager, Content
from mypt.errors import DivergedError
from mypt.log.writer import RunLog
from mypt.schema.files.events import Eval, Event, TrainingComplete, timestamp
from mypt.schema.files.state import TrainingState
from mypt.schema.settings.training import TrainingConfig
from mypt.train import events
from mypt.train.device.async_check import StepResult
from mypt.train.device.async_save import AsyncSaver
from mypt.train.device.choices import Choice
from mypt.train.device.compile import CompiledLoss, choose
from mypt.train.device.devices import hardware
from mypt.train.evaluate import Measured, evaluate
from mypt.train.gold import Losses, decide_gold
from mypt.train.observer import Observer
from mypt.train.optim.schedule import learning_rate_at
from mypt.train.step import Stepper
from mypt.train.stop import Stop
from mypt.train.throughput import Clock, Throughput, throughput

UNKNOWN_SAVE_S = 2.0
"""Assumed time of a save until one was measured."""


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
    """One training session: `run` is its whole life.

    Attributes:
        stepper: takes the steps.
        state: what training_state.json will hold; replaced at each evaluation and save, never changed in place.
        observer: who watches.
        checkpoint: where to save; None saves nothing.
        log: where events go; None logs nothing.
        saver: writes bundles, in turn or beside training.
        stop: asked after every step.
        compiled: whether the loss is compiled, and why.
        clock: where the session's time goes.
        latest: the last step whose result is known.
        evals: every evaluation of this session.
    """

    stepper: Stepper
    state: TrainingState
    observer: Observer
    checkpoint: CheckpointManager | None
    log: RunLog | None
    saver: AsyncSaver
    stop: Stop = field(default_factory=Stop)
    compiled: Choice = field(default_factory=lambda: Choice(False, "never asked"))
    clock: Clock = field(default_factory=Clock)
    latest: StepResult | None = None
    evals: list[Eval] = field(default_factory=list)

    def run(self) -> FitResult:
        """Train from the state's step to max_iters, evaluating, logging and saving on the way."""
        self.clock, stopped = Clock(), None
        self._log(events.training_start(self.clock.started_at, self.stepper, self.state, self.compiled.reason))
        self.observer.started(self.state.step, self.training.max_iters, self.stepper.tokens_per_step)
        self.stepper.model.train()
        with self.saver:
            for step in range(self.state.step, self.training.max_iters):
                done = step + 1
                self._enter_phase(step)
                with self.clock.measure("training"):
                    results = self.stepper.step(step)
                    if self._eval_due(done):
                        results += self.stepper.catch_up()
                self._accept(results)
                if self.latest is not None:
                    self.observer.stepped(done, self.latest.loss)
                if self._eval_due(done):
                    self._evaluate(done)
                stopped = self._stop_reason(done)
                if self._eval_due(done) or self._save_due(done) or stopped:
                    self._save(done)
                if stopped:
                    break
        return self._close(stopped)

    @property
    def training(self) -> TrainingConfig:
        """The settings in force."""
        return self.state.training_config

    def compile_for(self, training_s: float) -> None:
        """Decide whether to compile the loss, and record the decision."""
        model = self.stepper.model
        self.compiled = choose(self.training, str(model.device), training_s)
        self.stepper.loss = CompiledLoss(model, self.observer.notice) if self.compiled.on else model.loss
        self.state = self.state.with_settings(torch_compile="on" if self.compiled.on else "off")

    def throughput(self) -> Throughput:
        """The session's own, up to the state's step."""
        tokens = (self.state.step - self.training.start_step) * self.stepper.tokens_per_step
        model = self.stepper.model
        return throughput(tokens, self.clock.training, model.config, hardware(str(model.device)))

    def _accept(self, results: Iterable[StepResult]) -> None:
        """Act on results as they become known: log those that are to be logged, stop at one that is not finite.

        Raises:
            DivergedError: a step is not finite, and such steps are not to be skipped.
        """
        interval = self.training.log_interval
        for result in results:
            self.latest = result
            if not result.finite:
                self._skip(result)
            elif interval is not None and (result.step + 1) % interval == 0:
                lr = learning_rate_at(result.step, self.training)
                rate = interval * self.stepper.tokens_per_step / max(self.clock.lap(), 1e-9)
                self._log(events.step(result, lr, rate))

    def _skip(self, result: StepResult) -> None:
        windows = self.stepper.windows(result.step)
        if self.training.on_nonfinite == "stop":
            raise DivergedError(
                f"{result}, so it was not taken, and nothing was saved after it.",
                "Go on from the last bundle with a lower --learning-rate, or leave such batches out with "
                "--on-nonfinite skip.",
                [f"windows start at tokens {windows} of the training split", self._last_saved()],
            )
        self.observer.notice(f"{result}; its batches are left out.")
        self._log(events.batch_skipped(result, windows))

    def _last_saved(self) -> str:
        self.saver.wait()
        if self.checkpoint is None or not self.checkpoint.exists():
            return "nothing was saved yet"
        return f"the last good bundle is {self.checkpoint.path} at step {read_state(self.checkpoint.path).step}"

    def _enter_phase(self, step: int) -> None:
        """Announce that a later phase of the curriculum begins with this step."""
        phase = self.stepper.data.phase_at(step)
        if phase.start != step or step == 0:
            return
        self.state = self.state.at_step(step, self.stepper.tokens_per_step)
        self._log(events.phase_switch(self.state, self.clock, phase.name))
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

    def _evaluate(self, step: int) -> None:
        """Measure every set, record and log it, and decide on gold."""
        with self.clock.measure("evaluating"):
            measured = self._measure()
        train, val = measured["train"], measured["val"]
        state = self.state.at_step(step, self.stepper.tokens_per_step)
        self.state = state.with_progress(state.progress.after_eval(step, train.loss, val.loss, val.bpb))
        lr, phase = self.stepper.optimizer.param_groups[0]["lr"], self.stepper.data.phase_at(step - 1)
        event = events.evaluation(self.state, measured, self.clock, self.throughput(), lr, phase.name)
        self.evals.append(event)
        self._log(event)
        self.observer.evaluated(event, self.training.max_iters, self._eta())
        self._decide_gold(
            step, Losses(val.loss, train.loss, {name: measured[name].loss for name in self.stepper.data.eval_sets})
        )

    def _measure(self) -> dict[str, Measured]:
        """Every set that an evaluation looks at, by name."""
        stepper = self.stepper
        done, total = 0, stepper.data.eval_batch_count(self.training.eval_iters)

        def advance() -> None:
            nonlocal done
            done += 1
            self.observer.evaluating(done, total)

        return {
            name: evaluate(stepper.model, loader, split, self.training, stepper.precision, advance)
            for name, (loader, split) in stepper.data.measured_sets().items()
        }

    def _decide_gold(self, step: int, losses: Losses) -> None:
        """Let the gold decision see this evaluation, and save and log the outcome."""
        decision = decide_gold(self.state.progress.gold, step, losses, self.training)
        self.state = self.state.with_progress(self.state.progress.model_copy(update={"gold": decision.state}))
        if decision.kind == "gold" and self.checkpoint is not None:
            self._save_to(self.checkpoint.gold())
        event = events.gold_decided(decision, step, losses.val)
        if event is not None:
            self._log(event)
            self.observer.gold_decided(event)

    def _save(self, step: int) -> None:
        self._accept(self.stepper.catch_up())
        self.state = self.state.at_step(step, self.stepper.tokens_per_step)
        if self.checkpoint is not None:
            self._save_to(self.checkpoint, lambda: self.observer.saved(step))

    def _save_to(self, checkpoint: CheckpointManager, done: Callable[[], None] = lambda: None) -> None:
        self.state = self.state.model_copy(update={"saved_at": timestamp()})
        stepper = self.stepper
        tokenizer, scaler = stepper.data.primary.tokenizer, stepper.precision.scaler.state_dict()
        with self.clock.measure("saving"):
            content = Content.of(
                stepper.model, tokenizer, self.state, stepper.optimizer, scaler, copied=self.saver.beside
            )
            self.saver.save(checkpoint, content, done)

    def _close(self, stopped: str | None) -> FitResult:
        """Log how the session ended."""
        if stopped:
            self._log(events.training_stopped(self.state, self.clock, stopped))
            return FitResult(self.state, self.evals, stopped=stopped)
        complete = events.training_complete(self.state, self.clock, self.throughput())
        self._log(complete)
        return FitResult(self.state, self.evals, complete)

    def _eta(self) -> float:
        """Seconds to max_iters at this session's own rate, evaluations and saves included."""
        c, start = self.clock, self.training.start_step
        left = self.training.max_iters - self.state.step
        pauses = (c.evaluating + c.saving) / len(self.evals) * -(-left // self.training.eval_interval)
        return left * c.training / (self.state.step - start) + pauses

    def _log(self, event: Event) -> None:
        if self.log is not None:
            self.log.append(event)
