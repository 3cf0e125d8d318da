"""The events of a run's log, one JSON object a line. Fields are written in the order in which they stand here."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import PlainSerializer, SerializerFunctionWrapHandler, model_serializer, model_validator

from mypt.schema.files.gold import Measure
from mypt.schema.files.log_line import Event
from mypt.schema.files.run_config import ModelRecord, RunConfigRecord


def _rounded(digits: int) -> PlainSerializer:
    return PlainSerializer(lambda x: None if x is None else round(x, digits), when_used="always")


Loss = Annotated[float, _rounded(6)]
LearningRate = Annotated[float, PlainSerializer(lambda x: float(f"{x:.6g}"), when_used="always")]
Seconds = Annotated[float, _rounded(3)]


def timestamp() -> str:
    """The local wall-clock time, ISO 8601 with microseconds."""
    return datetime.now().isoformat(timespec="microseconds")


class TrainingStart(Event):
    """Written when a run starts and again when it is resumed."""

    event: Literal["training_start"] = "training_start"
    timestamp: str
    config: RunConfigRecord
    model: ModelRecord


class Eval(Event):
    """Written after each evaluation. Losses are nats per token.

    Each further eval set adds `eval_<name>`, which is written after `val_loss`, and `<name>_se` and `<name>_bpb` at
    the end.

    Attributes:
        val_se: standard error of `val_loss`.
        val_bpb: `val_loss` in bits per byte of text.
        train_se: standard error of `train_loss`.
        tokens_per_sec: of this session's training time so far.
        tflops: the same in 10^12 floating point operations a second.
        mfu: share of the device's dense bf16 peak; None where that is not known.
    """

    event: Literal["eval"] = "eval"
    iter: int
    timestamp: str
    elapsed_s: Seconds
    tokens_processed: int
    progress_pct: Annotated[float, _rounded(2)]
    lr: LearningRate
    phase: str
    val_loss: Loss
    eval_duration_s: Seconds
    train_loss: Loss | None = None
    val_se: Loss | None = None
    val_bpb: Loss | None = None
    train_se: Loss | None = None
    tokens_per_sec: int | None = None
    tflops: Annotated[float | None, _rounded(4)] = None
    mfu: Annotated[float | None, _rounded(4)] = None

    def eval_sets(self) -> dict[str, float | None]:
        """The losses of further eval sets, by name; None where one was not measured."""
        extra: dict[str, Any] = self.model_extra or {}
        return {key.removeprefix("eval_"): extra[key] for key in eval_sets(extra)}

    @model_validator(mode="after")
    def _sets_are_losses(self) -> Self:
        extra = self.model_extra or {}
        for key in eval_sets(extra):
            if not isinstance(extra[key], int | float | None) or isinstance(extra[key], bool):
                raise ValueError(f"{key} is no loss")
        return self

    @model_serializer(mode="wrap")
    def _in_order(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = handler(self)
        extra = {k: round(v, 6) if isinstance(v, float) else v for k, v in (self.model_extra or {}).items()}
        losses = {k: v for k, v in extra.items() if k.startswith("eval_")}
        ordered: dict[str, Any] = {}
        for key, value in content.items():
            ordered[key] = extra.get(key, value)
            if key == "val_loss":
                ordered |= losses
        return ordered


def eval_sets(keys: Iterable[str]) -> list[str]:
    """Those keys of an `eval` event that are losses of further eval sets."""
    return [key for key in keys if key.startswith("eval_") and key != "eval_duration_s"]


class Step(Event):
    """Written after every `log_interval`-th step where that is asked for.

    Attributes:
        loss: mean of the step's own tokens, nats per token.
        grad_norm: L2 norm of the whole gradient, before clipping.
        tokens_per_sec: of the steps since the last such line, without evaluations and saves.
    """

    event: Literal["step"] = "step"
    iter: int
    timestamp: str
    loss: Loss
    lr: LearningRate
    grad_norm: Loss
    tokens_per_sec: int


class Sample(Event):
    """Written after an evaluation where a prompt is to be continued.

    Attributes:
        seed: by which the tokens were drawn.
        text: that the model writes after the prompt.
    """

    event: Literal["sample"] = "sample"
    iter: int
    timestamp: str
    duration_s: Seconds
    seed: int
    prompt: str
    text: str


class PhaseSwitch(Event):
    """Written when a phase of the curriculum takes over, before its first step."""

    event: Literal["phase_switch"] = "phase_switch"
    iter: int
    timestamp: str
    elapsed_s: Seconds
    tokens_processed: int
    new_phase: str


class TrainingComplete(Event):
    """Written when a run reaches max_iters. Rates are of this session's training time, without evals and saves."""

    event: Literal["training_complete"] = "training_complete"
    timestamp: str
    started_at: str
    total_elapsed_s: Seconds
    total_elapsed_h: Annotated[float, _rounded(4)]
    total_steps: int
    total_tokens: int
    steps_per_sec: Annotated[float, _rounded(2)]
    tokens_per_sec: int
    final_train_loss: Loss | None
    final_val_loss: Loss | None
    best_val_loss: Loss | None
    gold_step: int | None
    config_file: str | None
    dataset_dir: str | None
    training_s: Seconds | None = None
    eval_s: Seconds | None = None
    save_s: Seconds | None = None
    restarts: int | None = None
    tflops: Annotated[float | None, _rounded(4)] = None
    mfu: Annotated[float | None, _rounded(4)] = None


class GoldCheckpoint(Event):
    """Written when an evaluation becomes the gold checkpoint."""

    event: Literal["gold_checkpoint"] = "gold_checkpoint"
    iter: int
    timestamp: str
    val_loss: Loss
    prev_best: Loss | None


class GoldBlocked(Event):
    """Written when a better val loss does not become gold because a guard holds, or anything is not finite."""

    event: Literal["gold_blocked"] = "gold_blocked"
    iter: int
    timestamp: str
    val_loss: Loss
    best_val_loss: Loss | None
    reason: str


class GoldRemeasured(Event):
    """Written at the start of a session in which losses are measured otherwise than before: they do not compare.

    Attributes:
        sets: those of which it is so; `val` stands for the val loss, and with it for gold.
        gold_step: step of the gold checkpoint until then; None if there was none, or the val loss is not concerned.
        old_val_loss: its val loss as it was measured before.
        val_loss: its val loss as it is measured from here on; None if gold begins anew.
        reason: what is other, for people.
        measures: what each of these sets is measured with from here on.
    """

    event: Literal["gold_remeasured"] = "gold_remeasured"
    iter: int
    timestamp: str
    sets: list[str]
    gold_step: int | None
    old_val_loss: Loss | None
    val_loss: Loss | None
    reason: str
    measures: dict[str, Measure]


class TrainingStopped(Event):
    """Written when a session ends early: by a signal or a time limit, with everything saved, or by what befell it.

    Attributes:
        reason: name of the signal, `max_minutes`, or, with nothing saved since, `diverged` where something is not
            finite and `out_of_memory`.
    """

    event: Literal["training_stopped"] = "training_stopped"
    iter: int
    timestamp: str
    elapsed_s: Seconds
    tokens_processed: int
    reason: str


class BatchSkipped(Event):
    """Written when a step is left out: its loss or gradient is not finite (`--on-nonfinite skip`), or it has no loss.

    So is one whose gradients overflow by fp16's loss scale, which is lowered then, unless it is at 1 already.

    Attributes:
        loss: the step's loss as text, since JSON has no word for nan or inf; None where no token counts.
        windows: first token of each window of each micro-batch, in the training split.
    """

    event: Literal["batch_skipped"] = "batch_skipped"
    iter: int
    timestamp: str
    loss: str | None
    windows: list[list[int]]


class OutputLost(Event):
    """Written once in a session whose output can be written no longer; it goes on without."""

    event: Literal["output_lost"] = "output_lost"
    iter: int
    timestamp: str
    reason: str


class Evaluation(Event):
    """Written by `mypt evaluate`, while the run trains or later: what a bundle of the run comes to on other data.

    What a task of lm-evaluation-harness measures follows as `metric_<name>`; of a task the figures of a text are null.

    Attributes:
        iter: step of the weights.
        bundle: name of the bundle.
        weights_sha256: hash of its weights, whatever the format of their file.
        model_sha256: hash of its model.pt, by which its record finds the evaluation.
        kind: what it was measured on.
        source: the sources of the text, the folder of the shards, or the name of the task.
        split: of the shards.
        sha256: hash of the text in UTF-8; fingerprint of the shards; hash of what defines the task.
        loss: nats per token.
        se: standard error of the loss, over windows; None for a single one.
        bpb: the loss in bits per byte of UTF-8; None where what the tokens mean is not known.
        perplexity: exponential of the loss.
        tokens: that were predicted, each exactly once.
        text_bytes: what these tokens stand for.
        block_size: the most tokens of a window, beyond which the model sees none.
        samples: of the task.
    """

    event: Literal["evaluation"] = "evaluation"
    iter: int
    timestamp: str
    duration_s: Seconds
    bundle: str
    weights_sha256: str
    model_sha256: str
    kind: Literal["text", "shards", "task"]
    source: str
    split: str | None = None
    sha256: str | None = None
    loss: Loss | None = None
    se: Loss | None = None
    bpb: Loss | None = None
    perplexity: Loss | None = None
    tokens: int | None = None
    text_bytes: int | None = None
    windows: int | None = None
    block_size: int | None = None
    documents: int | None = None
    samples: int | None = None

    def metrics(self) -> dict[str, float | None]:
        """What a task measured, by name."""
        return metrics_of(self.model_extra or {})

    @model_validator(mode="after")
    def _metrics_are_numbers(self) -> Self:
        for name, value in metrics_of(self.model_extra or {}).items():
            if not isinstance(value, int | float | None) or isinstance(value, bool):
                raise ValueError(f"{METRIC}{name} is no number")
        return self


METRIC = "metric_"


def metrics_of(content: Mapping[str, Any]) -> dict[str, Any]:
    """What a task measured, by name, of an `evaluation` event."""
    return {key.removeprefix(METRIC): value for key, value in content.items() if key.startswith(METRIC)}


EVENTS: dict[str, type[Event]] = {
    "training_start": TrainingStart,
    "step": Step,
    "eval": Eval,
    "sample": Sample,
    "phase_switch": PhaseSwitch,
    "gold_checkpoint": GoldCheckpoint,
    "gold_blocked": GoldBlocked,
    "gold_remeasured": GoldRemeasured,
    "training_complete": TrainingComplete,
    "training_stopped": TrainingStopped,
    "batch_skipped": BatchSkipped,
    "output_lost": OutputLost,
    "evaluation": Evaluation,
}
"""The class of each event by the value of its `event` field."""
