"""Causal attention with the fastest implementation for each device."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from mypt.model.dropout import dropout


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, p: float) -> Tensor:
    """Attention of q (B, nh, T, hs) to k and v (B, nh, S, hs), causal if there is no mask and T = S.

    Args:
        q: queries.
        k: keys.
        v: values.
        mask: True where a query may attend to a key, (T, S) or (B, 1, T, S), of which each has one; None for causal
            attention, with T = S or T = 1.
        p: dropout probability of the attention weights.
    """
    causal = mask is None and q.size(2) == k.size(2)
    if q.device.type != "cpu":
        return F.scaled_dot_product_attention(q, k, v, mask, p, is_causal=causal)
    if p:
        return _attention_with_dropout(q, k, v, mask, p)
    with torch.autocast("cpu", enabled=False):  # the half-precision backward pass is 8x slower on a CPU
        return F.scaled_dot_product_attention(q.float(), k.float(), v.float(), mask, is_causal=causal)


def _attention_with_dropout(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, p: float) -> Tensor:
    """Attention with dropout, which torch's fast CPU kernel lacks and its fallback implements slowly."""
    T, hs = q.shape[-2:]
    if mask is None:
        bias = torch.full((T, T), -math.inf, dtype=q.dtype, device=q.device).triu(1)
    else:
        bias = torch.zeros(mask.shape, dtype=q.dtype, device=q.device).masked_fill_(~mask, -math.inf)
    scores = torch.matmul(q, k.mT).mul_(1 / math.sqrt(hs)).add_(bias)  # (B, nh, T, T)
    weights = torch.softmax(scores, dim=-1)
    return torch.matmul(dropout(weights, p), v)
