"""Names and shapes of a model's weights, computed from its config: nothing is built, however large it claims to be."""

import re
from collections.abc import Iterator, Mapping
from itertools import islice

from mypt.model.cost import mlp_hidden
from mypt.schema.settings.config import GPTConfig

Shape = tuple[int, ...]

LISTED = 20
"""Missing weights that are told by name."""
_IN_BLOCK = re.compile(r"blocks\.(0|[1-9]\d{0,8})\.(.+)", re.ASCII)


def weight_names(config: GPTConfig) -> Iterator[str]:
    """The names of all weights, one by one."""
    yield from _outside(config)
    within = _in_block(config)
    for layer in range(config.n_layer):
        yield from (f"blocks.{layer}.{name}" for name in within)


def weight_count(config: GPTConfig) -> int:
    """How many weights there are, each of any size; a tied one has two names and counts twice."""
    return len(_outside(config)) + config.n_layer * len(_in_block(config))


def weight_shape(config: GPTConfig, name: str) -> Shape:
    """The shape of a weight."""
    block = _IN_BLOCK.fullmatch(name)
    return _in_block(config)[block[2]] if block else _outside(config)[name]


def misfits(config: GPTConfig, found: Mapping[str, Shape]) -> list[str]:
    """One message for each weight that is missing, unexpected or has the wrong shape; of many missing, the first."""
    outside, within = _outside(config), _in_block(config)
    known, problems = 0, []
    for name, shape in found.items():
        block = _IN_BLOCK.fullmatch(name)
        wanted = within.get(block[2]) if block and int(block[1]) < config.n_layer else outside.get(name)
        known += wanted is not None
        if wanted is None:
            problems.append(f"{name} is not part of this model")
        elif shape != wanted:
            problems.append(f"{name} has shape {shape} instead of {wanted}")
    missing = weight_count(config) - known
    named = list(islice((name for name in weight_names(config) if name not in found), min(missing, LISTED)))
    problems += [f"{name} is missing" for name in named]
    if missing > len(named):
        problems.append(f"{missing - len(named):,} more are missing")
    return sorted(problems)


def _outside(config: GPTConfig) -> dict[str, Shape]:
    C, V = config.n_embd, config.vocab_size
    learned, conv = config.pos_encoding == "learned", config.token_conv > 1
    return {
        "token_embedding.weight": (V, C),
        **({"position_embedding.weight": (config.block_size, C)} if learned else {}),
        **({"token_conv.weight": (config.token_conv - 1, C)} if conv else {}),
        **_norm("norm", config),
        "lm_head.weight": (V, C),
    }


def _in_block(config: GPTConfig) -> dict[str, Shape]:
    C, hidden = config.n_embd, mlp_hidden(config)
    gate = _linear("mlp.gate", hidden, C, config) if config.mlp_type == "swiglu" else {}
    return {
        **_norm("norm_1", config),
        **_linear("attn.qkv", sum(config.qkv_rows), C, config),
        **_linear("attn.proj", C, C, config),
        **_norm("norm_2", config),
        **gate,
        **_linear("mlp.up", hidden, C, config),
        **_linear("mlp.down", C, hidden, config),
    }


def _linear(name: str, rows: int, columns: int, config: GPTConfig) -> dict[str, Shape]:
    return {f"{name}.weight": (rows, columns), **({f"{name}.bias": (rows,)} if config.bias else {})}


def _norm(name: str, config: GPTConfig) -> dict[str, Shape]:
    biased = config.bias and config.norm_type == "layernorm"
    return {f"{name}.weight": (config.n_embd,), **({f"{name}.bias": (config.n_embd,)} if biased else {})}
