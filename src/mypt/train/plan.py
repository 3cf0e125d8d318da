"""What a run is about to do and what it will take, gathered before its first step."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from mypt.schema.files.state import DataRecord, TrainingState
from mypt.schema.settings.config import GPTConfig
from mypt.schema.settings.training import TrainingConfig
from mypt.train.optim.schedule import learning_rate_at

if TYPE_CHECKING:
    from mypt.train.device.choices import Choice

MANY_TIMES = 5
"""How often a text is seen from which on that brings less and less, and val losses often rise."""
WORTHWHILE = 50
"""Steps below which a run is not worth it."""


@dataclass(frozen=True)
class Coverage:
    """How many times a run sees the training text of one phase.

    Attributes:
        phase: name of the phase; None without a curriculum.
        tokens: of the training text.
        times: over the whole run, with what earlier sessions saw by their own settings.
    """

    phase: str | None
    tokens: int
    times: float


@dataclass(frozen=True)
class MaskUse:
    """What a loss mask leaves of the training data of one phase.

    Attributes:
        phase: name of the phase; None without a curriculum.
        there: whether the data have a mask.
        used: whether it is applied.
        share: fraction of the targets that count.
    """

    phase: str | None
    there: bool
    used: bool
    share: float


@dataclass(frozen=True)
class LongConversations:
    """Training conversations that no window holds whole; `longest` in tokens."""

    count: int
    of: int
    longest: int


@dataclass(frozen=True)
class Plan:
    """The figures of the table that is shown before training.

    Attributes:
        name: the model's name.
        state: the record that the session begins with: settings, data, steps done, earlier sessions.
        config: the architecture.
        parameters: of the model.
        precision: `fp32`, `tf32`, `bf16` or `fp16`: what matrix products are computed in.
        memory_estimate: bytes that training is expected to need.
        memory_measured: bytes held at the peak of the timed step; None where the system does not tell.
        disk_needed: bytes that the run's bundles take at their peak.
        disk_free: bytes free where they go.
        step_s: measured seconds a step.
        eval_s: estimated seconds an evaluation, from a measured batch of it.
        beforehand: evaluations before the first step.
        masks: how each phase uses the loss masks of its data; empty where there are none.
        long: conversations that no window holds whole; None if there are none.
        deterministic: whether a GPU is to compute the same each time; None where the settings say so already.
    """

    name: str
    state: TrainingState
    config: GPTConfig
    parameters: int
    precision: str
    memory_estimate: int
    memory_measured: int | None
    disk_needed: int
    disk_free: int
    step_s: float
    eval_s: float
    beforehand: int = 0
    masks: tuple[MaskUse, ...] = ()
    long: LongConversations | None = None
    deterministic: "Choice | None" = None

    @property
    def data(self) -> DataRecord | None:
        """The text and its tokens; of a curriculum, what is measured."""
        return self.state.data

    @property
    def training(self) -> TrainingConfig:
        """The settings in force."""
        return self.state.training_config

    @property
    def first_step(self) -> int:
        """Steps already done."""
        return self.state.step

    @property
    def steps(self) -> int:
        """Steps to go."""
        return self.training.max_iters - self.first_step

    @property
    def tokens_per_step(self) -> int:
        """Tokens that one step learns from."""
        return self.config.batch_size * self.config.block_size * self.training.grad_accum_steps

    @property
    def coverage(self) -> list[Coverage]:
        """How many times the whole run sees its training text, phase by phase."""
        state, last = self.state, self.training.max_iters
        whole: list[tuple[str | None, int]] = [(None, state.data.train_tokens if state.data else 0)]
        sizes = [(p.name, p.data.train_tokens) for p in state.curriculum] or whole
        ends = [min(p.until_iter or last, last) for p in state.curriculum[:-1]]
        tokens = self.config.batch_size * self.config.block_size
        seen = [state.micro_batches(step) * tokens for step in (0, *ends, last)]
        return [
            Coverage(phase, size, (after - before) / size)
            for (phase, size), (before, after) in zip(sizes, pairwise(seen), strict=True)
            if size
        ]

    @property
    def evaluations(self) -> int:
        """Evaluations to go, with those before the first step and the one at the end."""
        done, last = self.first_step // self.training.eval_interval, self.training.max_iters
        return self.beforehand + -(-last // self.training.eval_interval) - done

    @property
    def training_s(self) -> float:
        """Estimated seconds in steps."""
        return self.steps * self.step_s

    @property
    def evaluating_s(self) -> float:
        """Estimated seconds in evaluations."""
        return self.evaluations * self.eval_s

    @property
    def notes(self) -> list[str]:
        """What in the settings may not be meant."""
        phases = [(p.name, p.until_iter) for p in self.state.curriculum]
        notes, long = doubtful_settings(self.training, phases), self.long
        if long is not None:
            notes.append(
                f"{long.count:,} of {long.of:,} conversations are longer than the window of {self.config.block_size:,} "
                f"tokens, so they are learned in parts; the longest has {long.longest:,}"
            )
        return notes + [note for phase in self.coverage if (note := self._overfits(phase))]

    def _overfits(self, phase: Coverage) -> str | None:
        """The sentence on a text that is seen so often that it is learned by heart."""
        if phase.times <= MANY_TIMES:
            return None
        text = "the training text" if phase.phase is None else f"the text of {phase.phase}"
        steps, fewer = "", int(MANY_TIMES * phase.tokens / self.tokens_per_step)
        if phase.phase is None and self.first_step + WORTHWHILE < fewer < self.training.max_iters:
            steps = f", fewer steps (--max-iters {fewer})"
        ends = "" if self.training.patience else ", or --patience 5, which ends the run where that happens"
        return (
            f"the run sees {text} {phase.times:,.0f} times; from about {MANY_TIMES} on a model begins to learn it by "
            f"heart (overfitting): give more text{steps}{ends}"
        )


def doubtful_settings(training: TrainingConfig, phases: Sequence[tuple[str, int | None]] = ()) -> list[str]:
    """A sentence on each setting that is allowed but does not do in this run what its name says.

    Args:
        training: the settings of the run.
        phases: of a curriculum, the name of each and the step at which it ends.
    """
    last, warmup, peak = training.max_iters, training.warmup_steps, training.learning_rate
    notes = []
    if warmup >= last:
        top = learning_rate_at(last - 1, training)
        notes.append(
            f"the warm-up takes {warmup:,} steps and the run ends at step {last:,}: the learning rate rises to "
            f"{top:.4g} and never reaches {peak:.4g}; --warmup-iters 0.05 warms up for a twentieth of a run"
        )
    if training.min_lr is not None and training.lr_schedule == "constant":
        notes.append(f"min_lr {training.min_lr:.4g} has no effect with lr_schedule constant")
    for name, what in (
        ("save_interval", "nothing is saved between evaluations"),
        ("log_interval", "no step is logged"),
    ):
        interval = getattr(training, name)
        if interval is not None and interval > last:
            notes.append(f"{name} {interval:,} is longer than the run of {last:,} steps: {what}")
    if training.gold_overfit_ratio < 1:
        notes.append(
            f"gold_overfit_ratio {training.gold_overfit_ratio:g} is below 1: no evaluation becomes gold unless its val "
            "loss is that far below its train loss"
        )
    begins = [0, *(end or 0 for _, end in phases[:-1])]
    notes += [
        f"the phase {name} would begin after step {begin:,} and the run ends at step {last:,}"
        for (name, _), begin in zip(phases, begins, strict=False)
        if begin >= last
    ]
    return notes
