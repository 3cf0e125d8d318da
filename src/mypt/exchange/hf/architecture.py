"""A config.json of Hugging Face as an architecture of mypt, or every reason why it has none."""

from typing import Any

from pydantic import ValidationError

from mypt.schema.base import explain_validation
from mypt.schema.hf_config import (
    HF_CONFIGS,
    ArceeConfig,
    Gpt2Config,
    HfConfig,
    LlamaConfig,
    RotaryConfig,
    StableLmConfig,
    Starcoder2Config,
)
from mypt.schema.settings.config import GPTConfig

_TANH = ("gelu_new", "gelu_pytorch_tanh", "gelu_fast")
_SILU = ("silu", "swish")

Content = dict[str, Any]


def from_hf(content: Content) -> tuple[GPTConfig | None, list[str]]:
    """The architecture that a config.json describes, and each of its parts that mypt does not have."""
    kind = content.get("model_type")
    family = HF_CONFIGS.get(kind) if isinstance(kind, str) else None
    reasons = [] if family else [f"Its model_type is {kind!r:.100}; known are {', '.join(HF_CONFIGS)}."]
    try:
        stated = (family or HfConfig).model_validate(content)
    except ValidationError as error:
        return None, [*reasons, *_faults(error)]
    reasons += _of_any(stated)
    if isinstance(stated, Gpt2Config):
        values, further = _gpt2(stated)
    elif isinstance(stated, RotaryConfig):
        values, further = _with_rope(stated)
    else:
        return None, reasons
    reasons += further
    try:
        return GPTConfig(**values), reasons
    except ValidationError as error:
        return None, [*reasons, *_faults(error)]


def _faults(error: ValidationError) -> list[str]:
    return [f"config.json: {line}" for line in explain_validation(error)]


def _of_any(stated: HfConfig) -> list[str]:
    """What no model of mypt has, whatever its family."""
    reasons = []
    if stated.quantization_config:
        reasons.append("Its weights are quantized (quantization_config).")
    experts = next((k for k in ("num_local_experts", "num_experts", "n_routed_experts") if getattr(stated, k)), None)
    if experts:
        reasons.append(f"It is a mixture of experts ({experts} {getattr(stated, experts)}).")
    window = stated.sliding_window
    if window and stated.use_sliding_window and window < stated.max_position_embeddings:
        reasons.append(f"Its attention sees a sliding window of {window:,} tokens alone.")
    return reasons


def _gpt2(stated: Gpt2Config) -> tuple[Content, list[str]]:
    reasons, activation = [], stated.activation_function
    if activation not in (*_TANH, "gelu"):
        reasons.append(f"Its activation_function is {activation}; known are gelu and {', '.join(_TANH)}.")
    if not stated.scale_attn_weights:
        reasons.append("Its attention is not scaled by the size of a head (scale_attn_weights).")
    if stated.scale_attn_by_inverse_layer_idx:
        reasons.append("Its attention is scaled by the number of the layer (scale_attn_by_inverse_layer_idx).")
    if stated.add_cross_attention:
        reasons.append("It has cross attention (add_cross_attention).")
    return {
        "block_size": stated.n_positions, "vocab_size": stated.vocab_size, "n_embd": stated.n_embd,
        "n_head": stated.n_head, "n_layer": stated.n_layer, "dropout": stated.resid_pdrop, "bias": True,
        "mlp_hidden": stated.n_inner, "norm_eps": stated.layer_norm_epsilon,
        "gelu": "exact" if activation == "gelu" else "tanh", "tie_weights": stated.tie_word_embeddings,
    }, reasons  # fmt: skip


def _with_rope(stated: RotaryConfig) -> tuple[Content, list[str]]:
    scale, reasons = _rope_scale(stated)
    gated = not isinstance(stated, ArceeConfig | Starcoder2Config)
    activation, known = stated.hidden_act, _SILU if gated else (*_TANH, "gelu")
    if activation not in known:
        reasons.append(f"Its hidden_act is {activation}; known are {', '.join(known)}.")
    bias, further = _bias(stated)
    width, heads, size = stated.hidden_size, stated.num_attention_heads, stated.head_dim
    if size and size * heads != width:
        reasons.append(f"Its {heads} heads of {size} channels (head_dim) are not as wide as its {width} channels.")
    theta = stated.rope.rope_theta
    return {
        "block_size": stated.max_position_embeddings, "vocab_size": stated.vocab_size, "n_embd": width,
        "n_head": heads, "n_kv_head": stated.num_key_value_heads, "n_layer": stated.num_hidden_layers,
        "dropout": stated.attention_dropout or 0.0, "bias": bias, "pos_encoding": "rope",
        "mlp_type": "swiglu" if gated else "gelu",
        "norm_type": "rmsnorm" if isinstance(stated, LlamaConfig) else "layernorm",
        "rope_theta": stated.rope_theta if theta is None else theta, "rope_scale": scale,
        "mlp_hidden": stated.intermediate_size, "norm_eps": stated.norm_eps,
        "gelu": "exact" if activation == "gelu" else "tanh", "tie_weights": stated.tie_word_embeddings,
    }, reasons + further  # fmt: skip


def _bias(stated: RotaryConfig) -> tuple[bool, list[str]]:
    """Whether all linear layers have biases; each family says it in its own words."""
    if isinstance(stated, Starcoder2Config):
        return stated.use_bias, []
    reasons, names = [], "attention_bias, mlp_bias"
    attention, mlp = False, False
    if isinstance(stated, StableLmConfig):
        attention, names = stated.use_qkv_bias, "use_qkv_bias"
        odd = [name for name in ("use_parallel_residual", "qk_layernorm") if getattr(stated, name)]
        reasons += [f"It has {name}." for name in odd]
    elif isinstance(stated, LlamaConfig):
        attention, mlp = bool(stated.attention_bias), bool(stated.mlp_bias)
    if attention != mlp:
        reasons.append(f"Biases are in attention or in the feed-forward layers alone ({names}).")
    return attention and mlp, reasons


def _rope_scale(stated: RotaryConfig) -> tuple[float | None, list[str]]:
    """The factor that positions are divided by, and what else is done to them."""
    reasons, rope = [], stated.rope
    kind = rope.rope_type or rope.type or "default"
    if kind not in ("default", "linear"):
        reasons.append(f"Its rotary positions are scaled by {kind}; known are default and linear.")
    partial = rope.partial_rotary_factor
    partial = stated.partial_rotary_factor if partial is None else partial
    if partial not in (None, 1.0):
        reasons.append(f"Only {partial:.0%} of each head is rotated (partial_rotary_factor).")
    if any(isinstance(further, dict) for further in (rope.model_extra or {}).values()):
        reasons.append("Its rotary positions differ from layer to layer.")
    return rope.factor if kind == "linear" else 1.0, reasons
