"""Autoregressive text generation."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from mypt.errors import DivergedError
from mypt.model.network import Network
from mypt.schema.settings.generation import GenerationConfig


@torch.no_grad()
def generate(
    model: Network, prompt: Sequence[int], config: GenerationConfig, *, use_cache: bool = True
) -> Iterator[int]:
    """Yield `config.max_new_tokens` token ids that continue `prompt`, which must not be empty.

    With the cache, each token is computed once until the context of block_size is full. After that the window slides
    by one token per step and is recomputed, because all positions change.

    Raises:
        DivergedError: logits are not finite, so that there is no next token.
    """
    model.eval()
    rng = torch.Generator().manual_seed(config.seed)
    tokens = list(prompt)
    size = model.config.block_size
    cache = model.empty_cache() if use_cache and len(tokens) < size else None
    new_tokens = tokens[-size:]
    for _ in range(config.max_new_tokens):
        logits = model(torch.tensor([new_tokens], device=model.device), cache)[0, -1]  # (V)
        logits = logits.float().cpu()
        if not logits.isfinite().all():
            raise DivergedError(
                "The model gives no next token: its logits are not finite.",
                "Use a bundle whose weights are finite; `mypt verify` says which are.",
            )
        token = sample_token(logits, config, rng)
        tokens.append(token)
        yield token
        if cache is not None and len(tokens) > size:
            cache = None
        new_tokens = [token] if cache is not None else tokens[-size:]


def sample_token(logits: Tensor, config: GenerationConfig, rng: torch.Generator) -> int:
    """Sample one token id from logits (V)."""
    if config.temperature < torch.finfo(torch.float32).tiny:  # 0 to a division
        return int(logits.argmax())
    logits = (logits - logits.max()) / config.temperature  # none of which can overflow
    if config.top_k is not None:
        keep = min(config.top_k, logits.numel())
        logits = logits.masked_fill(logits < logits.topk(keep).values[-1], float("-inf"))
    probabilities = logits.softmax(dim=-1)
    if config.top_p is not None:
        ranked, order = probabilities.sort(descending=True)
        excluded = ranked.cumsum(dim=-1) - ranked >= config.top_p
        probabilities = probabilities.index_fill(0, order[excluded], 0.0)
    return int(torch.multinomial(probabilities, 1, generator=rng))
