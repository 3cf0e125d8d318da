"""Causal attention by the fastest way that each device has."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from mypt.model.dropout import dropout


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, share: float) -> Tensor:
    """Attend with q (B, nh, T, hs) to k and v (B, nh, S, hs); causally where there is no mask and T is S.

    Args:
        q: queries.
        k: keys.
        v: values.
        mask: True where a query may see a key (T, S); None for all keys up to the query's own, T = S or T = 1.
        share: of the attention weights, that is dropped; only without a mask.
    """
    causal = mask is None and q.size(2) == k.size(2)
    if q.device.type != "cpu":
        return F.scaled_dot_product_attention(q, k, v, mask, share, is_causal=causal)
    if share:
        return _written_out(q, k, v, share)
    with torch.autocast("cpu", enabled=False):  # in half precision its backward pass takes eight times as long there
        return F.scaled_dot_product_attention(q.float(), k.float(), v.float(), mask, is_causal=causal)


def _written_out(q: Tensor, k: Tensor, v: Tensor, share: float) -> Tensor:
    """Causal attention with dropout: torch's fast way has none on a CPU, and its other way draws slow masks."""
    T, hs = q.shape[-2:]
    hidden = torch.full((T, T), -math.inf, dtype=q.dtype, device=q.device).triu(1)
    weights = torch.softmax(torch.matmul(q, k.mT).mul_(1 / math.sqrt(hs)).add_(hidden), dim=-1)  # (B, nh, T, T)
    return torch.matmul(dropout(weights, share), v)
