"""config.json of Hugging Face: our architecture in the words of its home."""

from typing import Any

from mypt.exchange.homes import Home
from mypt.model.cost import mlp_hidden
from mypt.schema.settings.config import GPTConfig

DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
_EPS_NAMES = {"llama": "rms_norm_eps", "arcee": "rms_norm_eps", "stablelm": "layer_norm_eps"}


def to_hf(config: GPTConfig, home: Home, dtype: str, end: int | None) -> dict[str, Any]:
    """config.json of a model.

    Args:
        config: architecture.
        home: its home.
        dtype: of the weights: fp32, fp16 or bf16.
        end: token that ends a text; None if there is none.
    """
    return {
        "architectures": [home.hf_class],
        "model_type": home.family,
        "torch_dtype": DTYPES[dtype],
        "vocab_size": config.vocab_size,
        "tie_word_embeddings": config.tie_weights,
        "use_cache": True,
        "bos_token_id": end,
        "eos_token_id": end,
        "pad_token_id": None,
        **(_gpt2(config) if home.family == "gpt2" else _with_rope(config, home.family)),
    }


def sizes(config: GPTConfig) -> dict[str, int]:
    """The sizes of a model, by the names that most classes have for them."""
    return {
        "hidden_size": config.n_embd,
        "intermediate_size": mlp_hidden(config),
        "num_hidden_layers": config.n_layer,
        "num_attention_heads": config.n_head,
        "num_key_value_heads": config.kv_heads,
        "max_position_embeddings": config.block_size,
    }


def _gpt2(config: GPTConfig) -> dict[str, Any]:
    return {
        "n_positions": config.block_size,
        "n_embd": config.n_embd,
        "n_layer": config.n_layer,
        "n_head": config.n_head,
        "n_inner": mlp_hidden(config),
        "activation_function": "gelu_new" if config.gelu == "tanh" else "gelu",
        "layer_norm_epsilon": config.norm_eps,
        "resid_pdrop": config.dropout,
        "embd_pdrop": config.dropout,
        "attn_pdrop": config.dropout,
    }


def _with_rope(config: GPTConfig, family: str) -> dict[str, Any]:
    scaled = config.rope_scale != 1
    dropout = config.dropout
    biases = {
        "stablelm": {"use_qkv_bias": False, "partial_rotary_factor": 1.0, "hidden_dropout": dropout},
        "starcoder2": {
            "use_bias": config.bias,
            "residual_dropout": config.dropout,
            "embedding_dropout": config.dropout,
        },
    }.get(family, {"attention_bias": config.bias, "mlp_bias": config.bias})
    gelu = "gelu_pytorch_tanh" if config.gelu == "tanh" else "gelu"
    return {
        **sizes(config),
        "hidden_act": "silu" if config.mlp_type == "swiglu" else gelu,
        _EPS_NAMES.get(family, "norm_epsilon"): config.norm_eps,
        "rope_theta": config.rope_theta,
        "rope_scaling": {"rope_type": "linear", "factor": config.rope_scale} if scaled else None,
        "attention_dropout": config.dropout,
        **biases,
    }
