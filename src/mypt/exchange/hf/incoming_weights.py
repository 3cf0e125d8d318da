"""Whether the tensors of a folder of Hugging Face are those of its model, and the weights that mypt makes of them."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from mypt.errors import InputError
from mypt.exchange.hf.weights import Pair, from_hf, pairs
from mypt.exchange.homes import Home
from mypt.model.shapes import Shape, weight_shape
from mypt.schema.settings.config import GPTConfig

_BUFFER = re.compile(r"\.attn\.(bias|masked_bias)$|rotary_emb\.inv_freq$")
"""What earlier versions of transformers saved beside the weights: masks and the frequencies of rope."""
_HEAD, _EMBEDDING = "lm_head.weight", re.compile(r"\.(wte|embed_tokens)\.weight$")


def weights_alone(tensors: Mapping[str, Tensor], home: Home) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors without buffers, under the names of the whole model where those of its lower part were saved.

    Returns:
        The tensors, and a reason for each name that two of them have then.
    """
    level = "transformer." if home.family == "gpt2" else "model."
    found: dict[str, Tensor] = {}
    reasons = []
    for name, tensor in tensors.items():
        if not _BUFFER.search(name):
            whole = name if name.startswith(level) or name == _HEAD else level + name
            if whole in found:
                reasons.append(f"{whole} is there twice, once as {whole.removeprefix(level)}.")
            found[whole] = tensor
    return found, reasons


def own_weights(tensors: Mapping[str, Tensor], config: GPTConfig, home: Home) -> tuple[dict[str, Tensor], list[str]]:
    """The weights by mypt's names, and a reason for each tensor that is missing, surplus, or of another shape."""
    if config.n_layer > len(tensors):
        return {}, [f"It has {len(tensors):,} tensors, too few for the {config.n_layer:,} layers of config.json."]
    found, reasons = dict(tensors), []
    if config.tie_weights and _HEAD in found:
        head = found.pop(_HEAD)
        embedding = next((t for name, t in found.items() if _EMBEDDING.search(name)), head)
        if head.shape != embedding.shape or not torch.equal(head, embedding):
            reasons.append(f"{_HEAD} differs from the token embedding, with which config.json ties it.")
    table = {pair.theirs: pair for pair in pairs(config, home)}
    reasons += [f"{name} is missing." for name in table if name not in found]
    reasons += [f"{name} is no part of a {home.hf_class}." for name in found if name not in table]
    for name, pair in table.items():
        wanted = _shape(pair, config)
        if name in found and tuple(found[name].shape) != wanted:
            reasons.append(f"{name} has shape {tuple(found[name].shape)} instead of {wanted}.")
    if reasons:
        return {}, reasons
    try:
        return from_hf(found, config, home), []
    except InputError as error:
        return {}, [f"{line}." for line in error.details]


def _shape(pair: Pair, config: GPTConfig) -> Shape:
    """The shape that a tensor has there."""
    if pair.zero:
        return weight_shape(config, pair.ours.removesuffix("bias") + "weight")[:1]
    shape = weight_shape(config, pair.ours)
    if pair.part is not None:
        shape = (config.qkv_rows[pair.part], *shape[1:])
    return shape[::-1] if pair.turned else shape
