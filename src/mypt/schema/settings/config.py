"""Architecture of a model, stored in config.json; it is fixed once the model exists."""

from typing import Literal, Self

from pydantic import model_validator

from mypt.schema.base import Section, setting

DEVICE_PATTERN = r"^(auto|cpu|mps|cuda(:\d+)?)$"


class GPTConfig(Section):
    """Architecture of the network, in the field order of config.json.

    Raises:
        pydantic.ValidationError: a value is out of bounds, or `n_head` does not divide `n_embd`.
    """

    batch_size: int = setting(
        32, "Sequences in one micro-batch.", unit="sequences", on_resume="refused", common=True, gt=0
    )
    block_size: int = setting(
        256, "Context length.",
        unit="tokens", on_resume="refused", common=True, gt=0,
    )  # fmt: skip
    vocab_size: int = setting(
        50304, "Vocabulary size of the embedding table; for char and bpe it defaults to the size of the tokenizer.",
        unit="tokens", on_resume="refused", gt=0,
    )  # fmt: skip
    n_embd: int = setting(
        384, "Embedding dimension, a multiple of n_head.", unit="channels", on_resume="refused", common=True, gt=0
    )
    n_head: int = setting(6, "Attention heads per layer.", unit="heads", on_resume="refused", common=True, gt=0)
    n_layer: int = setting(6, "Number of transformer blocks.", unit="layers", on_resume="refused", common=True, gt=0)
    dropout: float = setting(
        0.2, "Dropout probability during training.",
        unit="fraction", on_resume="refused", ge=0, lt=1,
    )  # fmt: skip
    bias: bool = setting(False, "Use biases in linear layers and layer norms.", on_resume="refused")
    device: str = setting(
        "auto", "Device: auto, cpu, cuda, cuda:N or mps; auto selects the fastest one available.",
        on_resume="trajectory", common=True, pattern=DEVICE_PATTERN,
    )  # fmt: skip
    pos_encoding: Literal["learned", "rope"] = setting(
        "learned", "Position encoding: learned (GPT-2) or rope (LLaMA-2).", on_resume="refused"
    )
    mlp_type: Literal["gelu", "swiglu"] = setting(
        "gelu", "Feed-forward layer: gelu (GPT-2) or swiglu (LLaMA-2).", on_resume="refused"
    )
    norm_type: Literal["layernorm", "rmsnorm"] = setting(
        "layernorm", "Normalization: layernorm (GPT-2) or rmsnorm (LLaMA-2).", on_resume="refused"
    )
    rope_theta: float = setting(
        10000.0, "Base of the rope frequencies; unused with learned positions.", on_resume="refused", gt=0
    )
    rope_scale: float = setting(
        1.0, "Divide positions by this before rope, to extend the context; 1 disables it.",
        on_resume="refused", gt=0,
    )  # fmt: skip
    token_conv: int = setting(
        1, "Kernel size of a causal depthwise convolution over embeddings; 1 disables it.",
        unit="tokens", on_resume="refused", ge=1, le=64,
    )  # fmt: skip
    tie_weights: bool = setting(
        False, "Share the weights of the token embedding with the output layer.", on_resume="refused"
    )

    n_kv_head: int | None = setting(
        None, "Heads of keys and values, each of which serves a group of query heads; defaults to n_head.",
        unit="heads", on_resume="refused", gt=0,
    )  # fmt: skip
    mlp_hidden: int | None = setting(
        None, "Hidden channels of the feed-forward layer; defaults to 4 x n_embd for gelu, and for swiglu to 8/3 of "
        "it, rounded up to a multiple of 64.",
        unit="channels", on_resume="refused", gt=0,
    )  # fmt: skip
    norm_eps: float = setting(
        1e-5, "Added to the variance (layernorm) or mean square (rmsnorm) before its root is taken.",
        on_resume="refused", gt=0, lt=1,
    )  # fmt: skip
    gelu: Literal["tanh", "exact"] = setting(
        "tanh", "Form of gelu: tanh (GPT-2's approximation) or exact (by the error function); unused with swiglu.",
        on_resume="refused",
    )  # fmt: skip

    @model_validator(mode="after")
    def _check_heads(self) -> Self:
        if self.n_embd % self.n_head:
            raise ValueError(f"n_embd {self.n_embd} is not divisible by n_head {self.n_head}")
        if self.n_head % self.kv_heads:
            raise ValueError(f"n_head {self.n_head} is not divisible by n_kv_head {self.n_kv_head}")
        if self.pos_encoding == "rope" and (self.n_embd // self.n_head) % 2:
            raise ValueError(
                f"rope needs an even head size, but n_embd {self.n_embd} / n_head {self.n_head} is "
                f"{self.n_embd // self.n_head}"
            )
        return self

    @property
    def head_size(self) -> int:
        """Channels per attention head (hs)."""
        return self.n_embd // self.n_head

    @property
    def kv_heads(self) -> int:
        """Heads of keys and values (nkv); n_head without groups."""
        return self.n_kv_head or self.n_head

    @property
    def qkv_rows(self) -> tuple[int, int, int]:
        """Rows of queries, keys and values in the one matrix that makes them."""
        return self.n_embd, self.kv_heads * self.head_size, self.kv_heads * self.head_size
