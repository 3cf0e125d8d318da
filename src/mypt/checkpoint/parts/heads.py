"""Reads the heads of parts: of what each of several processes has saved of weights or moments, its rows of each tensor.

torch's distributed checkpoint writes them as safetensors, whose heads tell names, types and sizes, and beside those
where in the whole tensor the rows of a part begin. What loads parts goes through this first: it is known then that they
are those of the bundle, and that they make up each tensor, every row once.
"""

import json
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from mypt.checkpoint.layout import MODEL_FILE, MODEL_PARTS, OPTIMIZER_FILE, OPTIMIZER_PARTS
from mypt.checkpoint.manifest import check_file, damaged, read_manifest, reading
from mypt.checkpoint.pt.header import TensorHeader, read_headers
from mypt.errors import BundleError
from mypt.schema.settings.config import GPTConfig

_DTYPES = {"F32": "fp32", "F16": "fp16", "BF16": "bf16"}
_OFFSETS, _SAVED = "DCP_SHARDING_INFO", "saved_offsets"
"""Where torch keeps what row of the whole tensor is the first of a part."""
TIED, EMBEDDING = "lm_head.weight", "token_embedding.weight"


class Piece(NamedTuple):
    """The rows of a tensor that a part has: their shape and dtype, such as `fp32`, and the first of them."""

    start: int
    shape: tuple[int, ...]
    dtype: str


def parts_of(bundle: Path, folder: str) -> list[Path]:
    """The parts that a bundle was saved with in a folder; none where it has one file instead.

    Raises:
        BundleError: others are there, or its manifest cannot be read.
    """
    named = sorted(name for name in read_manifest(bundle).files if name.startswith(f"{folder}/"))
    with reading(bundle / folder):
        there = {f"{folder}/{path.name}" for path in (bundle / folder).iterdir()} if named else set()
    if others := sorted(there - {*named}):
        raise damaged(bundle / others[0], "is not one of the parts that were saved with this bundle")
    return [bundle / name for name in named]


def read_part(path: Path) -> dict[str, Piece]:
    """What a part has of each tensor, by name.

    Raises:
        BundleError: it is missing or damaged, or holds what no part does.
    """
    from safetensors import SafetensorError, safe_open

    check_file(path, content=False)
    try:
        with reading(path), safe_open(path, "np") as file:
            offsets = json.loads((file.metadata() or {})[_OFFSETS])
            return {name: _piece(file.get_slice(name), offsets[name][_SAVED]) for name in file.keys()}  # noqa: SIM118 - it is no dictionary
    except BundleError:
        raise
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise damaged(path, f"is damaged: {' '.join(str(error).split())}") from error


def weight_headers(bundle: Path, config: GPTConfig) -> dict[str, TensorHeader]:
    """The weights of a bundle by name, in one file or in parts; raises as `read_headers`."""
    parts = parts_of(bundle, MODEL_PARTS)
    if not parts:
        return read_headers(bundle / MODEL_FILE)
    headers = _put_together(parts)
    if config.tie_weights and EMBEDDING in headers:
        headers.setdefault(TIED, headers[EMBEDDING])
    return headers


def moment_headers(bundle: Path) -> dict[str, TensorHeader]:
    """The state of the optimizer by name, in one file or in parts; raises as `read_headers`."""
    parts = parts_of(bundle, OPTIMIZER_PARTS)
    return _put_together(parts) if parts else read_headers(bundle / OPTIMIZER_FILE)


def _piece(head: Any, offsets: Sequence[int]) -> Piece:
    shape = tuple(head.get_shape())
    if len(offsets) != len(shape) or any(offsets[1:]) or any(type(n) is not int for n in offsets):
        raise ValueError("a tensor is cut otherwise than by rows")
    return Piece(offsets[0] if shape else 0, shape, _DTYPES[head.get_dtype()])


def _put_together(parts: Sequence[Path]) -> dict[str, TensorHeader]:
    """The whole tensors.

    Raises:
        BundleError: rows are missing or several times there.
    """
    pieces: dict[str, list[Piece]] = {}
    for path in parts:
        for name, piece in read_part(path).items():
            pieces.setdefault(name, []).append(piece)
    return {name: _whole(name, of_tensor, parts[0]) for name, of_tensor in pieces.items()}


def _whole(name: str, pieces: Sequence[Piece], part: Path) -> TensorHeader:
    first, rows = pieces[0], 0
    for piece in sorted(pieces):
        if (piece.shape[1:], piece.dtype) != (first.shape[1:], first.dtype) or piece.start != rows:
            raise damaged(part, f"and the parts beside it do not make up {name}, every row once")
        rows += piece.shape[0] if piece.shape else 1
    shape = (rows, *first.shape[1:]) if first.shape else ()
    return TensorHeader(shape, first.dtype, name, tuple(prod(shape[axis + 1 :]) for axis in range(len(shape))))
