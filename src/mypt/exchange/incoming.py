"""A model that was read from another program's files, and why one cannot be."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mypt.checkpoint.manifest import file_hash
from mypt.errors import InputError
from mypt.schema.files.imported import ImportedFile
from mypt.schema.files.tokenizer import GPT2_TOKENS, TokenizerFile
from mypt.schema.settings.config import GPTConfig

PADDED_GPT2 = 50304
"""Rows that trainers of GPT-2 give its vocabulary, a multiple of 128."""
FLOATS = (torch.float32, torch.bfloat16, torch.float16)
_TOLD = 20


@dataclass(frozen=True)
class Incoming:
    """A model as a bundle wants it.

    Attributes:
        model_type: what the source calls its architecture.
        config: the architecture.
        weights: in fp32, by mypt's names.
        tokenizer: what the ids mean.
        notes: what the source says that the bundle does not hold.
    """

    model_type: str
    config: GPTConfig
    weights: dict[str, Tensor]
    tokenizer: TokenizerFile
    notes: tuple[str, ...] = ()


def refused(path: Path, reasons: Sequence[str], todo: str) -> InputError:
    """The error that tells all reasons at once."""
    more = [f"And {len(reasons) - _TOLD:,} more."] if len(reasons) > _TOLD else []
    return InputError(f"{path} cannot be imported.", todo, [*reasons[:_TOLD], *more])


def not_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """A reason for each tensor that holds a value which is no number."""
    return [
        f"{name} holds {tensor[~torch.isfinite(tensor)].flatten()[0].item()}."
        for name, tensor in tensors.items()
        if tensor.dtype in FLOATS and not torch.isfinite(tensor).all()
    ]


def files_of(paths: Iterable[Path]) -> tuple[ImportedFile, ...]:
    """What the record says of the files that were read."""
    hashes = ((path, file_hash(path)) for path in paths)
    return tuple(ImportedFile(name=path.name, bytes=h.bytes, sha256=h.sha256) for path, h in hashes)


def vocabulary_without_file(rows: int) -> TokenizerFile:
    """The tokenizer of a source that has none: GPT-2's where there are as many rows as it takes, else ids alone."""
    if rows in (GPT2_TOKENS, PADDED_GPT2):
        return TokenizerFile(token_kind="gpt2", vocab_size=GPT2_TOKENS)
    return TokenizerFile(token_kind="ids", vocab_size=rows)
