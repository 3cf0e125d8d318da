"""A checkpoint of llm.c: a header of 256 numbers, then GPT-2's tensors one after the other."""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mypt.exchange.gpt2 import of_gpt2
from mypt.exchange.incoming import Incoming, not_finite, refused, vocabulary_without_file
from mypt.model.cost import parameter_count
from mypt.regular import open_regular
from mypt.schema.settings.config import GPTConfig

MAGIC = 20240326
_HEADER = 256 * 4
_DTYPES = {3: torch.float32, 5: torch.bfloat16}
_TODO = "Write it with the newest train_gpt2.py of llm.c, which makes files of version 3 (fp32) and 5 (bf16)."


class _Header(NamedTuple):
    magic: int
    version: int
    block_size: int
    tokens: int
    n_layer: int
    n_head: int
    n_embd: int
    rows: int


def is_llmc(head: bytes) -> bool:
    """Whether a file begins like a checkpoint of llm.c."""
    return head[:4] == MAGIC.to_bytes(4, "little")


def read_llmc(path: Path) -> Incoming:
    """Read a checkpoint of GPT-2.

    Raises:
        InputError: it is none that can be read, with all reasons.
    """
    with open_regular(path) as file:
        head, size = file.read(_HEADER), os.fstat(file.fileno()).st_size
    if len(head) < _HEADER:
        raise refused(path, [f"It has {size:,} bytes, fewer than the header of llm.c."], "Copy the file again.")
    header = _Header(*np.frombuffer(head, "<i4")[:8].tolist())
    config = _config(path, header)
    dtype = _DTYPES[header.version]
    wanted = _HEADER + parameter_count(config) * dtype.itemsize
    if size != wanted:
        todo = "Copy the file again."
        raise refused(path, [f"It has {size:,} bytes, and the model of its header needs {wanted:,}."], todo)
    tensors = _tensors(path, config, dtype)
    if reasons := not_finite(tensors):
        raise refused(path, reasons, "Import a checkpoint from before the run diverged.")
    return Incoming("gpt2", config, of_gpt2(tensors), vocabulary_without_file(header.tokens))


def _config(path: Path, header: _Header) -> GPTConfig:
    reasons = []
    if header.version not in _DTYPES:
        reasons.append(f"Its version is {header.version}, and those of fp32 and bf16 are 3 and 5.")
    if min(header[2:]) <= 0 or max(header[2:]) >= 1 << 24:
        reasons.append(f"Its sizes are not those of a model: {', '.join(map(str, header[2:]))}.")
    elif header.n_embd % header.n_head:
        reasons.append(f"{header.n_embd} channels are not divisible by {header.n_head} heads.")
    elif header.tokens > header.rows:
        reasons.append(f"It has {header.rows:,} rows for a vocabulary of {header.tokens:,}.")
    if reasons:
        raise refused(path, reasons, _TODO)
    return GPTConfig(
        block_size=header.block_size, vocab_size=header.rows, n_layer=header.n_layer, n_head=header.n_head,
        n_embd=header.n_embd, bias=True, dropout=0.0, tie_weights=True,
    )  # fmt: skip


def _tensors(path: Path, config: GPTConfig, dtype: torch.dtype) -> dict[str, Tensor]:
    """The tensors by the names of nanoGPT, whose matrices lie the same way."""
    C, L, hidden = config.n_embd, config.n_layer, 4 * config.n_embd
    within: dict[str, tuple[int, ...]] = {
        "ln_1.weight": (C,), "ln_1.bias": (C,), "attn.c_attn.weight": (3 * C, C), "attn.c_attn.bias": (3 * C,),
        "attn.c_proj.weight": (C, C), "attn.c_proj.bias": (C,), "ln_2.weight": (C,), "ln_2.bias": (C,),
        "mlp.c_fc.weight": (hidden, C), "mlp.c_fc.bias": (hidden,), "mlp.c_proj.weight": (C, hidden),
        "mlp.c_proj.bias": (C,),
    }  # fmt: skip
    shapes: dict[str, tuple[int, ...]] = {"wte.weight": (config.vocab_size, C), "wpe.weight": (config.block_size, C)}
    shapes |= {f"h.{{}}.{name}": (L, *shape) for name, shape in within.items()}
    shapes |= {"ln_f.weight": (C,), "ln_f.bias": (C,)}
    tensors: dict[str, Tensor] = {}
    with open_regular(path) as file:
        file.seek(_HEADER)
        for name, shape in shapes.items():
            data = bytearray(file.read(int(np.prod(shape)) * dtype.itemsize))
            values = torch.frombuffer(data, dtype=dtype).view(shape).float()
            layers = {name.format(i): values[i] for i in range(L)} if "{}" in name else {name: values}
            tensors |= layers
    return tensors
