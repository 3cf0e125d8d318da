"""Tells files of other formats by how they begin, so that they are named and not read as token ids."""

import codecs
import pickletools
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

_DISTINCT_BYTES = 16
"""Different bytes of a text. Few ids of two printable bytes each, over and over, are no text."""
_PICKLE_OPCODES = 8


@dataclass(frozen=True)
class _Signature:
    name: str
    start: bytes
    at: int = 0
    confirms: Callable[[bytes, int], bool] = lambda head, size: True  # noqa: ARG005


def other_format(head: bytes, size: int) -> str | None:
    """What a file is that begins with `head` and has `size` bytes, if it is known and holds no bare token ids.

    Ids may begin with the same bytes by chance: a signature of less than four bytes has to be confirmed.
    """
    for known in _SIGNATURES:
        if head.startswith(known.start, known.at) and known.confirms(head, size):
            return known.name
    if _is_safetensors(head, size):
        return "a safetensors file"
    return "a text" if _is_text(head) else None


def _unpacks(head: bytes, _: int) -> bool:
    try:
        return bool(zlib.decompressobj(wbits=31).decompress(head, 1))
    except zlib.error:
        return False


def _is_pickle(head: bytes, size: int) -> bool:
    """Whether the first opcodes of a pickle can be read, or all of them if it is shorter."""
    try:
        for number, (opcode, _, position) in enumerate(pickletools.genops(head)):
            if opcode.name == "STOP" or number == _PICKLE_OPCODES:
                return number == _PICKLE_OPCODES or position == size - 1
    except ValueError:
        pass
    return False


def _is_safetensors(head: bytes, size: int) -> bool:
    """Whether there is a JSON object behind its length."""
    if head[8:10] != b'{"':
        return False
    (length,) = struct.unpack("<Q", head[:8])
    return bool(2 <= length <= size - 8)


def _is_text(head: bytes, encoding: str = "utf-8") -> bool:
    """Whether this is the beginning of a text; its last character may be cut."""
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(head)
    except UnicodeDecodeError:
        return False
    return len(set(head)) >= _DISTINCT_BYTES and all(char.isprintable() or char in "\t\n\r\f" for char in text)


_SIGNATURES = (
    _Signature("a NumPy array (.npy)", b"\x93NUMPY"),
    _Signature("a ZIP file (.zip, .npz or .pt)", b"PK\x03\x04"),
    _Signature("a file packed by gzip", b"\x1f\x8b\x08", confirms=_unpacks),
    _Signature("a file packed by zstd", b"\x28\xb5\x2f\xfd"),
    _Signature("a file packed by bzip2", b"1AY&SY", at=4),
    _Signature("a file packed by xz", b"\xfd7zXZ\x00"),
    _Signature("a 7z file", b"7z\xbc\xaf\x27\x1c"),
    _Signature("a tar file", b"ustar", at=257),
    _Signature("the index of Megatron's data (.idx)", b"MMIDIDX\x00"),
    _Signature("a packed dataset of LitGPT", b"LITPKDS"),
    _Signature("a parquet file", b"PAR1"),
    _Signature("an Arrow file", b"ARROW1"),
    _Signature("an HDF5 file", b"\x89HDF\r\n\x1a\n"),
    _Signature("a GGUF file", b"GGUF"),
    _Signature("a text in UTF-16", b"\xff\xfe", confirms=lambda head, _: _is_text(head, "utf-16")),
    _Signature("a PDF file", b"%PDF-"),
    _Signature("an SQLite database", b"SQLite format 3\x00"),
    *(_Signature("a Python pickle", bytes((0x80, version)), confirms=_is_pickle) for version in range(2, 6)),
)
