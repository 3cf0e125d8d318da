"""Headers of token shards: the two of llm.c, and others, which are named and refused."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mypt.errors import InputError
from mypt.schema.files.tokenizer import GPT2_TOKENS, TokenizerFile

HEADER_BYTES = 256 * 4
"""256 int32: magic number, version, number of tokens, and zeros."""
LLAMA3_TOKENS = 128256

Header = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Layout:
    """How a file holds its ids.

    Attributes:
        dtype: of an id.
        tokens: number of ids.
        header: bytes before the first.
        vocabulary: what the ids mean, as far as the header says it; None without a header.
    """

    dtype: np.dtype[Any]
    tokens: int
    header: int = 0
    vocabulary: TokenizerFile | None = None


@dataclass(frozen=True)
class _Kind:
    version: int
    dtype: str
    vocabulary: TokenizerFile


_KINDS = {
    20240520: _Kind(1, "<u2", TokenizerFile(token_kind="gpt2", vocab_size=GPT2_TOKENS)),
    20240801: _Kind(7, "<u4", TokenizerFile(token_kind="ids", vocab_size=LLAMA3_TOKENS)),
}
"""llm.c's shards of GPT-2's ids, and of Llama 3's, by magic number."""
_OTHERS = {
    20240326: "weights of llm.c",
    20240327: "a recorded step of llm.c",
    20240328: "a vocabulary of llm.c",
    20240522: "multiple-choice questions of llm.c",
}


def layout_by_header(path: Path, head: bytes, size: int) -> Layout | None:
    """How a file with a header holds its ids; None if it has no header.

    Args:
        path: for messages.
        head: the first `HEADER_BYTES` of it, or all of a shorter one.
        size: bytes of the whole.

    Raises:
        InputError: the header is none that is known, or says a version that is not.
    """
    header = np.frombuffer(head[: len(head) // 4 * 4], "<i4")
    if len(header) < 3:
        return None
    magic, version, tokens = (int(value) for value in header[:3])
    if kind := _KINDS.get(magic):
        if version != kind.version:
            raise InputError(
                f"The shard {path} has a header of llm.c ({magic}) of version {version}; only {kind.version} is known.",
                "Make it again by llm.c's script of today, or from its text with `mypt prepare`.",
            )
        return Layout(np.dtype(kind.dtype), tokens, HEADER_BYTES, kind.vocabulary)
    if what := _unknown(header, size):
        raise InputError(
            f"The file {path} is no shard of token ids that is known: it is {what}.",
            "Make shards of the text with `mypt prepare`, or give the folder of others.",
        )
    return None


def _unknown(header: Header, size: int) -> str | None:
    """What a header is that is none of token ids; None if nothing looks like a header."""
    magic, version = int(header[0]), int(header[1])
    if what := _OTHERS.get(magic):
        return what
    if int(header.byteswap()[0]) in _KINDS:
        return f"llm.c's format in big-endian order ({int(header.byteswap()[0])})"
    if _is_date(magic) and 0 <= version < 1 << 16:
        return f"a format with the magic number {magic}, version {version}"
    if _counts(header, size):
        return f"a format with a header of {HEADER_BYTES} bytes and the magic number {magic}, version {version}"
    return None


def _is_date(magic: int) -> bool:
    """Whether a number is a day from 2023 to 2035, as llm.c and its kin number their formats."""
    year, month, day = magic // 10000, magic // 100 % 100, magic % 100
    return 2023 <= year <= 2035 and 1 <= month <= 12 and 1 <= day <= 31


def _counts(header: Header, size: int) -> bool:
    """Whether one of the first numbers counts what follows 256 of them that are mostly zeros."""
    follows = size - HEADER_BYTES
    counted = {follows // width for width in (1, 2, 4, 8) if follows > 0 and follows % width == 0}
    return bool(header[0]) and not header[8:].any() and any(int(count) in counted for count in header[1:8])
