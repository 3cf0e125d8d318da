"""Autoregressive text generation."""

from collections.abc import Collection, Iterable, Iterator, Sequence

import torch
from torch import Tensor

from mypt.data.chat import stop_ids
from mypt.data.tokenizer import Tokenizer
from mypt.errors import DivergedError
from mypt.model.network import Network
from mypt.schema.settings.generation import GenerationConfig


def generate_text(
    model: Network,
    tokenizer: Tokenizer,
    prompt: Sequence[int],
    config: GenerationConfig,
    ends: Collection[int] | None = None,
) -> Iterator[str]:
    """Yield the pieces of the text that continues `prompt`, which ends before what ends it.

    Args:
        model: the network.
        tokenizer: of its weights; ids outside its vocabulary are never sampled.
        prompt: token ids; not empty.
        config: the settings.
        ends: ids that end the text; by default those of the ends of a text and of an answer.

    Raises:
        DivergedError: logits are not finite, so that there is no next token.
    """
    ends = stop_ids(tokenizer) if ends is None else ends
    ids = generate(model, prompt, config, ends=() if config.ignore_end else ends, vocab_size=tokenizer.vocab_size)
    return before_first(tokenizer.decode_stream(ids), config.stop)


@torch.no_grad()
def generate(
    model: Network,
    prompt: Sequence[int],
    config: GenerationConfig,
    *,
    ends: Collection[int] = (),
    vocab_size: int | None = None,
    use_cache: bool = True,
) -> Iterator[int]:
    """Yield token ids that continue `prompt`, which must not be empty, until one of `ends` or `config.max_new_tokens`.

    With the cache, each token is computed once until the context of block_size is full. After that the window slides
    by one token per step and is recomputed, because all positions change. Ids from `vocab_size` on are left out.

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
        logits = model.next_logits(torch.tensor([new_tokens], device=model.device), cache)[0, :vocab_size]  # (V)
        token = sample_token(_checked(logits.float().cpu()), config, rng)
        if token in ends:
            return
        tokens.append(token)
        yield token
        if cache is not None and len(tokens) > size:
            cache = None
        new_tokens = [token] if cache is not None else tokens[-size:]


def _checked(logits: Tensor) -> Tensor:
    if not logits.isfinite().all():
        raise DivergedError(
            "The model gives no next token: its logits are not finite.",
            "Use a bundle whose weights are finite; `mypt verify` says which are.",
        )
    return logits


def sample_token(logits: Tensor, config: GenerationConfig, rng: torch.Generator) -> int:
    """Sample one token id from logits (V)."""
    fp32 = torch.finfo(torch.float32)
    if config.temperature < fp32.tiny:  # 0 to a division
        return int(logits.argmax())
    logits = (logits - logits.max()) / min(config.temperature, fp32.max)  # none of which can be NaN
    if config.top_k is not None:
        keep = min(config.top_k, logits.numel())
        logits = logits.masked_fill(logits < logits.topk(keep).values[-1], float("-inf"))
    probabilities = logits.softmax(dim=-1)
    if config.top_p is not None:
        ranked, order = probabilities.sort(descending=True)
        excluded = ranked.cumsum(dim=-1) - ranked >= config.top_p
        excluded[0] = False  # also of a top_p that is 0 in fp32
        probabilities = probabilities.index_fill(0, order[excluded], 0.0)
    return int(torch.multinomial(probabilities, 1, generator=rng))


def before_first(pieces: Iterable[str], stops: Sequence[str]) -> Iterator[str]:
    """Yield a text up to the first place where one of `stops` is complete, without it, however the text is cut.

    What could be the beginning of one is held back until the text goes on otherwise.
    """
    held = ""
    for piece in pieces:
        held += piece
        found = [(at + len(stop), at) for stop in stops if (at := held.find(stop)) >= 0]
        if found:
            yield held[: min(found)[1]]
            return
        begun = max((_overlap(held, stop) for stop in stops), default=0)
        yield held[: len(held) - begun]
        held = held[len(held) - begun :]
    yield held


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of a text that is a beginning of `stop`."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)
