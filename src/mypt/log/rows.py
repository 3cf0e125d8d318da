"""Rows of numbers, each with its step first, in one typed array: a million of them take megabytes."""

from array import array
from collections.abc import Sequence
from itertools import chain, compress, repeat
from math import isfinite
from struct import Struct, pack


class Rows:
    """A table that only grows at its end, and is cut when a session starts before that.

    Args:
        width: figures in a row, with the step.
    """

    def __init__(self, width: int) -> None:
        self.width = width
        self.flat = array("d")
        self.pack = Struct(f"{width}d").pack
        self.put = self.flat.frombytes
        """`put(pack(...))` appends a row, at a third of the time that the array takes for numbers."""

    def __len__(self) -> int:
        return len(self.flat) // self.width

    def extend(self, *columns: Sequence[float]) -> None:
        """Append rows that are given column by column."""
        self.put(pack(f"{self.width * len(columns[0])}d", *chain.from_iterable(zip(*columns, strict=True))))

    def column(self, number: int) -> "array[float]":
        """One figure of every row."""
        return self.flat[number :: self.width]

    def row(self, number: int) -> "array[float]":
        """One row, also counted from the end."""
        start = number % len(self) * self.width
        return self.flat[start : start + self.width]

    def rewind(self, step: int) -> None:
        """Leave out the rows after a step."""
        kept = chain.from_iterable(repeat(s <= step, self.width) for s in self.column(0))
        self.flat[:] = array("d", compress(self.flat, kept))


def finite(values: Sequence[float]) -> Sequence[float]:
    """The values that are numbers: mostly all of them, which their sum tells at once."""
    return values if isfinite(sum(values)) else [x for x in values if isfinite(x)]
