"""The GPT network."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Self

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mypt.model.blocks import Block, Cache, TokenConv, build_norm
from mypt.model.dropout import Dropout
from mypt.model.losses import next_token_loss, token_losses
from mypt.model.positions import RotaryEmbedding, documents
from mypt.model.shapes import misfits
from mypt.schema.settings.config import GPTConfig

INIT_STD = 0.02


class Network(nn.Module):
    """A decoder-only transformer in the style of GPT-2, LLaMA-2 or a mixture of both.

    Initial weights (Radford et al. 2019):

    | weight                                  | initial value                        |
    |-----------------------------------------|--------------------------------------|
    | embeddings, linear layers, output layer | normal, std 0.02                     |
    | projections into the residual stream    | normal, std 0.02 / sqrt(2 x n_layer) |
    | biases, token convolution               | 0                                    |
    | norms                                   | weights 1, biases 0                  |

    Args:
        config: architecture.
        seed: random seed of the initial weights.

    Attributes:
        use_checkpoint: recompute activations in the backward pass.
        separator: token that begins another document of a window, none of which sees another; None for no borders.
    """

    def __init__(self, config: GPTConfig, seed: int = 1337) -> None:
        super().__init__()
        self.config = config
        self.use_checkpoint = False
        self.separator: int | None = None
        self._look: Callable[[], None] | None = None
        self.token_embedding = nn.Embedding(config.vocab_size, config.n_embd)
        learned = config.pos_encoding == "learned"
        self.position_embedding = nn.Embedding(config.block_size, config.n_embd) if learned else None
        self.rope = None if learned else RotaryEmbedding(config)
        self.token_conv = TokenConv(config) if config.token_conv > 1 else None
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.norm = build_norm(config)
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        if config.tie_weights:
            self.lm_head.weight = self.token_embedding.weight
        self._init_weights(seed)

    @classmethod
    def hollow(cls, config: GPTConfig) -> Self:
        """A network whose weights have shapes and no memory: for these alone, or until `to_empty` gives it some."""
        with torch.device("meta"):
            return cls(config)

    def to_empty(self, *, device: str | torch.device | int | None, recurse: bool = True) -> Self:
        """As that of torch, which would make two weights of one that has two names."""
        super().to_empty(device=device, recurse=recurse)
        if self.config.tie_weights:
            self.lm_head.weight = self.token_embedding.weight
        return self

    def forward(self, tokens: Tensor, cache: Cache | None = None) -> Tensor:
        """Logits (B, T, V) for the token after each of `tokens` (B, T)."""
        logits: Tensor = self.lm_head(self.hidden(tokens, cache))
        return logits

    def next_logits(self, tokens: Tensor, cache: Cache | None = None) -> Tensor:
        """Logits (B, V) for the token after the last of `tokens` (B, T)."""
        logits: Tensor = self.lm_head(self.hidden(tokens, cache)[:, -1])
        return logits

    def loss(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """Next-token cross entropy summed over the tokens (B, T), in nats."""
        return next_token_loss(self.hidden(tokens), self.lm_head.weight, targets)

    def token_losses(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """Next-token cross entropy of each token (B, T), in nats, for evaluation."""
        return token_losses(self.hidden(tokens), self.lm_head.weight, targets)

    def hidden(self, tokens: Tensor, cache: Cache | None = None) -> Tensor:
        """Final hidden states (B, T, C); `cache` holds the preceding tokens."""
        start = 0 if cache is None else cache.length
        T = tokens.size(1)
        if start + T > self.config.block_size:
            raise ValueError(f"{start + T} tokens do not fit into block_size {self.config.block_size}")
        if self.rope is not None and not torch.compiler.is_compiling():
            self.rope.cover(start + T)
        places = mask = None
        if self.separator is not None and cache is None:
            places, mask = documents(tokens, self.separator)
        x = self.token_embedding(tokens)  # (B, T, C)
        if self.token_conv is not None:
            x = self.token_conv(x, cache, places)
        if self.position_embedding is not None:
            x = x + self.position_embedding.weight[slice(start, start + T) if places is None else places]
        x = self.dropout(x)
        for i, block in enumerate(self.blocks):
            if self.use_checkpoint and torch.is_grad_enabled():
                x = checkpoint(block, x, start, self.rope, None, mask, use_reentrant=False)
            else:
                x = block(x, start, self.rope, None if cache is None else cache.layers[i], mask)
            if not torch.compiler.is_compiling() and self._look is not None:
                self._look()
                if x.requires_grad and x.device.type == "cpu":  # elsewhere the host does not wait for the device
                    x.register_hook(lambda _, look=self._look: look())
        out: Tensor = self.norm(x)
        return out

    @contextmanager
    def watched(self, look: Callable[[], None]) -> Iterator[None]:
        """Call `look` after each layer, forward and backward, so that it can end a pass by raising."""
        self._look = look
        try:
            yield
        finally:
            self._look = None

    def empty_cache(self) -> Cache:
        """A cache to pass to `forward` for incremental generation."""
        return Cache(self.config.n_layer)

    def num_params(self) -> int:
        """Number of parameters; shared weights count once."""
        return sum(p.numel() for p in self.parameters())

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.lm_head.weight.device

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Copy weights into this model.

        Raises:
            ValueError: tensors are missing, unexpected or have the wrong shape; the message lists them all.
        """
        if problems := self.misfits(weights):
            raise ValueError("; ".join(problems))
        self.load_state_dict(dict(weights))

    def misfits(self, weights: Mapping[str, Tensor]) -> list[str]:
        """One message for each tensor that is missing, unexpected or has the wrong shape."""
        return misfits(self.config, {name: tuple(weight.shape) for name, weight in weights.items()})

    def _init_weights(self, seed: int) -> None:
        if self.lm_head.weight.is_meta:
            return  # a model built only for its shapes
        generator = torch.Generator().manual_seed(seed)
        residual = ("attn.proj.weight", "mlp.down.weight")
        with torch.no_grad():
            for name, p in self.named_parameters():
                if p.dim() >= 2 and not name.startswith("token_conv"):
                    std = INIT_STD / math.sqrt(2 * self.config.n_layer) if name.endswith(residual) else INIT_STD
                    p.normal_(0.0, std, generator=generator)
                elif name.endswith("bias") or name.startswith("token_conv"):
                    p.zero_()
                else:
                    p.fill_(1.0)
