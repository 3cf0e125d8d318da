"""Weights of Hugging Face: one table of names for each home, read in both directions."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from mypt.errors import InputError
from mypt.exchange.homes import Home
from mypt.model.shapes import weight_names
from mypt.schema.settings.config import GPTConfig

_GPT2 = {
    "token_embedding": "transformer.wte", "position_embedding": "transformer.wpe", "norm": "transformer.ln_f",
    "norm_1": "ln_1", "attn.qkv": "attn.c_attn", "attn.proj": "attn.c_proj",
    "norm_2": "ln_2", "mlp.up": "mlp.c_fc", "mlp.down": "mlp.c_proj",
}  # fmt: skip
_LLAMA = {
    "token_embedding": "model.embed_tokens", "norm": "model.norm",
    "norm_1": "input_layernorm", "attn.proj": "self_attn.o_proj", "norm_2": "post_attention_layernorm",
    "attn.q": "self_attn.q_proj", "attn.k": "self_attn.k_proj", "attn.v": "self_attn.v_proj",
    "mlp.gate": "mlp.gate_proj", "mlp.up": "mlp.up_proj", "mlp.down": "mlp.down_proj",
}  # fmt: skip
_NAMES = {
    "gpt2": _GPT2, "llama": _LLAMA, "stablelm": _LLAMA, "arcee": _LLAMA,
    "starcoder2": _LLAMA | {"mlp.up": "mlp.c_fc", "mlp.down": "mlp.c_proj"},
}  # fmt: skip
"""The names in each home, without `.weight` and `.bias` and, in a block, without the number of the layer."""
_BLOCKS = {"gpt2": "transformer.h"}
_NORMS = ("norm", "norm_1", "norm_2")


@dataclass(frozen=True)
class Pair:
    """A tensor of theirs and where it is in ours.

    Attributes:
        theirs: its name there.
        ours: the weight that it is, or is a part of.
        part: 0, 1 or 2 for the queries, keys and values of a fused weight; None for a whole one.
        turned: whether it is stored transposed, as GPT-2's linear layers are.
        zero: whether ours has no such bias, so that theirs is zero.
    """

    theirs: str
    ours: str
    part: int | None = None
    turned: bool = False
    zero: bool = False


def to_hf(weights: Mapping[str, Tensor], config: GPTConfig, home: Home) -> dict[str, Tensor]:
    """The weights of a network under the names, and in the shapes, of its home."""
    tensors = {}
    for pair in pairs(config, home):
        if pair.zero:
            rows = weights[pair.ours.removesuffix("bias") + "weight"].size(0)
            tensor = torch.zeros(rows, dtype=weights["norm.weight"].dtype)
        else:
            tensor = weights[pair.ours]
        if pair.part is not None:
            tensor = torch.split(tensor, list(config.qkv_rows))[pair.part]
        tensors[pair.theirs] = (tensor.t() if pair.turned else tensor).contiguous()
    return tensors


def from_hf(tensors: Mapping[str, Tensor], config: GPTConfig, home: Home) -> dict[str, Tensor]:
    """The weights of a network, from those of its home.

    Raises:
        InputError: tensors are missing, surplus, or biases that ours has no place for; all are listed.
    """
    table = list(pairs(config, home))
    names = {pair.theirs for pair in table}
    problems = [f"{name} is missing" for name in sorted(names - tensors.keys())]
    problems += [f"{name} is no part of a {home.hf_class}" for name in sorted(tensors.keys() - names)]
    held = [pair for pair in table if pair.theirs in tensors]
    problems += [f"{p.theirs} is not zero, and bias is off" for p in held if p.zero and tensors[p.theirs].any()]
    if problems:
        raise InputError(
            f"{len(problems)} of the tensors are not those of this model.", "Give the folder as it was saved.", problems
        )
    parts: dict[str, list[Tensor]] = {}
    for pair in held:
        if not pair.zero:
            tensor = tensors[pair.theirs]
            parts.setdefault(pair.ours, []).append(tensor.t().contiguous() if pair.turned else tensor)
    weights = {name: torch.cat(found) if len(found) > 1 else found[0] for name, found in parts.items()}
    if config.tie_weights:
        weights["lm_head.weight"] = weights["token_embedding.weight"]
    return weights


def pairs(config: GPTConfig, home: Home) -> Iterator[Pair]:
    """Every tensor of a model's home, the parts of a fused one in their order."""
    own = set(weight_names(config))
    for name in sorted(n for n in own if n.endswith("weight")):
        if name == "lm_head.weight":
            if not config.tie_weights:
                yield Pair(name, name)
            continue
        for kind in ("weight", "bias") if _has_bias(name, config, home) else ("weight",):
            yield from _pairs_of(name.removesuffix("weight") + kind, home, own)


def _pairs_of(ours: str, home: Home, own: set[str]) -> Iterator[Pair]:
    module, kind = ours.rsplit(".", 1)
    prefix = ""
    if module.startswith("blocks."):
        _, layer, module = module.split(".", 2)
        prefix = f"{_BLOCKS.get(home.family, 'model.layers')}.{layer}."
    names, zero = _NAMES[home.family], ours not in own
    if module in names:
        turned = home.family == "gpt2" and bool(prefix) and kind == "weight" and module not in _NORMS
        yield Pair(f"{prefix}{names[module]}.{kind}", ours, None, turned, zero)
        return
    for part, which in enumerate("qkv"):
        yield Pair(f"{prefix}{names[f'attn.{which}']}.{kind}", ours, part, zero=zero)


def _has_bias(weight: str, config: GPTConfig, home: Home) -> bool:
    """Whether the home has a bias beside a weight, be it zero."""
    module = weight.removesuffix(".weight").split(".", 2)[-1]
    if module.endswith("embedding"):
        return False
    if module in _NORMS:
        return config.norm_type == "layernorm"
    return home.family == "gpt2" or (config.bias and home.family != "stablelm")
