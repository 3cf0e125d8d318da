"""config.json of Hugging Face, of the families that mypt knows: what is read of it, with its defaults."""

from typing import Annotated, Any

from pydantic import ConfigDict, Field

from mypt.schema.base import Model

_Word = Annotated[str, Field(max_length=100)]


class HfRope(Model):
    """How positions are rotated; other fields are parameters of kinds that mypt does not have."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False, extra="allow")

    rope_type: _Word | None = None
    type: _Word | None = None
    rope_theta: float | None = None
    factor: float | None = None
    partial_rotary_factor: float | None = None


class HfConfig(Model):
    """What any model can say. A value of another type than transformers writes is a fault; other fields are left."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False, frozen=True)

    quantization_config: Any = None
    num_local_experts: int | None = None
    num_experts: int | None = None
    n_routed_experts: int | None = None
    sliding_window: int | None = None
    use_sliding_window: bool = True
    max_position_embeddings: int = 2048


class Gpt2Config(HfConfig):
    """GPT-2."""

    vocab_size: int = 50257
    n_positions: int = 1024
    n_embd: int = 768
    n_layer: int = 12
    n_head: int = 12
    n_inner: int | None = None
    activation_function: _Word = "gelu_new"
    layer_norm_epsilon: float = 1e-5
    resid_pdrop: float = 0.1
    tie_word_embeddings: bool = True
    scale_attn_weights: bool = True
    scale_attn_by_inverse_layer_idx: bool = False
    add_cross_attention: bool = False


class RotaryConfig(HfConfig):
    """What the families with rotary positions share."""

    vocab_size: int = 32000
    hidden_size: int = 4096
    intermediate_size: int = 11008
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    num_key_value_heads: int | None = None
    head_dim: int | None = None
    hidden_act: _Word = "silu"
    attention_dropout: float | None = 0.0
    tie_word_embeddings: bool = False
    norm_eps: float = 1e-5
    rope_theta: float = 10000.0
    rope_scaling: HfRope | None = None
    rope_parameters: HfRope | None = None
    partial_rotary_factor: float | None = 1.0

    @property
    def rope(self) -> HfRope:
        """The rotation: transformers 5 has it in `rope_parameters`, unless the older `rope_scaling` is there too."""
        given = (self.rope_scaling, self.rope_parameters)
        return next((rope for rope in given if rope is not None and rope.model_fields_set), HfRope())


class LlamaConfig(RotaryConfig):
    """Llama."""

    norm_eps: float = Field(1e-6, validation_alias="rms_norm_eps")
    attention_bias: bool | None = False
    mlp_bias: bool | None = False


class MistralConfig(LlamaConfig):
    """Mistral, whose attention sees a window unless that is null."""

    intermediate_size: int = 14336
    num_key_value_heads: int | None = 8
    max_position_embeddings: int = 4096 * 32
    sliding_window: int | None = 4096


class ArceeConfig(LlamaConfig):
    """Arcee, which is Llama without a gate."""

    hidden_size: int = 2560
    intermediate_size: int = 18432
    max_position_embeddings: int = 4096
    norm_eps: float = Field(1e-5, validation_alias="rms_norm_eps")
    hidden_act: _Word = "relu2"


class StableLmConfig(RotaryConfig):
    """StableLM."""

    vocab_size: int = 50304
    hidden_size: int = 2560
    intermediate_size: int = 6912
    max_position_embeddings: int = 4096
    norm_eps: float = Field(1e-5, validation_alias="layer_norm_eps")
    use_qkv_bias: bool = False
    use_parallel_residual: bool = False
    qk_layernorm: bool = False
    partial_rotary_factor: float | None = 0.25


class Starcoder2Config(RotaryConfig):
    """StarCoder2."""

    vocab_size: int = 49152
    hidden_size: int = 3072
    intermediate_size: int = 12288
    num_hidden_layers: int = 30
    num_attention_heads: int = 24
    num_key_value_heads: int | None = 2
    max_position_embeddings: int = 4096
    norm_eps: float = Field(1e-5, validation_alias="norm_epsilon")
    hidden_act: _Word = "gelu_pytorch_tanh"
    use_bias: bool = True
    tie_word_embeddings: bool = True


HF_CONFIGS: dict[str, type[Gpt2Config] | type[RotaryConfig]] = {
    "gpt2": Gpt2Config,
    "llama": LlamaConfig,
    "mistral": MistralConfig,
    "stablelm": StableLmConfig,
    "starcoder2": Starcoder2Config,
    "arcee": ArceeConfig,
}
"""The families by their `model_type`."""
