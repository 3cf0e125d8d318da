"""Describes and checks a folder of shards for `mypt data`."""

from pathlib import Path
from typing import Any

import numpy as np

from mypt.data.integrity import changed_files
from mypt.data.shards import Shards
from mypt.data.tokenizer import Tokenizer
from mypt.data.tokens import Split
from mypt.errors import InputError

SAMPLE_TOKENS = 48


def describe(shards: Shards) -> dict[str, Any]:
    """Describe a dataset as JSON-compatible dictionaries."""
    metadata = shards.metadata
    return {
        "folder": str(shards.folder),
        "format": shards.format,
        "tokenization": shards.tokenizer.token_kind,
        "vocab_size": shards.tokenizer.vocab_size,
        "dtype": str(next(p.ids.dtype for t in shards.splits.values() for p in t.parts)),
        "masked": any(tokens.masked for tokens in shards.splits.values()),
        "fingerprint": shards.fingerprint,
        "val_share": metadata.val_share if metadata else None,
        "splits": {name: _split(shards, name) for name in shards.splits},
        "sources": [s.model_dump() for s in metadata.sources] if metadata else [],
        "left_out": [
            {"file": item.path.relative_to(shards.folder).as_posix(), "reason": item.reason} for item in shards.left_out
        ],
    }


def sample_pieces(shards: Shards, count: int) -> list[tuple[Split, str, int, str]]:
    """Decoded samples, evenly spaced over each split: (split, shard, offset, text)."""
    tokenizer = Tokenizer(shards.tokenizer)
    samples: list[tuple[Split, str, int, str]] = []
    for split, tokens in shards.splits.items():
        length = min(SAMPLE_TOKENS, len(tokens))
        for start in np.linspace(0, len(tokens) - length, count if length else 0, dtype=np.int64):
            ids = tokens.windows(np.array([start]), length)[0]
            name, offset = tokens.locate(int(start))
            samples.append((split, Path(name).relative_to(shards.folder).as_posix(), offset, tokenizer.decode(ids)))
    return samples


def check_shards(shards: Shards) -> list[str]:
    """Read every shard; returns a message for each wrong hash and each id outside the vocabulary."""
    problems = [*changed_files(shards)]
    for tokens in shards.splits.values():
        try:
            tokens.check_ids(shards.tokenizer.vocab_size)
        except InputError as error:
            problems.append(error.what)
    return problems


def _split(shards: Shards, name: Split) -> dict[str, Any]:
    tokens, metadata = shards.splits[name], shards.metadata
    return {
        "tokens": len(tokens),
        "documents": getattr(metadata, name).documents if metadata else None,
        "shards": len(tokens.parts),
        "bytes": sum(part.ids.nbytes for part in tokens.parts),
    }
