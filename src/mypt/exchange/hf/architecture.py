"""A config.json of Hugging Face as an architecture of mypt, or every reason why it has none."""

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ValidationError

from mypt.schema.base import explain_validation
from mypt.schema.settings.config import GPTConfig

_TANH = ("gelu_new", "gelu_pytorch_tanh", "gelu_fast")
_SILU = ("silu", "swish")


@dataclass(frozen=True)
class _Family:
    """A family with rotary positions: its norm, the name and default of its epsilon, and its feed-forward layer."""

    norm: Literal["rmsnorm", "layernorm"]
    eps: tuple[str, float]
    gated: bool
    tied: bool = False


_LLAMA = _Family("rmsnorm", ("rms_norm_eps", 1e-6), gated=True)
_FAMILIES = {
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "stablelm": _Family("layernorm", ("layer_norm_eps", 1e-5), gated=True),
    "starcoder2": _Family("layernorm", ("norm_epsilon", 1e-5), gated=False, tied=True),
    "arcee": _Family("rmsnorm", ("rms_norm_eps", 1e-5), gated=False),
}

Content = dict[str, Any]


def from_hf(content: Content) -> tuple[GPTConfig | None, list[str]]:
    """The architecture that a config.json describes, and each of its parts that mypt does not have."""
    kind = content.get("model_type")
    reasons = _of_any(content)
    if kind == "gpt2":
        values, further = _gpt2(content)
    elif isinstance(kind, str) and kind in _FAMILIES:
        values, further = _with_rope(content, _FAMILIES[kind])
    else:
        return None, [f"Its model_type is {kind!r}; known are {', '.join(('gpt2', *_FAMILIES))}.", *reasons]
    reasons += further
    try:
        config = GPTConfig(**values)
    except ValidationError as error:
        return None, [*reasons, *(f"config.json: {line}" for line in explain_validation(error))]
    return config, reasons


def _of_any(content: Content) -> list[str]:
    """What no model of mypt has, whatever its family."""
    reasons = []
    if content.get("quantization_config"):
        reasons.append("Its weights are quantized (quantization_config).")
    experts = next((k for k in ("num_local_experts", "num_experts", "n_routed_experts") if content.get(k)), None)
    if experts:
        reasons.append(f"It is a mixture of experts ({experts} {content[experts]}).")
    window, length = content.get("sliding_window"), content.get("max_position_embeddings") or 0
    if window and content.get("use_sliding_window", True) and window < length:
        reasons.append(f"Its attention sees a sliding window of {window:,} tokens alone.")
    return reasons


def _gpt2(content: Content) -> tuple[Content, list[str]]:
    reasons, activation = [], content.get("activation_function", "gelu_new")
    if activation not in (*_TANH, "gelu"):
        reasons.append(f"Its activation_function is {activation}; known are gelu and {', '.join(_TANH)}.")
    if not content.get("scale_attn_weights", True):
        reasons.append("Its attention is not scaled by the size of a head (scale_attn_weights).")
    if content.get("scale_attn_by_inverse_layer_idx"):
        reasons.append("Its attention is scaled by the number of the layer (scale_attn_by_inverse_layer_idx).")
    if content.get("add_cross_attention"):
        reasons.append("It has cross attention (add_cross_attention).")
    return {
        "block_size": content.get("n_positions", 1024), "vocab_size": content.get("vocab_size", 50257),
        "n_embd": content.get("n_embd", 768), "n_head": content.get("n_head", 12),
        "n_layer": content.get("n_layer", 12), "dropout": content.get("resid_pdrop", 0.1), "bias": True,
        "mlp_hidden": content.get("n_inner"), "norm_eps": content.get("layer_norm_epsilon", 1e-5),
        "gelu": "exact" if activation == "gelu" else "tanh", "tie_weights": content.get("tie_word_embeddings", True),
    }, reasons  # fmt: skip


def _with_rope(content: Content, family: _Family) -> tuple[Content, list[str]]:
    theta, scale, reasons = _rope(content)
    activations = _SILU if family.gated else (*_TANH, "gelu")
    if (activation := content.get("hidden_act", activations[0])) not in activations:
        reasons.append(f"Its hidden_act is {activation}; known are {', '.join(activations)}.")
    bias, further = _bias(content)
    width, heads = content.get("hidden_size", 4096), content.get("num_attention_heads", 32)
    if (size := content.get("head_dim")) and size * heads != width:
        reasons.append(f"Its {heads} heads of {size} channels (head_dim) are not as wide as its {width} channels.")
    return {
        "block_size": content.get("max_position_embeddings", 2048), "vocab_size": content.get("vocab_size", 32000),
        "n_embd": width, "n_head": heads, "n_kv_head": content.get("num_key_value_heads"),
        "n_layer": content.get("num_hidden_layers", 32), "dropout": content.get("attention_dropout") or 0.0,
        "bias": bias, "pos_encoding": "rope", "mlp_type": "swiglu" if family.gated else "gelu",
        "norm_type": family.norm, "rope_theta": theta, "rope_scale": scale,
        "mlp_hidden": content.get("intermediate_size", 11008), "norm_eps": content.get(*family.eps),
        "gelu": "exact" if activation == "gelu" else "tanh",
        "tie_weights": bool(content.get("tie_word_embeddings", family.tied)),
    }, reasons + further  # fmt: skip


def _bias(content: Content) -> tuple[bool, list[str]]:
    """Whether all linear layers have biases; each family says it in its own words."""
    reasons = []
    kind, attention, mlp = content["model_type"], content.get("attention_bias"), content.get("mlp_bias")
    if kind == "starcoder2":
        attention = mlp = content.get("use_bias", True)
    if kind == "stablelm":
        attention = content.get("use_qkv_bias")
        odd = [name for name in ("use_parallel_residual", "qk_layernorm") if content.get(name)]
        reasons += [f"It has {name}." for name in odd]
    if bool(attention) != bool(mlp):
        names = "use_qkv_bias" if kind == "stablelm" else "attention_bias, mlp_bias"
        reasons.append(f"Biases are in attention or in the feed-forward layers alone ({names}).")
    return bool(attention) and bool(mlp), reasons


def _rope(content: Content) -> tuple[Any, Any, list[str]]:
    """Base and scale of the rotary positions; transformers 5 has them in one place, earlier ones in two."""
    given = content.get("rope_parameters") or content.get("rope_scaling") or {}
    reasons, theta = [], given.get("rope_theta", content.get("rope_theta", 10000.0))
    kind = given.get("rope_type", given.get("type", "default"))
    if kind not in ("default", "linear"):
        reasons.append(f"Its rotary positions are scaled by {kind}; known are default and linear.")
    usual = 0.25 if content["model_type"] == "stablelm" else 1.0
    partial = given.get("partial_rotary_factor", content.get("partial_rotary_factor", usual))
    if partial not in (None, 1.0):
        reasons.append(f"Only {partial:.0%} of each head is rotated (partial_rotary_factor).")
    return theta, given.get("factor", 1.0) if kind == "linear" else 1.0, reasons
