"""The next-token loss, from hidden states and the output layer's weights."""

import torch
import torch.nn.functional as F
from torch import Tensor

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
    options = torch.nn.LinearCrossEntropyOptions(batch_chunk_size=CHUNK_TOKENS)
    return F.linear_cross_entropy(flat, weight, wanted, reduction="sum", options=options)


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
