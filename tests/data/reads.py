"""Counts what mypt reads: how often each file is opened, its bytes that are read, and those seen through a map."""

import io
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mypt import regular
from mypt.data import shards


@dataclass
class Reads:
    """What was read, by the name of the file."""

    opened: Counter[str] = field(default_factory=Counter)
    read: Counter[str] = field(default_factory=Counter)
    mapped: Counter[str] = field(default_factory=Counter)


class CountedFile(io.RawIOBase):
    """A file whose bytes are counted as they are read."""

    def __init__(self, raw: io.RawIOBase, name: str, reads: Reads) -> None:
        self.raw, self.name, self.reads = raw, name, reads
        reads.opened[name] += 1

    def readinto(self, buffer: Any) -> int | None:
        size: int | None = self.raw.readinto(buffer)
        self.reads.read[self.name] += size or 0
        return size

    def seek(self, offset: int, whence: int = 0) -> int:
        return self.raw.seek(offset, whence)

    def tell(self) -> int:
        return self.raw.tell()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self.raw.fileno()

    def close(self) -> None:
        self.raw.close()
        super().close()


class CountedMap(np.ndarray):
    """A mapped file of which each part is counted that is taken out."""

    counter: Counter[str] | None = None
    name = ""

    def __getitem__(self, key: Any) -> Any:
        taken = self.view(np.ndarray)[key]
        if self.counter is not None:
            self.counter[self.name] += taken.nbytes
        return taken


@contextmanager
def counted_reads() -> Iterator[Reads]:
    """Count what is read while the block runs, and afterwards through the maps that were made in it."""
    reads = Reads()

    def opened(path: Path, buffering: int = 1 << 16) -> io.BufferedReader:
        raw = open_regular(path, buffering).detach()
        return io.BufferedReader(CountedFile(raw, Path(path).name, reads), buffering)

    def mapped(path: Path, *args: Any) -> CountedMap:
        array: CountedMap = map_file(path, *args).view(CountedMap)
        array.counter, array.name = reads.mapped, path.name
        return array

    open_regular, map_file = regular.open_regular, shards._map
    with pytest.MonkeyPatch.context() as patch:
        for module in [m for name, m in sys.modules.items() if name.startswith("mypt.")]:
            if hasattr(module, "open_regular"):
                patch.setattr(module, "open_regular", opened)
        patch.setattr(shards, "_map", mapped)
        yield reads
