"""Reads sources of unknown length: no more than memory allows, than a record says, or than compressed text can be."""

import gzip
from pathlib import Path
from typing import BinaryIO

from mypt.errors import InputError
from mypt.units import size

ByteStream = BinaryIO | gzip.GzipFile

BLOCK_BYTES = 1 << 20
MEMORY_SHARE = 4
"""A text takes up to about this many times its bytes: as it is read, decoded, and as token ids."""
RATIO, RATIO_FROM_BYTES = 200, 1 << 24
"""Text takes 2 to 10 times its packed size, with many repetitions up to 50; what unpacks to more than RATIO times is no
text. So short a one that it costs nothing may."""


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


class Unpacked(gzip.GzipFile):
    """What a gzip stream unpacks to, as it is read."""

    def __init__(self, stream: BinaryIO, path: str) -> None:
        super().__init__(fileobj=stream, mode="rb")
        self.packed = stream
        self.path = path

    def read(self, size: int | None = -1) -> bytes:
        """Read on, unless this cannot be a text."""
        return self._checked(super().read(size))

    def readline(self, size: int | None = -1) -> bytes:
        """Read on to the end of a line, unless this cannot be a text."""
        return self._checked(super().readline(size))

    def close(self) -> None:
        """Close the packed stream, too."""
        super().close()
        self.packed.close()

    def _checked(self, block: bytes) -> bytes:
        unpacked = self.tell()
        if unpacked > RATIO_FROM_BYTES and unpacked > RATIO * self.packed.tell():
            raise InputError(
                f"The input {self.path} is no text: it unpacks to more than {RATIO} times its size.",
                "Unpack it yourself to see what is in it.",
            )
        return block
