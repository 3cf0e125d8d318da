"""Transformer blocks and their parts: attention, feed-forward layers and norms."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mypt.model.attention import attention
from mypt.model.cost import mlp_hidden
from mypt.model.dropout import Dropout
from mypt.model.gelu import gelu
from mypt.model.positions import RotaryEmbedding
from mypt.schema.settings.config import GPTConfig


class LayerCache:
    """KV cache of one layer: keys and values (B, nkv, T, hs) of the previous tokens.

    Their memory doubles when it is full, so that few tokens are ever copied and none is held for a context not used.
    """

    def __init__(self) -> None:
        self.length = 0
        self._kv: list[Tensor] = []

    def extend(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Append keys and values of new tokens and return those of all tokens."""
        start, self.length = self.length, self.length + k.size(2)
        if not self._kv or self._kv[0].size(2) < self.length:
            grown = [new.new_empty(*new.shape[:2], 2 * self.length, new.size(3)) for new in (k, v)]
            for larger, held in zip(grown, self._kv, strict=False):
                larger[:, :, :start] = held[:, :, :start]
            self._kv = grown
        for held, new in zip(self._kv, (k, v), strict=True):
            held[:, :, start : self.length] = new
        keys, values = self._kv
        return keys[:, :, : self.length], values[:, :, : self.length]


class Cache:
    """State of incremental generation: the KV cache of each layer, and the last embeddings for `TokenConv`."""

    def __init__(self, n_layer: int) -> None:
        self.layers = [LayerCache() for _ in range(n_layer)]
        self.last_embeddings: Tensor | None = None

    @property
    def length(self) -> int:
        """Number of tokens in the cache."""
        return self.layers[0].length


class TokenConv(nn.Module):
    """Causal depthwise convolution over embeddings, whose weight for the current token is fixed to 1.

    It gives the first layer direct access to the preceding tokens. So et al. 2021 (Primer, section 4.1) apply such a
    convolution after the attention projections.
    """

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(config.token_conv - 1, config.n_embd))

    def forward(self, x: Tensor, cache: Cache | None = None, places: Tensor | None = None) -> Tensor:
        """Map embeddings x (B, T, C) to (B, T, C).

        Args:
            x: embeddings.
            cache: holds the preceding ones.
            places: of each token in its document (B, T), whose first token has none before it.
        """
        K, T = self.weight.size(0), x.size(1)
        previous = None if cache is None else cache.last_embeddings
        previous = x.new_zeros(x.size(0), K, x.size(2)) if previous is None else previous
        padded = torch.cat([previous, x], dim=1)  # (B, K + T, C)
        if cache is not None:
            cache.last_embeddings = padded[:, -K:]
        for i in range(K):
            before = padded[:, K - 1 - i : K - 1 - i + T]
            if places is not None:
                before = before * (places > i).unsqueeze(-1)
            x = torch.addcmul(x, before, self.weight[i])
        return x


class CausalSelfAttention(nn.Module):
    """Causal multi-head self-attention (Vaswani et al. 2017).

    With fewer heads of keys and values than of queries, each serves a group of these (Ainslie et al. 2023, GQA).
    """

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.head_size = config.head_size
        self.rows = config.qkv_rows
        self.group = config.n_head // config.kv_heads
        self.dropout = config.dropout
        self.qkv = nn.Linear(config.n_embd, sum(self.rows), bias=config.bias)
        self.proj = nn.Linear(config.n_embd, config.n_embd, bias=config.bias)
        self.resid_dropout = Dropout(config.dropout)

    def forward(
        self,
        x: Tensor,
        start: int = 0,
        rope: RotaryEmbedding | None = None,
        cache: LayerCache | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Attend within x (B, T, C), where `mask` (B, 1, T, T) allows it, and to the preceding tokens in `cache`."""
        B, T, C = x.shape
        q, k, v = (
            t.view(B, T, -1, self.head_size).transpose(1, 2) for t in self.qkv(x).split(self.rows, dim=2)
        )  # (B, nh, T, hs) and twice (B, nkv, T, hs)
        if rope is not None:
            q, k = rope(q, start), rope(k, start)
        if cache is not None:
            k, v = cache.extend(k, v)
        if self.group > 1:
            k, v = (t.repeat_interleave(self.group, dim=1) for t in (k, v))  # each (B, nh, S, hs)
        if start and T > 1:
            mask = _mask_after(start, T, x.device)
        y = attention(q, k, v, mask, self.dropout if self.training else 0.0)  # (B, nh, T, hs)
        y = y.transpose(1, 2).contiguous().view(B, T, C)
        out: Tensor = self.resid_dropout(self.proj(y))
        return out


class MLP(nn.Module):
    """Feed-forward layer: GPT-2's down(gelu(up(x))), or LLaMA-2's down(silu(gate(x)) * up(x)) (Shazeer 2020)."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        C, hidden, bias = config.n_embd, mlp_hidden(config), config.bias
        self.gate = nn.Linear(C, hidden, bias) if config.mlp_type == "swiglu" else None
        self.up = nn.Linear(C, hidden, bias)
        self.down = nn.Linear(hidden, C, bias)
        self.gelu = gelu if config.gelu == "tanh" else F.gelu
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, T, C) to (B, T, C)."""
        hidden = self.gelu(self.up(x)) if self.gate is None else F.silu(self.gate(x)) * self.up(x)
        out: Tensor = self.dropout(self.down(hidden))
        return out


def build_norm(config: GPTConfig) -> nn.Module:
    """Layer norm, with a bias if `config.bias`, or RMS norm (Zhang and Sennrich 2019)."""
    if config.norm_type == "rmsnorm":
        return nn.RMSNorm(config.n_embd, eps=config.norm_eps)
    return nn.LayerNorm(config.n_embd, eps=config.norm_eps, bias=config.bias)


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.norm_1 = build_norm(config)
        self.attn = CausalSelfAttention(config)
        self.norm_2 = build_norm(config)
        self.mlp = MLP(config)

    def forward(
        self,
        x: Tensor,
        start: int = 0,
        rope: RotaryEmbedding | None = None,
        cache: LayerCache | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Map (B, T, C) to (B, T, C)."""
        x = x + self.attn(self.norm_1(x), start, rope, cache, mask)
        out: Tensor = x + self.mlp(self.norm_2(x))
        return out


def _mask_after(start: int, T: int, device: torch.device) -> Tensor:
    """True where new token i, at position start + i, may attend to position j: (T, start + T)."""
    return torch.ones(T, start + T, dtype=torch.bool, device=device).tril(diagonal=start)
