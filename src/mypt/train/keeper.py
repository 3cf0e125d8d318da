"""What of a session is kept: its bundles, and never anything that is not finite in place of a good one."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from weakref import ref

from mypt.checkpoint.manager import CheckpointManager, Content
from mypt.errors import DivergedError
from mypt.model.cost import bundle_bytes
from mypt.schema.files.events import timestamp
from mypt.schema.files.state import TrainingState
from mypt.train.device.async_save import AsyncSaver
from mypt.train.evaluation.divergence import diverged, not_finite_values
from mypt.train.observer import Observer
from mypt.train.parallel.disk import Parts, save_parts
from mypt.train.parallel.gather import gathered
from mypt.train.parallel.parts import is_sharded
from mypt.train.step import Stepper
from mypt.train.throughput import LEAVING_S

SAVED_BYTES_PER_S = 200e6
"""Assumed speed of a save until one was measured."""


@dataclass
class Keeper:
    """Saves the bundles of a session.

    Attributes:
        stepper: has the model and its optimizer.
        checkpoint: where to save; None saves nothing.
        saver: writes, in turn or beside training.
        observer: notified of what is saved, and of what is not.
        saved: the state that was last saved; None until something was.
        ruined: what is not finite, and since when; nothing is saved until an evaluation finds all finite again.
        collected_s: seconds that it took to collect, or to copy, what was last saved.
        in_parts: whether each process saves its part of weights and moments.
    """

    stepper: Stepper
    checkpoint: CheckpointManager | None
    saver: AsyncSaver
    observer: Observer
    saved: TrainingState | None = None
    ruined: str | None = None
    collected_s: float = 0.0
    in_parts: bool = False
    _parts: Parts | None = None
    _waiting: Callable[[], Content | None] = lambda: None
    _gathered: Content | None = None
    _gathered_at: int | None = None

    @property
    def save_s(self) -> float:
        """Seconds that a save takes: as the latest did, or the one that a thread is at; estimated before the first."""
        stepper, latest = self.stepper, self.saver.latest_s
        estimated = bundle_bytes(stepper.model.config, stepper.training) / SAVED_BYTES_PER_S + LEAVING_S
        return max(self.collected_s + (latest or estimated), self.saver.under_way_s())

    def seconds_left(self) -> float:
        """Seconds until everything is on disk that a thread writes beside training."""
        return self.saver.seconds_left(self.save_s)

    def not_finite(self) -> tuple[str, ...]:
        """Which of weights and optimizer state are not finite, whichever process has that part of them."""
        found = not_finite_values(self.stepper.model, self.stepper.optimizer)
        if not is_sharded(self.stepper.model):
            return found
        of_any = self.stepper.group.gathered(found)
        return tuple(name for name in ("weights", "optimizer state") if any(name in of_one for of_one in of_any))

    def judge(self, state: TrainingState, faults: Sequence[str]) -> None:
        """Let nothing be saved from this state on if something is not finite, and again if all is.

        Raises:
            DivergedError: something is not finite, and that is not to be skipped.
        """
        was, at = self.ruined, f"At step {state.step}"
        self.ruined = f"{at} not everything is finite ({', '.join(faults)})" if faults else None
        if self.ruined and state.training_config.on_nonfinite == "stop":
            raise self.diverged(state, f"{self.ruined}, so nothing was saved there.")
        if self.ruined:
            self.observer.notice(f"{self.ruined}; nothing is saved until an evaluation is finite again.")
        elif was:
            self.observer.notice(f"{at} everything is finite again, so it is saved.")

    def save(self, state: TrainingState) -> TrainingState:
        """Save the run's own bundle, which all processes come to; returns the state as it was saved."""
        state = self._save(state, gold=False)
        self.saved, self._parts, self._gathered, self._gathered_at = state, None, None, None
        return state

    def save_gold(self, state: TrainingState) -> TrainingState:
        """Save the gold bundle, as `save` does the run's own."""
        return self._save(state, gold=True)

    def save_unmeasured(self, state: TrainingState) -> TrainingState:
        """Save without an evaluation, unless something is not finite; raises as `judge`."""
        if self.ruined is not None:
            return state
        if faults := self.not_finite():
            self.judge(state, faults)
            return state
        return self.save(state)

    def diverged(self, state: TrainingState, what: str, details: Sequence[str] = (), other: str = "") -> DivergedError:
        """The error that names the last good bundle, once everything is on disk; arguments as of `diverged`."""
        self.saver.wait()
        return diverged(what, state.training_config, self.checkpoint, details, other)

    def _save(self, state: TrainingState, *, gold: bool) -> TrainingState:
        """Let the first process write a bundle; where the weights are in parts, all bring theirs."""
        if self.in_parts:
            return self._save_part(state, gold)
        if is_sharded(self.stepper.model) and self._gathered_at != state.step:
            self._gathered, self._gathered_at = gathered(self.stepper, state), state.step
        return self.stepper.group.first(lambda: self._written(state, gold))

    def _save_part(self, state: TrainingState, gold: bool) -> TrainingState:
        """Save this process's part of a bundle, as all do; for gold and the last step together it is written once."""
        began = time.perf_counter()
        state = self.stepper.group.first(lambda: state.model_copy(update={"saved_at": timestamp()}))
        to = self.checkpoint and (self.checkpoint.gold() if gold else self.checkpoint)
        same = self._parts if self._parts is not None and self._parts.step == state.step else None
        self._parts = save_parts(self.stepper, to, state, same)
        if same is None:  # a second name of what is written takes no time, and tells nothing of the next save
            self.saver.latest_s = time.perf_counter() - began
        if to is not None and not gold:
            self.observer.saved(state.step)
        return state

    def _written(self, state: TrainingState, gold: bool) -> TrainingState:
        if self.checkpoint is None:
            return state
        if gold:
            return self._write(self.checkpoint.gold(), state)
        return self._write(self.checkpoint, state, lambda: self.observer.saved(state.step))

    def _write(
        self, to: CheckpointManager, state: TrainingState, done: Callable[[], None] = lambda: None
    ) -> TrainingState:
        state = state.model_copy(update={"saved_at": timestamp()})
        content = self._content(state)
        self._waiting = ref(content)
        self.saver.save(to, content, done)
        return state

    def _content(self, state: TrainingState) -> Content:
        """What is saved: a copy where training goes on meanwhile, one at a time and one for gold and the last step."""
        waiting = self._waiting()
        if waiting is not None and waiting.state.step == state.step:
            return replace(waiting, state=state)
        del waiting
        self.saver.wait()
        if self._gathered is not None:
            return replace(self._gathered, state=state)
        stepper, began = self.stepper, time.perf_counter()
        tokenizer, scaler = stepper.data.primary.tokenizer, stepper.precision.scaler.state_dict()
        content = Content.of(stepper.model, tokenizer, state, stepper.optimizer, scaler, copied=self.saver.beside)
        self.collected_s = time.perf_counter() - began
        return content
