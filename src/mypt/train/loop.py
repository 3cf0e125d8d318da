"""The training loop: step, evaluate, log, save."""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from mypt.errors import InputError, ProcessError
from mypt.log.messages import remeasured_lines
from mypt.log.writer import RunLog
from mypt.schema.files.events import Eval, GoldBlocked, GoldCheckpoint
from mypt.schema.files.log_line import Event
from mypt.schema.files.state import TrainingState
from mypt.schema.settings.training import TrainingConfig
from mypt.train import events
from mypt.train.device.async_check import StepResult
from mypt.train.device.choices import Choice
from mypt.train.device.compile import choose, compile_on_all
from mypt.train.device.deterministic import computing
from mypt.train.evaluation.evaluate import evaluate_sets
from mypt.train.evaluation.gold import Losses, decide_gold, note_baselines
from mypt.train.evaluation.measure import evaluates_first
from mypt.train.evaluation.overfit import OverfitWatch
from mypt.train.evaluation.patience import end_if_over
from mypt.train.evaluation.remeasure import take_over
from mypt.train.evaluation.sample import sample
from mypt.train.keeper import Keeper
from mypt.train.observer import Observer
from mypt.train.optim.schedule import learning_rate_at
from mypt.train.parallel.group import Group
from mypt.train.plan import Plan
from mypt.train.step import Stepper
from mypt.train.stop import ENDS, FitResult, Stop, StopNow
from mypt.train.throughput import LEAVING_S, Clock, session_throughput


@dataclass
class Trainer:
    """One training session: `run` is its whole life.

    Attributes:
        stepper: takes the steps.
        state: what training_state.json will hold; replaced at each evaluation and save, never changed in place.
        observer: who watches.
        keeper: saves bundles.
        log: where events go; None logs nothing.
        stop: looked at between the parts of all that takes long.
        compiled: whether the loss is compiled, and why.
        clock: where the session's time goes.
        latest: the last step whose result is known.
        evals: every evaluation of this session.
        done: steps that are done, through all sessions.
        silent: whether the log says that nothing can be shown any more.
        watch: tells that the run overfits.
        left_out: whether a step was left out for a reason that is told once: no token of it counts, or fp16 overflowed.
    """

    stepper: Stepper
    state: TrainingState
    observer: Observer
    keeper: Keeper
    log: RunLog | None
    stop: Stop = field(default_factory=Stop)
    compiled: Choice = field(default_factory=lambda: Choice(False, "never asked"))
    clock: Clock = field(default_factory=Clock)
    latest: StepResult | None = None
    evals: list[Eval] = field(default_factory=list)
    watch: OverfitWatch = field(default_factory=OverfitWatch)
    done: int = 0
    silent: bool = False
    left_out: bool = False

    def run(self) -> FitResult:
        """Train from the state's step to max_iters, evaluating, logging and saving on the way.

        Raises:
            DivergedError: something is not finite that is not to be skipped, or is so at the end; no good bundle was
                replaced.
            ShortOfMemoryError: there is not enough memory; what was saved before is whole.
            InputError: the data cannot be read any more; all steps before are saved.
            ProcessError: a process of several has failed or is lost; all steps before are saved.
        """
        self.stepper.restore()
        self.clock, self.done, stopped = Clock(latest=self.clock.latest), self.state.step, None
        self._log(events.training_start(self.clock.started_at, self.stepper, self.state, self.compiled.reason))
        self.observer.started(self.state.step, self.training.max_iters, self.stepper.tokens_per_step)
        self._note_silence()
        self.stepper.model.train()
        try:
            with self.keeper.saver, self.stepper.watched(self.stop.look), self._computing():
                try:
                    self._take_over()
                    self._go_on()
                except StopNow as stop:
                    stopped = self._stopped(stop)
                except (InputError, ProcessError):
                    self._break_off()
                    raise
                if (ruined := self.keeper.ruined) and stopped != "at_step":
                    raise self.keeper.diverged(self.state, f"{ruined}, and nothing was saved from there on.")
        except tuple(ENDS) as error:
            self._note_silence()
            reached = self.state.at_step(self.done, self.stepper.tokens_per_step)
            self._log(events.training_stopped(reached, self.clock, ENDS[type(error)]))
            raise
        return self._close(stopped)

    def _take_over(self) -> None:
        """See to it that gold is measured as this session measures."""
        self._keep_time(self.done)
        self.state, event = take_over(self.state, self.stepper, self.keeper.checkpoint, self.stop.look)
        if event is not None:
            self._log(event)
            for line in remeasured_lines(event):
                self.observer.notice(line)

    def _go_on(self) -> None:
        """Make the evaluation that is owed or comes first, and then step after step up to max_iters.

        Raises:
            StopNow: the session is to end; what was begun is neither taken, nor logged, nor saved.
        """
        if self.state.evaluation_pending:
            self._evaluate(self.done)
        elif evaluates_first(self.state):
            self._evaluate(self.done, first=True)
        for step in range(self.done, self.training.max_iters):
            self._look_ahead(step)
            self._enter_phase(step)
            self._step(step)
            if self.training.evaluates_at(self.done):
                self._evaluate(self.done)
            elif self.training.saves_at(self.done):
                self._save_between(self.done)

    def _step(self, step: int) -> None:
        with self.clock.measure("training"):
            results = self.stepper.step(step)
            if self.training.evaluates_at(step + 1):
                results += self.stepper.catch_up()
        self.done = step + 1
        self._accept(results)
        if self.latest is not None:
            self.observer.stepped(self.done, self.latest.loss)

    def _stopped(self, stop: StopNow) -> str:
        """End as was asked, and return why."""
        if stop.place:
            self.observer.notice(f"{stop.reason} came to {stop.place}.")
        self._break_off()
        return stop.reason

    def _break_off(self) -> None:
        """Forget what was begun, and save what is whole, unless it is saved."""
        self.stepper.forget()
        if self.stepper.has_all and self.group.first(
            lambda: self.state is not self.keeper.saved or self.state.step != self.done
        ):
            self._save_between(self.done)

    @property
    def training(self) -> TrainingConfig:
        """The settings in force."""
        return self.state.training_config

    @property
    def group(self) -> Group:
        """The processes that share the run."""
        return self.stepper.group

    def prepare(self, plan: Plan) -> None:
        """Reckon with the planned times, decide by them whether to compile, and record the decision."""
        self.clock.latest, model = {"training": plan.step_s, "evaluating": plan.eval_s}, self.stepper.model
        self.compiled = self.group.first(lambda: choose(self.training, str(model.device), plan.training_s))
        if self.compiled.on:
            with self.observer.busy("Compiling"), self._computing():
                self.compile_loss()
        self.state = self.state.with_settings(torch_compile="on" if self.compiled.on else "off")

    def compile_loss(self) -> None:
        """Compile the loss on all processes, or on none."""
        if failed := compile_on_all(self.stepper, self.state.step, self.stop.at_once):
            self.compiled = Choice(False, f"it failed: {failed}")
            self.observer.notice(f"torch.compile failed, so the model runs in eager mode: {failed}")

    def _computing(self) -> AbstractContextManager[None]:
        return computing(self.stepper.model.config, self.training)

    def _accept(self, results: Iterable[StepResult]) -> None:
        """Act on results as they become known: log those that are to be logged, stop at one that is not finite.

        Raises:
            DivergedError: a step is not finite, and such steps are not to be skipped.
            StopNow: a process was asked to stop in the middle of a step; other errors of a process are raised too.
        """
        interval = self.training.log_interval
        for result in results:
            if result.broken:
                self.done = result.step
                self.group.settle(self.stepper.broken)
            self.latest = self.latest if result.empty else result
            if not result.finite:
                self._skip(result)
            elif interval is not None and (result.step + 1) % interval == 0:
                lr = learning_rate_at(result.step, self.training)
                rate = interval * self.stepper.tokens_per_step / max(self.clock.lap(), 1e-9)
                self._log(events.step(result, lr, rate))

    def _skip(self, result: StepResult) -> None:
        windows = self.stepper.windows(result.step)
        usual = result.empty or result.overflow
        if self.training.on_nonfinite == "stop" and not usual:
            what = f"{result}, so it was not taken, and nothing was saved after it."
            where = f"windows start at tokens {windows} of the training split"
            todo = ", or leave such batches out with --on-nonfinite skip"
            raise self.keeper.diverged(self.state, what, [where], todo)
        self._log(events.batch_skipped(result, windows))
        if not (usual and self.left_out):  # of which there may be many, and the log has them all
            self.observer.notice(f"{result}; its batches are left out.")
        self.left_out |= usual

    def _enter_phase(self, step: int) -> None:
        """Announce that a later phase of the curriculum begins with this step."""
        phase = self.stepper.data.phase_at(step)
        if phase.start != step or step == 0:
            return
        self.state = self.state.at_step(step, self.stepper.tokens_per_step)
        self._log(events.phase_switch(self.state, self.clock, phase.name))
        self.observer.notice(f"Phase {phase.name} begins at step {step}.")

    def _keep_time(self, done: int) -> None:
        """Keep as much of a time limit as saving takes: after an evaluation gold may be saved too."""
        saves = 2 if self.training.evaluates_at(done) or self.state.evaluation_pending else 1
        self.stop.limit(self.training.max_minutes, saves * self.keeper.save_s + LEAVING_S)

    def _look_ahead(self, step: int) -> None:
        """End the session before a step that is not to be taken, or for which there is no time.

        Raises:
            StopNow: it ends.
        """
        if step == self.stop.at_step:
            raise StopNow("at_step")
        self._keep_time(step + 1)
        latest = self.clock.latest
        evaluating = latest.get("evaluating", 0.0) if self.training.evaluates_at(step + 1) else 0.0
        ahead = max(latest.get("training", 0.0) + evaluating, self.keeper.seconds_left())
        if self.group.size == 1 or self.training.max_minutes is not None:  # a signal ends the step itself as well
            self.group.first(lambda: self.stop.look_ahead(ahead))

    def _evaluate(self, step: int, first: bool = False) -> None:
        """Measure every set, log it, decide on gold, save; then tell.

        Args:
            step: steps done.
            first: it is made before the first step of the session, for baselines alone: nothing becomes gold by it, and
                nothing is saved.

        Raises:
            StopNow: it was broken off; the state says that it is owed, unless the next session begins with it anyway.
                Or it is the last one that patience allows, with all of it done.
        """
        self.state = self.state.at_step(step, self.stepper.tokens_per_step)
        self.state = self.state.model_copy(update={"evaluation_pending": not first})
        if self.stop.owing and step == self.stop.at_step:
            raise StopNow("at_step")
        stepper = self.stepper
        with self.clock.measure("evaluating"):
            measured = evaluate_sets(
                stepper.model, stepper.data, self.training, stepper.precision, progress=self.observer.evaluating,
                group=self.group, look=self.stop.look,
            )  # fmt: skip
        train, val = measured["train"], measured["val"]
        progress = self.state.progress.after_eval(step, train.loss, val.loss, val.bpb, counts=not first)
        self.state = self.state.model_copy(update={"progress": progress, "evaluation_pending": False})
        taken = max(0, step - 1)
        lr, phase = learning_rate_at(taken, self.state.settings_at(taken)), self.stepper.data.phase_at(taken)
        rates = session_throughput(self.stepper, self.state, self.clock)
        event = events.evaluation(self.state, measured, self.clock, rates, lr, phase.name)
        self.evals.append(event)
        self._log(event)
        sets = {name: measured[name].loss for name in self.stepper.data.eval_sets}
        measures = self.state.sessions[-1].measures or {}
        losses = Losses(val.loss, train.loss, sets, self.keeper.not_finite(), measures)
        gold = self._decide_gold(step, losses, first)
        if not first and not losses.not_finite:
            with self.clock.measure("saving"):
                self.state = self.keeper.save(self.state)
        eta = self.clock.seconds_left(self.training, step, len(self.evals))
        self.observer.evaluated(event, self.training.max_iters, eta)
        if gold is not None:
            self.observer.gold_decided(gold)
        self._note_silence()
        self.keeper.judge(self.state, losses.not_finite)
        if not first and (overfits := self.watch.see(event, self.training)):
            self.observer.notice(overfits)
        self._sample()
        end_if_over(self.state)

    def _sample(self) -> None:
        with self.clock.measure("sampling"):
            event = self.group.first(lambda: sample(self.stepper, self.state))
        if event is not None:
            self._log(event)
            self.observer.sampled(event)

    def _decide_gold(self, step: int, losses: Losses, first: bool) -> GoldCheckpoint | GoldBlocked | None:
        """Let the gold decision see this evaluation, and save and log the outcome; the first gives baselines alone."""
        progress = self.state.progress
        if first:
            self.state = self.state.with_current(evaluated_first=True)
        if first and not losses.not_finite:
            noted = note_baselines(progress.gold, losses)
            self.state = self.state.with_progress(progress.model_copy(update={"gold": noted}))
            return None
        decision = decide_gold(progress.gold, step, losses, self.training)
        self.state = self.state.with_progress(progress.model_copy(update={"gold": decision.state}))
        if decision.kind == "gold":
            with self.clock.measure("saving"):
                self.state = self.keeper.save_gold(self.state)
        if (event := events.gold_decided(decision, step, losses.val)) is not None:
            self._log(event)
        return event

    def _save_between(self, step: int) -> None:
        self._accept(self.stepper.catch_up())
        self.state = self.state.at_step(step, self.stepper.tokens_per_step)
        with self.clock.measure("saving"):
            self.state = self.keeper.save_unmeasured(self.state)

    def _close(self, stopped: str | None) -> FitResult:
        """Log how the session ended."""
        self._note_silence()
        if stopped:
            self._log(events.training_stopped(self.state, self.clock, stopped))
            return FitResult(self.state, self.evals, stopped=stopped)
        rates = session_throughput(self.stepper, self.state, self.clock)
        complete = events.training_complete(self.state, self.clock, rates, self.group.launch.restarts)
        self._log(complete)
        return FitResult(self.state, self.evals, complete)

    def _note_silence(self) -> None:
        """Log, once, that nothing can be shown any more."""
        if not self.silent and (reason := self.observer.lost()) is not None:
            self.silent = True
            self._log(events.output_lost(self.done, reason))

    def _log(self, event: Event) -> None:
        if self.log is not None:
            self.observer.logged(self.log.append(event))
