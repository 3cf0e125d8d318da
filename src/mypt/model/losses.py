"""The next-token loss, from hidden states and the output layer's weights."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORED = -100
"""The target of a token that does not count, as torch's cross entropy has it."""
CHUNK_FROM_VOCAB = 4096
CHUNK_TOKENS = 512
"""Tokens whose logits exist at one time; measured to run at the speed of the matrix product alone."""


def next_token_loss(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Cross entropy summed over all tokens, in nats; a target of -100 does not count and has no gradient.

    With a large vocabulary the logits are never held whole: they are made and used up in chunks of tokens.

    Args:
        hidden: last hidden states (B, T, C).
        weight: output layer (V, C).
        targets: next tokens (B, T), int64.
    """
    flat, wanted = hidden.reshape(-1, hidden.size(-1)), targets.reshape(-1)  # (BT, C), (BT)
    if weight.size(0) < CHUNK_FROM_VOCAB:
        return F.cross_entropy(F.linear(flat, weight).float(), wanted, reduction="sum")
    dtype = torch.get_autocast_dtype(flat.device.type) if torch.is_autocast_enabled(flat.device.type) else flat.dtype
    if dtype.itemsize < flat.dtype.itemsize:
        loss: Tensor = _ChunkedLoss.apply(flat, weight, wanted, dtype)  # type: ignore[no-untyped-call]
        return loss
    options = torch.nn.LinearCrossEntropyOptions(batch_chunk_size=CHUNK_TOKENS)
    return F.linear_cross_entropy(flat, weight, wanted, reduction="sum", options=options)


class _ChunkedLoss(torch.autograd.Function):
    """Loss and gradients chunk by chunk: matrix products in half precision, all else in fp32.

    torch's own chunked loss sees no autocast, and its half precision takes twice the time on a CPU.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, dtype: torch.dtype) -> Tensor:
        """Sum over the tokens of hidden (BT, C) with weight (V, C) and targets (BT); products in `dtype`."""
        low, layer = hidden.to(dtype), weight.to(dtype)
        loss = torch.zeros((), device=hidden.device)
        of_hidden, of_weight = torch.empty_like(low), torch.zeros_like(weight, dtype=torch.float32)
        for first in range(0, len(low), CHUNK_TOKENS):
            part, aim = low[first : first + CHUNK_TOKENS], targets[first : first + CHUNK_TOKENS, None]
            counts = (aim != IGNORED).float()
            aim = aim.clamp(min=0)
            logits = (part @ layer.T).float()  # (chunk, V)
            total = logits.logsumexp(dim=1, keepdim=True)
            loss += ((total - logits.gather(1, aim)) * counts).sum()
            excess = logits.sub_(total).exp_().scatter_add_(1, aim, torch.full_like(total, -1.0)).mul_(counts).to(dtype)
            of_hidden[first : first + CHUNK_TOKENS] = excess @ layer
            of_weight += excess.T @ part
        ctx.save_for_backward(of_hidden, of_weight)
        return loss

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        of_hidden, of_weight = ctx.saved_tensors
        return of_hidden.float() * grads[0], of_weight * grads[0], None, None


@torch.no_grad()
def token_losses(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Cross entropy of each token (B, T) in nats, fp32 and without gradient; arguments as in `next_token_loss`."""
    flat, wanted = hidden.reshape(-1, hidden.size(-1)), targets.reshape(-1)  # (BT, C), (BT)
    chunk = CHUNK_TOKENS if weight.size(0) >= CHUNK_FROM_VOCAB else len(wanted)
    losses = [
        F.cross_entropy(F.linear(part, weight).float(), aim, reduction="none")
        for part, aim in zip(torch.split(flat, chunk), torch.split(wanted, chunk), strict=True)
    ]
    return torch.cat(losses).view_as(targets)
