"""Next-token cross entropy from hidden states and the weights of the output layer."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mypt.model.cost import CHUNK_FROM_VOCAB, loss_chunk

IGNORED = -100
"""Target of masked tokens; the default `ignore_index` of torch's cross entropy."""


def next_token_loss(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Cross entropy summed over all tokens, in nats; targets of -100 are ignored.

    With a large vocabulary the logits are computed in chunks of tokens and never materialized as a whole.

    Args:
        hidden: final hidden states (B, T, C).
        weight: weights of the output layer (V, C).
        targets: next tokens (B, T), int64.
    """
    flat, flat_targets = hidden.reshape(-1, hidden.size(-1)), targets.reshape(-1)  # (BT, C), (BT)
    if weight.size(0) < CHUNK_FROM_VOCAB:
        return F.cross_entropy(F.linear(flat, weight).float(), flat_targets, reduction="sum")
    dtype = torch.get_autocast_dtype(flat.device.type) if torch.is_autocast_enabled(flat.device.type) else flat.dtype
    if dtype.itemsize < flat.dtype.itemsize:
        loss: Tensor = _ChunkedLoss.apply(flat, weight, flat_targets, dtype)  # type: ignore[no-untyped-call]
        return loss
    options = torch.nn.LinearCrossEntropyOptions(batch_chunk_size=loss_chunk(flat.device.type))
    return F.linear_cross_entropy(flat, weight, flat_targets, reduction="sum", options=options)


class _ChunkedLoss(torch.autograd.Function):
    """Chunked loss and gradients, with matrix products in half precision and everything else in fp32.

    torch's own chunked loss ignores autocast, and in half precision it takes twice as long on a CPU.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, dtype: torch.dtype) -> Tensor:
        """Loss summed over hidden (BT, C) with weight (V, C) and targets (BT); matrix products in `dtype`."""
        hidden, weight_low = hidden.to(dtype), weight.to(dtype)
        loss = torch.zeros((), device=hidden.device)
        grad_hidden, grad_weight = torch.empty_like(hidden), torch.zeros_like(weight, dtype=torch.float32)
        size = loss_chunk(hidden.device.type)
        for first in range(0, len(hidden), size):
            chunk, target = hidden[first : first + size], targets[first : first + size, None]
            mask = (target != IGNORED).float()
            target = target.clamp(min=0)
            logits = (chunk @ weight_low.T).float()  # (chunk, V)
            lse = logits.logsumexp(dim=1, keepdim=True)
            loss += ((lse - logits.gather(1, target)) * mask).sum()
            grad = logits.sub_(lse).exp_().scatter_add_(1, target, torch.full_like(lse, -1.0)).mul_(mask).to(dtype)
            grad_hidden[first : first + size] = grad @ weight_low
            grad_weight += grad.T @ chunk
        ctx.save_for_backward(grad_hidden, grad_weight)
        return loss

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        grad_hidden, grad_weight = ctx.saved_tensors
        return grad_hidden.float() * grads[0], grad_weight * grads[0], None, None


@torch.no_grad()
def token_losses(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Cross entropy of each token (B, T) in nats, fp32 and without gradient; arguments as in `next_token_loss`."""
    flat, flat_targets = hidden.reshape(-1, hidden.size(-1)), targets.reshape(-1)  # (BT, C), (BT)
    chunk = loss_chunk(flat.device.type) if weight.size(0) >= CHUNK_FROM_VOCAB else len(flat_targets)
    losses = [
        F.cross_entropy(F.linear(x, weight).float(), y, reduction="none")
        for x, y in zip(torch.split(flat, chunk), torch.split(flat_targets, chunk), strict=True)
    ]
    return torch.cat(losses).view_as(targets)
