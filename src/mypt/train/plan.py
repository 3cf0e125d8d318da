"""What a run is about to do and what it will take, gathered before its first step."""

from dataclasses import dataclass

from mypt.schema.files.state import DataRecord
from mypt.schema.settings.config import GPTConfig
from mypt.schema.settings.training import TrainingConfig


@dataclass(frozen=True)
class Plan:
    """The figures of the table that is shown before training.

    Attributes:
        name: the model's name.
        data: the text and its tokens.
        config: the architecture.
        training: the settings in force.
        first_step: steps already done.
        parameters: of the model.
        precision: `fp32`, `bf16` or `fp16`, as computed in.
        memory_estimate: bytes that training is expected to need.
        memory_measured: bytes held at the peak of the timed step; None where the system does not tell.
        disk_needed: bytes that the run's bundles take at their peak.
        disk_free: bytes free where they go.
        step_s: measured seconds a step.
        eval_s: estimated seconds an evaluation, from a measured batch of it.
    """

    name: str
    data: DataRecord
    config: GPTConfig
    training: TrainingConfig
    first_step: int
    parameters: int
    precision: str
    memory_estimate: int
    memory_measured: int | None
    disk_needed: int
    disk_free: int
    step_s: float
    eval_s: float

    @property
    def steps(self) -> int:
        """Steps to go."""
        return self.training.max_iters - self.first_step

    @property
    def tokens_per_step(self) -> int:
        """Tokens that one step learns from."""
        return self.config.batch_size * self.config.block_size * self.training.grad_accum_steps

    @property
    def coverage(self) -> float:
        """How many times the whole run sees the training text."""
        return self.training.max_iters * self.tokens_per_step / self.data.train_tokens

    @property
    def training_s(self) -> float:
        """Estimated seconds in steps."""
        return self.steps * self.step_s

    @property
    def evaluating_s(self) -> float:
        """Estimated seconds in evaluations."""
        interval = self.training.eval_interval
        done, last = self.first_step // interval, self.training.max_iters
        return (-(-last // interval) - done) * self.eval_s
