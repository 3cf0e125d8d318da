"""What `training_start` says of a session: the settings in force, and the model."""

from pydantic import ConfigDict

from mypt.schema.base import Model


class RunConfigRecord(Model):
    """`config` of `training_start`: the settings in force; `warmup_iters` as a count, `use_amp` as in effect."""

    model_config = ConfigDict(allow_inf_nan=False)

    max_iters: int
    start_step: int
    learning_rate: float
    warmup_iters: int
    grad_clip: float
    grad_accum_steps: int
    batch_size: int
    block_size: int
    tokens_per_step: int
    eval_interval: int
    eval_iters: int
    use_amp: bool
    amp_dtype: str
    config_file: str | None
    dataset_dir: str | None
    input_file: list[str] | None = None
    tokenization: str | None = None
    sampling: str | None = None
    lr_schedule: str | None = None
    weight_decay: float | None = None
    dropout: float | None = None
    seed: int | None = None
    preset: str | None = None
    optimizer: str | None = None
    rows_at_once: int | None = None
    reduce: str | None = None
    parallel: str | None = None
    shard_size: int | None = None
    processes: int | None = None
    torch_compile: str | None = None
    torch_compile_reason: str | None = None
    amp_reason: str | None = None
    muon_dtype: str | None = None
    deterministic: bool | None = None
    deterministic_reason: str | None = None
    min_lr: float | None = None
    beta1: float | None = None
    beta2: float | None = None
    device: str | None = None
    init_from_model: str | None = None
    fingerprint: str | None = None
    masked: bool | None = None
    tokenizer_size: int | None = None


class ModelRecord(Model):
    """`model` of `training_start`."""

    total_params: int
    n_layer: int
    n_head: int
    n_embd: int
    pos_encoding: str
    mlp_type: str
    norm_type: str
    vocab_size: int | None = None
    tie_weights: bool | None = None
    bias: bool | None = None
