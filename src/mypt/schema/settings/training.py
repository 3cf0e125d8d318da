"""Training settings, stored in training_state.json; most of them may change on resume."""

from typing import Literal, Self

from pydantic import field_validator, model_validator

from mypt.schema.base import Section, encodable, setting

RENAMED = {"on_spike": "on_nonfinite"}
"""Former names of settings in older bundles and their current names."""


class TrainingConfig(Section):
    """How the model is trained, in the field order of training_state.json."""

    max_iters: int = setting(
        1000, "Step to train to, counted from the start of the run.",
        unit="steps", on_resume="trajectory", common=True, gt=0,
    )  # fmt: skip
    eval_interval: int = setting(
        50, "Evaluate and save every N steps.", unit="steps", on_resume="gold", common=True, gt=0
    )
    eval_iters: int = setting(
        200, "Batches per evaluation of a split; fewer if the split is smaller.",
        unit="batches", on_resume="gold", gt=0,
    )  # fmt: skip
    learning_rate: float = setting(
        3e-4, "Peak learning rate, reached after warmup.", on_resume="trajectory", common=True, gt=0, names=("--lr",)
    )
    start_step: int = setting(
        0, "Step at which the current session started.", unit="steps",
        on_resume="harmless", ge=0, option=False,
    )  # fmt: skip
    grad_accum_steps: int = setting(
        1, "Micro-batches per optimizer step; the effective batch size is batch_size times this.",
        unit="micro-batches", on_resume="trajectory", gt=0,
    )  # fmt: skip
    warmup_iters: int | float = setting(
        0.05, "Warmup steps of the learning rate: a count, or a fraction of max_iters if below 1.",
        unit="steps", on_resume="trajectory", ge=0,
    )  # fmt: skip
    lr_schedule: Literal["cosine", "constant", "linear"] = setting(
        "cosine", "Learning rate schedule after warmup: cosine or linear decay to min_lr, or constant.",
        on_resume="trajectory",
    )  # fmt: skip
    min_lr: float | None = setting(
        None, "Final learning rate; defaults to a tenth of the peak for cosine and 0 for linear.",
        on_resume="trajectory", ge=0,
    )  # fmt: skip
    optimizer: Literal["adamw", "muon"] = setting(
        "adamw", "Optimizer: adamw, or muon, which updates the matrices inside the layers with Muon and the rest with "
        "AdamW and learns more per step.",
        on_resume="refused",
    )  # fmt: skip
    weight_decay: float = setting(
        0.1, "Weight decay of matrices; norms and biases are never decayed.", on_resume="trajectory", ge=0
    )
    beta1: float = setting(
        0.9, "AdamW beta1: decay rate of the mean of the gradients.", on_resume="trajectory", ge=0, lt=1
    )
    beta2: float = setting(
        0.99,  # not 0.95: with few tokens per step gradients are noisy; tiny Shakespeare: 1.878 vs. 1.897
        "AdamW beta2: decay rate of the mean of the squared gradients; 0.95 suits large batches.",
        on_resume="trajectory", ge=0, lt=1,
    )  # fmt: skip
    grad_clip: float = setting(
        1.0, "Clip the gradient to this global norm; 0 disables clipping.", on_resume="trajectory", ge=0
    )
    seed: int = setting(
        1337, "Random seed for initial weights, batches and dropout.", on_resume="refused", ge=0, lt=2**63
    )
    use_amp: bool | None = setting(
        None, "Mixed-precision training on hardware that supports it; if not given, a benchmark at the start of the "
        "run decides, and the decision is kept on resume.",
        on_resume="trajectory",
    )  # fmt: skip
    amp_dtype: Literal["bf16", "fp16"] = setting("bf16", "Half-precision dtype for use_amp.", on_resume="trajectory")
    amp_reason: str | None = setting(
        None, "Why mixed precision is used or not, with the measurements.", on_resume="harmless", option=False
    )
    muon_dtype: Literal["bf16", "fp32"] | None = setting(
        None, "Precision of Muon's orthogonalization; if not given, a benchmark at the start of the run decides.",
        on_resume="trajectory",
    )  # fmt: skip
    deterministic: bool | None = setting(
        None, "On a GPU, compute the same each time, so that a resume is exact to the bit; if not given, the timed "
        "step turns it on where it costs less than 5 %, and the decision is kept on resume. A CPU always does.",
        on_resume="trajectory",
    )  # fmt: skip
    deterministic_reason: str | None = setting(
        None, "Why a GPU computes the same each time or not, with the measurements.", on_resume="harmless", option=False
    )
    reduce: Literal["sum", "exact"] = setting(
        "sum", "How gradients are added up: sum, or exact, in a balanced tree over the micro-batches, which gives the "
        "same weights to the bit on 1, 2, 4, 8, ... processes and needs a grad_accum_steps that is a power of two.",
        on_resume="trajectory",
    )  # fmt: skip
    parallel: Literal["auto", "ddp", "fsdp", "hsdp"] = setting(
        "auto", "What each of several processes holds: ddp, all of the weights; fsdp, a part of weights, gradients and "
        "optimizer state; hsdp, a part of those that shard_size processes have whole between them. auto takes fsdp "
        "where a process has too little memory for ddp, and the choice is kept on resume.",
        on_resume="rounding",
    )  # fmt: skip
    shard_size: int | None = setting(
        None, "With hsdp, processes that have all of the weights between them; defaults to those of one host.",
        unit="processes", on_resume="rounding", gt=0,
    )  # fmt: skip
    save_in_parts: Literal["auto", "on", "off"] = setting(
        "auto", "With fsdp and hsdp, let every process save its part of weights and optimizer state, rather than put "
        "them together in the memory of the first; auto does so above a billion weights, where all processes see the "
        "folder of the bundle. Every command reads such a bundle, and any number of processes goes on with it.",
        on_resume="harmless",
    )  # fmt: skip
    rows_at_once: int | None = setting(
        None, "Sequences of a micro-batch processed at once; fewer use less memory and give the same gradient. "
        "Defaults to as many as fit a CPU's caches, or all on a GPU.",
        unit="sequences", on_resume="trajectory", gt=0,
    )  # fmt: skip
    torch_compile: Literal["auto", "on", "off"] = setting(
        "auto", "Compile the model with torch.compile; auto decides by device and estimated training time, and the "
        "decision is kept on resume.",
        on_resume="trajectory",
    )  # fmt: skip
    save_dtype: Literal["fp32", "bf16", "fp16"] = setting(
        "fp32", "Precision of the saved weights; below fp32 a resume is no longer exact and is recorded as such.",
        on_resume="trajectory",
    )  # fmt: skip

    eval_seed: int = setting(
        2357, "Random seed for the choice of eval windows, if a set has more than eval_iters batches.",
        on_resume="gold", ge=0, lt=2**63,
    )  # fmt: skip
    save_interval: int | None = setting(
        None, "Also save every N steps.", unit="steps", on_resume="harmless", gt=0,
        names=("--save-every",),
    )  # fmt: skip
    use_checkpoint: bool = setting(
        False, "Activation checkpointing: recompute activations in the backward pass, which saves memory, takes more "
        "time and gives the same result.",
        on_resume="harmless",
    )  # fmt: skip
    init_from_model: str | None = setting(
        None, "Start from the weights and tokenizer of another bundle, given by name or path; architecture settings "
        "that are not given are taken from it.",
        on_resume="refused", common=True,
    )  # fmt: skip
    freeze_layers: int = setting(0, "Freeze the first N layers.", unit="layers", on_resume="refused", ge=0)
    freeze_embeddings: bool = setting(False, "Freeze the token and position embeddings.", on_resume="refused")
    mask_documents: bool = setting(
        False, "Let no token attend to another document that shares its window, as if each were trained on alone.",
        on_resume="trajectory",
    )  # fmt: skip
    max_minutes: float | None = setting(
        None, "Save and stop before this time limit, for example of a job queue; resume continues the run.",
        unit="minutes", on_resume="harmless", gt=0,
    )  # fmt: skip
    sample_prompt: str | None = setting(
        None, "Print and log at each evaluation what the model writes after this text; an empty one ends that.",
        on_resume="harmless", common=True,
    )  # fmt: skip
    patience: int | None = setting(
        None, "Save and end the run after N evaluations in a row without a new best val loss; resume goes on with a "
        "larger number.",
        unit="evaluations", on_resume="harmless", gt=0,
    )  # fmt: skip
    collective_timeout: float = setting(
        600.0, "Of several processes, how long those that are ready wait for one that hangs before they save and end; "
        "more than a save takes.",
        unit="seconds", on_resume="harmless", gt=0, le=86_400,
    )  # fmt: skip
    on_nonfinite: Literal["stop", "skip"] = setting(
        "stop", "What to do if a loss or gradient is not finite: stop before the weights are affected, or skip the "
        "step's batches, record them and continue.",
        on_resume="trajectory", names=("--on-spike",),
    )  # fmt: skip
    log_interval: int | None = setting(
        None, "Also log loss, learning rate, gradient norm and throughput every N steps, as `step` events.",
        unit="steps", on_resume="harmless", gt=0,
    )  # fmt: skip

    gold_overfit_ratio: float = setting(
        5.0, "Block gold while the val loss exceeds this multiple of the train loss.",
        on_resume="gold", gt=0,
    )  # fmt: skip
    gold_consec_rises: int = setting(
        2, "Block gold if the val loss rose at this many evaluations in a row before the improvement.",
        unit="evaluations", on_resume="gold", gt=0,
    )  # fmt: skip
    gold_eval_regression: float = setting(
        0.2, "Block gold while the loss on any additional eval set exceeds its first value, measured before the first "
        "step, by more than this fraction.",
        unit="fraction", on_resume="gold", gt=0,
    )  # fmt: skip

    @model_validator(mode="before")
    @classmethod
    def _rename_settings(cls, value: object) -> object:
        return {RENAMED.get(name, name): v for name, v in value.items()} if isinstance(value, dict) else value

    @field_validator("sample_prompt")
    @classmethod
    def _check_prompt(cls, value: str | None) -> str | None:
        return value and encodable(value)

    @model_validator(mode="after")
    def _check_min_lr(self) -> Self:
        if self.min_lr is not None and self.min_lr > self.learning_rate:
            raise ValueError(f"min_lr {self.min_lr} is above learning_rate {self.learning_rate}")
        return self

    @model_validator(mode="after")
    def _check_reduce(self) -> Self:
        if self.reduce == "exact" and self.grad_accum_steps & (self.grad_accum_steps - 1):
            raise ValueError(
                f"reduce exact needs a grad_accum_steps that is a power of two, and it is {self.grad_accum_steps}"
            )
        if self.reduce == "exact" and self.parallel in ("fsdp", "hsdp"):
            raise ValueError(f"reduce exact needs parallel ddp, as {self.parallel} adds up gradients while it computes")
        return self

    @property
    def warmup_steps(self) -> int:
        """Warmup as a number of steps; a fraction below 1 is multiplied by max_iters."""
        if self.warmup_iters < 1:
            return round(self.warmup_iters * self.max_iters)
        return int(self.warmup_iters)

    def evaluates_at(self, step: int) -> bool:
        """Whether an evaluation is due once so many steps are done."""
        return step % self.eval_interval == 0 or step == self.max_iters

    def saves_at(self, step: int) -> bool:
        """Whether a save is due once so many steps are done, with or without an evaluation."""
        return self.save_interval is not None and step % self.save_interval == 0
