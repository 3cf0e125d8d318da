"""Reads sources of unknown length: no more than memory allows, than a record says, or than packed text can be."""

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from mypt.errors import InputError
from mypt.schema.files.prepare_plan import Packing
from mypt.units import size

BLOCK_BYTES = 1 << 20
HEAD_BYTES = 1 << 16
MEMORY_SHARE = 4
"""A text takes up to about this many times its bytes: as it is read, decoded, and as token ids."""
RATIO, RATIO_FROM_BYTES = 200, 1 << 24
"""Text takes 2 to 10 times its packed size, with many repetitions up to 50; what unpacks to more than RATIO times is no
text. So short a one that it costs nothing may."""
PACKED_BYTES = 1 << 13
"""Packed bytes that are unpacked at once where the library sets no bound to what they become."""
UNPACKING_ERRORS = (gzip.BadGzipFile, EOFError, zlib.error, lzma.LZMAError)


class LineStream(Protocol):
    """Bytes that are read line by line."""

    def readline(self, size: int = -1, /) -> bytes:
        """Up to the end of a line, and no more than `size` bytes."""
        ...


class ByteStream(LineStream, Protocol):
    """Bytes that are read from the beginning to the end."""

    def read(self, size: int = -1, /) -> bytes:
        """Up to `size` bytes; fewer only at the end."""
        ...

    def close(self) -> None:
        """Close it."""
        ...


class Headed:
    """A stream whose first bytes can be looked at before it is read."""

    def __init__(self, stream: ByteStream) -> None:
        self.stream = stream
        self.head = b""
        while len(self.head) < HEAD_BYTES and (block := stream.read(HEAD_BYTES - len(self.head))):
            self.head += block
        self._left = io.BytesIO(self.head)

    def read(self, size: int = -1, /) -> bytes:
        """Read on, from the head first."""
        block = self._left.read(size)
        if size >= 0 and len(block) == size:
            return block
        return block + self.stream.read(size if size < 0 else size - len(block))

    def readline(self, size: int = -1, /) -> bytes:
        """Read on to the end of a line, from the head first."""
        line = self._left.readline(size)
        if line.endswith(b"\n") or (size >= 0 and len(line) == size):
            return line
        return line + self.stream.readline(size if size < 0 else size - len(line))

    def close(self) -> None:
        """Close the stream."""
        self.stream.close()


def read_source(stream: ByteStream, path: str, most: int | None) -> bytes:
    """The whole of a source, or the beginning of one that has more than `most` bytes, with one more than these.

    Raises:
        InputError: it is larger than memory allows.
    """
    room = free_memory() // MEMORY_SHARE
    wanted = room if most is None else most + 1
    blocks, length = [], 0
    while length < wanted and (block := stream.read(min(BLOCK_BYTES, wanted - length))):
        blocks.append(block)
        length += len(block)
        if length >= room:
            raise InputError(
                f"The input {path} is too large to be read as a whole: it has more than {size(room)}, a quarter of the "
                "memory that is free here.",
                f"Make token shards of it, which are read piece by piece: `mypt prepare {path} --out data/NAME`.",
            )
    return b"".join(blocks)


def free_memory() -> int:
    """Bytes that programs can still have; very many where the system does not say."""
    try:
        told = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) << 10 for line in told if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return 1 << 62


def unpacked(stream: ByteStream, packing: Packing, path: str, *, bounded: bool = True) -> io.BufferedReader:
    """What a packed stream unpacks to, as it is read.

    Args:
        stream: the packed bytes; closed with it.
        packing: how they are packed.
        path: of the input, for messages.
        bounded: refuse what cannot be a text; not needed where a record says how many bytes are read.

    Raises:
        InputError: the library that unpacks it is not installed.
    """
    return io.BufferedReader(_Unpacked(stream, packing, path, bounded), HEAD_BYTES)


class _Unpacked(io.RawIOBase):
    """The raw stream of `unpacked`."""

    def __init__(self, stream: ByteStream, packing: Packing, path: str, bounded: bool) -> None:
        self._packed = _Counted(stream)
        self._path = path
        self._bounded = bounded
        self._file = _OPENERS[packing](self._packed)
        self._count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]  # BufferedReader gives a memoryview
        block = self._file.read(len(buffer))
        buffer[: len(block)] = block
        self._count += len(block)
        if self._bounded and self._count > RATIO_FROM_BYTES and self._count > RATIO * self._packed.count:
            raise InputError(
                f"The input {self._path} is no text: it unpacks to more than {RATIO} times its size.",
                "Unpack it yourself to see what is in it.",
            )
        return len(block)

    def close(self) -> None:
        if not self.closed:
            self._file.close()
            self._packed.stream.close()
        super().close()


class _Counted(io.RawIOBase):
    """A stream that counts what was read of it."""

    def __init__(self, stream: ByteStream) -> None:
        self.stream = stream
        self.count = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        block = self.stream.read(size)
        self.count += len(block)
        return block


class _Frames(io.RawIOBase):
    """What follows one another packed, as one; what breaks off, is damaged or has other bytes after it is an error.

    Python's own readers of bz2 and xz pass over whatever follows the first stream if it is none.
    """

    def __init__(
        self, packed: _Counted, make: Callable[[], Any], error: type[Exception], most: tuple[int, ...]
    ) -> None:
        self._packed, self._make, self._error, self._most = packed, make, error, most
        self._frame = make()
        self._begun = False
        self._block = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]  # BufferedReader gives a memoryview
        while not self._block and self._advance():
            pass
        count = min(len(buffer), len(self._block))
        buffer[:count], self._block = self._block[:count], self._block[count:]
        return count

    def _advance(self) -> bool:
        """Unpack a little more; False at the end."""
        unused = b""
        if self._frame.eof:
            unused = self._frame.unused_data.lstrip(b"\0")  # padding
            self._frame, self._begun = self._make(), False
        held = self._begun and not getattr(self._frame, "needs_input", True)
        block = b"" if held else unused or self._packed.read(PACKED_BYTES)
        while block and not self._begun and not unused and not (block := block.lstrip(b"\0")):
            block = self._packed.read(PACKED_BYTES)
        if not block and not held:
            if self._begun:
                raise EOFError("it breaks off in the middle")
            return False
        self._begun = True
        try:
            self._block = self._frame.decompress(block, *self._most)
        except (self._error, ValueError) as error:
            raise EOFError(str(error).lower()) from error
        return True


def _open_bz2(packed: _Counted) -> io.BufferedReader:
    return io.BufferedReader(_Frames(packed, bz2.BZ2Decompressor, OSError, (BLOCK_BYTES,)), BLOCK_BYTES)


def _open_xz(packed: _Counted) -> io.BufferedReader:
    return io.BufferedReader(_Frames(packed, lzma.LZMADecompressor, lzma.LZMAError, (BLOCK_BYTES,)), BLOCK_BYTES)


def _open_zstandard(packed: _Counted) -> io.BufferedReader:
    if find_spec("zstandard") is None:
        raise InputError(
            "A .zst file cannot be unpacked without the package zstandard.",
            "Install it: pip install 'mypt[zstd]', or unpack the file yourself.",
        )
    import zstandard

    frames = _Frames(packed, zstandard.ZstdDecompressor().decompressobj, zstandard.ZstdError, ())
    return io.BufferedReader(frames, BLOCK_BYTES)


_OPENERS: dict[Packing, Callable[[Any], Any]] = {
    "gz": lambda packed: gzip.GzipFile(fileobj=packed, mode="rb"),
    "bz2": _open_bz2,
    "xz": _open_xz,
    "zst": _open_zstandard,
}
