"""Presets: named sets of settings, as in a config file."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Preset:
    """A named set of settings, by field name, with one sentence on what it is for."""

    help: str
    settings: dict[str, Any]


_GPT2: dict[str, Any] = {
    "tokenization": "gpt2", "block_size": 1024, "vocab_size": 50304, "dropout": 0.0, "bias": True,
    "tie_weights": True, "batch_size": 8, "grad_accum_steps": 60, "max_iters": 100_000,
    "eval_interval": 1000, "eval_iters": 100, "warmup_iters": 2000, "weight_decay": 0.1,
}  # fmt: skip

PRESETS: dict[str, Preset] = {
    "tiny": Preset(
        "Character-level, 0.4M parameters: ten seconds on a laptop. Exporting it to Hugging Face needs --with-code, "
        "and GGUF has no home for it.",
        {
            "tokenization": "char", "batch_size": 16, "block_size": 64, "n_embd": 128, "n_head": 4, "n_layer": 2,
            "dropout": 0.0, "pos_encoding": "rope", "mlp_type": "swiglu", "token_conv": 4, "optimizer": "muon",
            "max_iters": 300, "eval_interval": 50, "eval_iters": 10, "learning_rate": 0.015, "warmup_iters": 10,
            "lr_schedule": "linear", "weight_decay": 0.0,
        },
    ),
    "small": Preset(
        "Character-level, 11M parameters: an hour or more on a laptop, minutes on a GPU.",
        {
            "tokenization": "char", "batch_size": 64, "block_size": 256, "n_embd": 384, "n_head": 6, "n_layer": 6,
            "dropout": 0.2, "pos_encoding": "rope", "mlp_type": "swiglu", "norm_type": "rmsnorm", "optimizer": "muon",
            "max_iters": 1500, "eval_interval": 150, "eval_iters": 20, "learning_rate": 0.01, "warmup_iters": 50,
            "lr_schedule": "linear",
        },
    ),
    "gpt2-124m": Preset(
        "GPT-2 small, for one or more GPUs.",
        {**_GPT2, "n_embd": 768, "n_head": 12, "n_layer": 12, "learning_rate": 6e-4},
    ),
    "gpt2-350m": Preset(
        "GPT-2 medium, for a GPU with 24 GB or more.",
        {**_GPT2, "n_embd": 1024, "n_head": 16, "n_layer": 24, "learning_rate": 3e-4},
    ),
    "llama-750m": Preset(
        "LLaMA-2 style with rope, swiglu and rmsnorm, for a GPU with 80 GB.",
        {
            "tokenization": "gpt2", "batch_size": 12, "block_size": 1024, "vocab_size": 50304, "n_embd": 1280,
            "n_head": 20, "n_layer": 32, "dropout": 0.1, "pos_encoding": "rope", "mlp_type": "swiglu",
            "norm_type": "rmsnorm", "tie_weights": True, "grad_accum_steps": 8, "max_iters": 75_000,
            "eval_interval": 350, "eval_iters": 200, "learning_rate": 1.5e-4, "warmup_iters": 3750,
        },
    ),
}  # fmt: skip
