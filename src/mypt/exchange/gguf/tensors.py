"""The tensors and the shape of a model under the names of llama.cpp's architectures."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from mypt.model.cost import mlp_hidden
from mypt.schema.settings.config import GPTConfig

Field = bool | int | float | str
CONTEXT_STEP = 256
"""llama.cpp rounds a context up to a multiple of this, and looks up learned positions as far as that."""
_WHOLE = {
    "token_embedding.weight": "token_embd.weight",
    "position_embedding.weight": "position_embd.weight",
    "norm.weight": "output_norm.weight",
    "norm.bias": "output_norm.bias",
    "lm_head.weight": "output.weight",
}
_PARTS = {
    "norm_1": "attn_norm", "attn.qkv": "attn_qkv", "attn.proj": "attn_output",
    "norm_2": "ffn_norm", "mlp.gate": "ffn_gate", "mlp.up": "ffn_up", "mlp.down": "ffn_down",
}  # fmt: skip
_NORMS = ("attn_norm", "ffn_norm")
_NEEDS_BIASES = {
    "gpt2": (*_NORMS, "attn_qkv", "attn_output", "ffn_up", "ffn_down"),
    "stablelm": _NORMS,
    "starcoder2": (*_NORMS, "attn_q", "attn_k", "attn_v", "attn_output", "ffn_up", "ffn_down"),
}
"""What llama.cpp does not load without a bias; a model that has none gets zeros."""


def padded(block_size: int) -> int:
    """The block size, rounded up as llama.cpp does."""
    return -(-block_size // CONTEXT_STEP) * CONTEXT_STEP


def fields(config: GPTConfig, arch: str) -> dict[str, Field]:
    """What llama.cpp has to know of the shape of a model.

    The context of learned positions is as long as their table; `mypt.block_size` keeps how far the model was trained.
    """
    learned = config.pos_encoding == "learned"
    eps = "layer_norm_rms_epsilon" if config.norm_type == "rmsnorm" else "layer_norm_epsilon"
    own: dict[str, Field] = {
        "context_length": padded(config.block_size) if learned else config.block_size,
        "vocab_size": config.vocab_size,
        "embedding_length": config.n_embd,
        "block_count": config.n_layer,
        "feed_forward_length": mlp_hidden(config),
        "attention.head_count": config.n_head,
        "attention.head_count_kv": config.kv_heads,
        f"attention.{eps}": config.norm_eps,
    }
    if not learned:
        own |= {"rope.dimension_count": config.head_size, "rope.freq_base": config.rope_theta}
        if config.rope_scale != 1.0:
            own |= {"rope.scaling.type": "linear", "rope.scaling.factor": config.rope_scale}
    if arch == "stablelm":
        own["use_parallel_residual"] = False
    return {f"{arch}.{name}": value for name, value in own.items()} | {"mypt.block_size": config.block_size}


def tensors(weights: Mapping[str, Tensor], config: GPTConfig, arch: str) -> Iterator[tuple[str, Tensor]]:
    """Each tensor of the file in fp32, from the weights of a network."""
    for name, weight in weights.items():
        if name == "lm_head.weight" and config.tie_weights and arch != "stablelm":
            continue
        weight = weight.detach().float().cpu()
        if name == "position_embedding.weight":
            surplus = padded(config.block_size) - config.block_size
            weight = torch.cat([weight, weight[-1:].expand(surplus, -1)])
        if name in _WHOLE:
            yield _WHOLE[name], weight
        else:
            yield from _of_block(name, weight, config, arch)
    if arch in _NEEDS_BIASES and not config.bias:
        yield from _zero_biases(config, arch)


def _of_block(name: str, weight: Tensor, config: GPTConfig, arch: str) -> Iterator[tuple[str, Tensor]]:
    _, block, rest = name.split(".", 2)
    part, kind = rest.rsplit(".", 1)
    if part != "attn.qkv" or arch == "gpt2":
        yield f"blk.{block}.{_PARTS[part]}.{kind}", weight
        return
    heads = (config.n_head, config.kv_heads, config.kv_heads)
    for letter, n, rows in zip("qkv", heads, torch.split(weight, [n * config.head_size for n in heads]), strict=True):
        permuted = arch == "llama" and letter != "v"
        yield f"blk.{block}.attn_{letter}.{kind}", _neighbours(rows, n) if permuted else rows


def _neighbours(rows: Tensor, n_head: int) -> Tensor:
    """Put the two channels of each rotated pair side by side, where llama.cpp's `llama` looks for them."""
    halves = rows.view(n_head, 2, -1, *rows.shape[1:])  # (nh, 2, hs/2, ...)
    return halves.transpose(1, 2).reshape(rows.shape)


def _zero_biases(config: GPTConfig, arch: str) -> Iterator[tuple[str, Tensor]]:
    C, kv = config.n_embd, config.kv_heads * config.head_size
    sizes = {"attn_qkv": C + 2 * kv, "attn_k": kv, "attn_v": kv, "ffn_up": mlp_hidden(config)}
    for block in range(config.n_layer):
        for part in _NEEDS_BIASES[arch]:
            yield f"blk.{block}.{part}.bias", torch.zeros(sizes.get(part, C))
    yield "output_norm.bias", torch.zeros(C)
