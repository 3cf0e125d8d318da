"""The training settings, recorded in training_state.json. They may change from one resume to the next."""

from typing import Literal, Self

from pydantic import model_validator

from mypt.schema.base import Section, setting

RENAMED = {"on_spike": "on_nonfinite"}
"""Names that records of earlier versions have, and what they are called now."""


class TrainingConfig(Section):
    """How the model is trained. The first six fields are the spec's, in its order."""

    max_iters: int = setting(
        1000, "The step to train to, counted from the very beginning of the run.",
        unit="steps", on_resume="trajectory", gt=0,
    )  # fmt: skip
    eval_interval: int = setting(50, "Evaluate and save every so many steps.", unit="steps", on_resume="harmless", gt=0)
    eval_iters: int = setting(
        200, "Batches in one evaluation of a split; fewer when the split is smaller than that.",
        unit="batches", on_resume="harmless", gt=0,
    )  # fmt: skip
    learning_rate: float = setting(
        3e-4, "Peak learning rate, reached after the warm-up.", on_resume="trajectory", gt=0, names=("--lr",)
    )
    start_step: int = setting(
        0, "Step at which the last start or resume took over.", unit="steps",
        on_resume="harmless", ge=0, option=False,
    )  # fmt: skip
    grad_accum_steps: int = setting(
        1, "Micro-batches that make one step; the effective batch is batch_size times this.",
        unit="micro-batches", on_resume="trajectory", gt=0,
    )  # fmt: skip
    warmup_iters: int | float = setting(
        0.05, "Steps over which the learning rate rises from zero: a count, or a fraction of max_iters below 1.",
        unit="steps", on_resume="trajectory", ge=0,
    )  # fmt: skip
    lr_schedule: Literal["cosine", "constant", "linear"] = setting(
        "cosine", "Course of the learning rate after the warm-up: cosine or linear down to min_lr, or constant.",
        on_resume="trajectory",
    )  # fmt: skip
    min_lr: float | None = setting(
        None, "Learning rate that the schedule ends at; by default a tenth of the peak for cosine and 0 for linear.",
        on_resume="trajectory", ge=0,
    )  # fmt: skip
    optimizer: Literal["adamw", "muon"] = setting(
        "adamw", "What moves the weights: adamw, or muon for the matrices inside the layers and adamw for the rest, "
        "which learns more from a step.",
        on_resume="refused",
    )  # fmt: skip
    weight_decay: float = setting(
        0.1, "The optimizer's decay of matrices; norms and biases are never decayed.", on_resume="trajectory", ge=0
    )
    beta1: float = setting(0.9, "AdamW's decay of the running mean of gradients.", on_resume="trajectory", ge=0, lt=1)
    beta2: float = setting(
        0.99,  # not 0.95: steps of few tokens have noisy gradients; tiny Shakespeare ends at 1.878 instead of 1.897
        "AdamW's decay of the running mean of squared gradients; 0.95 suits batches of many tokens.",
        on_resume="trajectory", ge=0, lt=1,
    )  # fmt: skip
    grad_clip: float = setting(
        1.0, "Largest norm of the whole gradient; 0 turns clipping off.", on_resume="trajectory", ge=0
    )
    seed: int = setting(1337, "Seed of the weights, the batches and dropout.", on_resume="refused", ge=0, lt=2**63)
    use_amp: bool | None = setting(
        None, "Compute in half precision on devices whose hardware has it; when not given, a measurement decides as "
        "the run starts, and the decision holds for the run.",
        on_resume="trajectory",
    )  # fmt: skip
    amp_dtype: Literal["bf16", "fp16"] = setting(
        "bf16", "The half precision that use_amp computes in.", on_resume="trajectory"
    )
    amp_reason: str | None = setting(
        None, "Why half precision is used or not, with the figures.", on_resume="harmless", option=False
    )
    muon_dtype: Literal["bf16", "fp32"] | None = setting(
        None, "Precision in which Muon makes its updates orthogonal; when not given, a measurement decides as the run "
        "starts.",
        on_resume="trajectory",
    )  # fmt: skip
    rows_at_once: int | None = setting(
        None, "Windows of a batch that go through the model at one time, in less memory and with the same gradient; by "
        "itself as many as stay near the caches of a CPU, and all on a GPU.",
        unit="windows", on_resume="trajectory", gt=0,
    )  # fmt: skip
    torch_compile: Literal["auto", "on", "off"] = setting(
        "auto", "Compile the model with torch.compile; auto decides by the device and the time that training takes, "
        "and the decision holds for the run.",
        on_resume="trajectory",
    )  # fmt: skip
    save_dtype: Literal["fp32", "bf16", "fp16"] = setting(
        "fp32", "Precision of the saved weights; below fp32 a resume is no longer exact, and is recorded so.",
        on_resume="trajectory",
    )  # fmt: skip

    eval_seed: int = setting(
        2357, "Seed of the choice of windows to evaluate on, where a set has more than eval_iters batches.",
        on_resume="harmless", ge=0, lt=2**63,
    )  # fmt: skip
    save_interval: int | None = setting(
        None, "Save every so many steps besides at each evaluation.", unit="steps", on_resume="harmless", gt=0,
        names=("--save-every",),
    )  # fmt: skip
    use_checkpoint: bool = setting(
        False, "Keep only the input of each layer for the backward pass and compute the rest again: less memory for "
        "more time, and the same result.",
        on_resume="harmless",
    )  # fmt: skip
    init_from_model: str | None = setting(
        None, "Start from the weights and the tokenizer of another bundle, by name or by path; its architecture "
        "stands for what is not given.",
        on_resume="refused",
    )  # fmt: skip
    freeze_layers: int = setting(
        0, "Leave the first so many layers as they start.", unit="layers", on_resume="refused", ge=0
    )
    freeze_embeddings: bool = setting(
        False, "Leave the embeddings of tokens and positions as they start.", on_resume="refused"
    )
    max_minutes: float | None = setting(
        None, "Save and end before this time is over, as a queue's limit demands; a resume goes on.",
        unit="minutes", on_resume="harmless", gt=0,
    )  # fmt: skip
    on_nonfinite: Literal["stop", "skip"] = setting(
        "stop", "What to do when a loss or gradient is not finite: stop before such weights are saved, or skip "
        "the step's batches, record them and go on.",
        on_resume="trajectory", names=("--on-spike",),
    )  # fmt: skip
    log_interval: int | None = setting(
        None, "Also log loss, learning rate, gradient norm and tokens a second of every N-th step, as `step` events.",
        unit="steps", on_resume="harmless", gt=0,
    )  # fmt: skip

    gold_overfit_ratio: float = setting(
        5.0, "Gold is blocked while the val loss is more than so many times the train loss.",
        on_resume="harmless", gt=0,
    )  # fmt: skip
    gold_consec_rises: int = setting(
        2, "Gold is blocked when the val loss rose at so many evaluations in a row before it dipped.",
        unit="evaluations", on_resume="harmless", gt=0,
    )  # fmt: skip
    gold_eval_regression: float = setting(
        0.2, "Gold is blocked while any further eval set is worse than at the first evaluation by more than this.",
        unit="fraction", on_resume="harmless", gt=0,
    )  # fmt: skip

    @model_validator(mode="before")
    @classmethod
    def _earlier_names(cls, value: object) -> object:
        return {RENAMED.get(name, name): v for name, v in value.items()} if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _floor_below_peak(self) -> Self:
        if self.min_lr is not None and self.min_lr > self.learning_rate:
            raise ValueError(f"min_lr {self.min_lr} is above learning_rate {self.learning_rate}")
        return self

    @property
    def warmup_steps(self) -> int:
        """The warm-up as a count of steps, a fraction below 1 resolved against max_iters."""
        if self.warmup_iters < 1:
            return round(self.warmup_iters * self.max_iters)
        return int(self.warmup_iters)
