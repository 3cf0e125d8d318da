"""config.json: the architecture of a model. It cannot change once the model exists."""

from typing import Literal, Self

from pydantic import model_validator

from mypt.schema.base import Section, setting

DEVICE_PATTERN = r"^(auto|cpu|mps|cuda(:\d+)?)$"


class GPTConfig(Section):
    """What the network is made of, in the spec's field order.

    Raises:
        pydantic.ValidationError: a value out of bounds, or `n_embd` that `n_head` does not divide.
    """

    batch_size: int = setting(32, "Windows of text in one micro-batch.", unit="sequences", on_resume="refused", gt=0)
    block_size: int = setting(
        256, "Context length: the tokens that a prediction can look back on.",
        unit="tokens", on_resume="refused", gt=0,
    )  # fmt: skip
    vocab_size: int = setting(
        50304, "Rows of the embedding table; char and bpe follow their tokenizer when this is not given.",
        unit="tokens", on_resume="refused", gt=0,
    )  # fmt: skip
    n_embd: int = setting(384, "Width of the model, a multiple of n_head.", unit="channels", on_resume="refused", gt=0)
    n_head: int = setting(6, "Attention heads in each layer.", unit="heads", on_resume="refused", gt=0)
    n_layer: int = setting(6, "Transformer blocks.", unit="layers", on_resume="refused", gt=0)
    dropout: float = setting(
        0.2, "Share of activations that is dropped while training.",
        unit="fraction", on_resume="refused", ge=0, lt=1,
    )  # fmt: skip
    bias: bool = setting(False, "Use biases in linear layers and layer norms.", on_resume="refused")
    device: str = setting(
        "auto", "Where to compute: auto, cpu, cuda, cuda:N or mps; auto takes the fastest one present.",
        on_resume="trajectory", pattern=DEVICE_PATTERN,
    )  # fmt: skip
    pos_encoding: Literal["learned", "rope"] = setting(
        "learned", "Position encoding: learned as in GPT-2, or rope as in LLaMA-2.", on_resume="refused"
    )
    mlp_type: Literal["gelu", "swiglu"] = setting(
        "gelu", "Feed-forward layer: gelu as in GPT-2, or swiglu as in LLaMA-2.", on_resume="refused"
    )
    norm_type: Literal["layernorm", "rmsnorm"] = setting(
        "layernorm", "Normalization: layernorm as in GPT-2, or rmsnorm as in LLaMA-2.", on_resume="refused"
    )
    rope_theta: float = setting(
        10000.0, "Base frequency of rope; without effect on learned positions.", on_resume="refused", gt=0
    )
    rope_scale: float = setting(
        1.0, "Positions are divided by this before rope, to stretch a model's context; 1 leaves them.",
        on_resume="refused", gt=0,
    )  # fmt: skip
    token_conv: int = setting(
        1, "Add to each token's embedding those of the tokens just before it, channel by channel with learned weights, "
        "so many tokens in all; 1 adds none.",
        unit="tokens", on_resume="refused", ge=1, le=64,
    )  # fmt: skip
    tie_weights: bool = setting(False, "Let the output layer share the token embedding's weights.", on_resume="refused")

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        if self.n_embd % self.n_head:
            raise ValueError(f"n_embd {self.n_embd} is not divisible by n_head {self.n_head}")
        if self.pos_encoding == "rope" and (self.n_embd // self.n_head) % 2:
            raise ValueError(
                f"rope needs an even head size, but n_embd {self.n_embd} / n_head {self.n_head} is "
                f"{self.n_embd // self.n_head}"
            )
        return self

    @property
    def head_size(self) -> int:
        """Channels of one attention head (hs)."""
        return self.n_embd // self.n_head
