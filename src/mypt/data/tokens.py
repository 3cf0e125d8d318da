"""The token ids of one split: one or several arrays, in memory or mapped from disk, read as one sequence."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mypt.data.tokenizer import TokenIds
from mypt.errors import InputError

SCAN_TOKENS = 1 << 24
"""Ids that are looked at in one go, so that a mapped file never has to fit into memory."""


@dataclass(frozen=True)
class Part:
    """One array of a split.

    Attributes:
        name: the file it comes from, or `text`.
        ids: its token ids.
        mask: for each token, whether it counts as a target; None if all do.
    """

    name: str
    ids: TokenIds
    mask: npt.NDArray[np.uint8] | None = None


class Tokens:
    """The parts of a split, one after the other.

    Args:
        parts: in reading order.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = tuple(p for p in parts if len(p.ids))
        self._ids = [p.ids for p in self.parts]
        self._masks = [p.mask for p in self.parts if p.mask is not None]
        self._ends = np.cumsum([len(p.ids) for p in self.parts], dtype=np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1]) if self.parts else 0

    @property
    def masked(self) -> bool:
        """Whether the tokens say which of them count as targets."""
        return bool(self._masks)

    def windows(self, starts: npt.NDArray[np.int64], length: int) -> npt.NDArray[np.int64]:
        """The ids of windows of `length` tokens that begin at `starts` (n): (n, length), int64."""
        return self._gather(self._ids, starts, length)

    def mask_windows(self, starts: npt.NDArray[np.int64], length: int) -> npt.NDArray[np.int64]:
        """The masks of the same windows: (n, length), 1 where a token counts."""
        return self._gather(self._masks, starts, length)

    def locate(self, position: int) -> tuple[str, int]:
        """The part that a position falls into, and the offset in it."""
        part = int(np.searchsorted(self._ends, position, side="right"))
        return self.parts[part].name, position - (int(self._ends[part - 1]) if part else 0)

    def check_ids(self, vocab_size: int) -> None:
        """Make sure that every id is a row of the embedding table; reads all of them.

        Raises:
            InputError: naming the first id that is not, and where it is.
        """
        for part in self.parts:
            if int(np.iinfo(part.ids.dtype).max) < vocab_size:
                continue
            for start in range(0, len(part.ids), SCAN_TOKENS):
                ids = part.ids[start : start + SCAN_TOKENS]
                if int(ids.max()) >= vocab_size:
                    offset = int(np.argmax(ids >= vocab_size))
                    raise outside_vocabulary(int(ids[offset]), part.name, start + offset, vocab_size)

    def _gather(self, arrays: Sequence[npt.NDArray[np.generic]], starts: npt.NDArray[np.int64], length: int) -> (
        npt.NDArray[np.int64]
    ):  # fmt: skip
        if len(arrays) == 1:
            windows: npt.NDArray[np.int64] = arrays[0][starts[:, None] + np.arange(length)].astype(np.int64)
            return windows
        out = np.empty((len(starts), length), dtype=np.int64)
        first = np.searchsorted(self._ends, starts, side="right")
        for row, start, part in zip(out, starts.tolist(), first.tolist(), strict=True):
            filled, offset = 0, start - (int(self._ends[part - 1]) if part else 0)
            while filled < length:  # a window may run across the border of two parts
                piece = arrays[part][offset : offset + length - filled]
                row[filled : filled + len(piece)] = piece
                filled, part, offset = filled + len(piece), part + 1, 0
        return out


def outside_vocabulary(token: int, name: str, offset: int, vocab_size: int) -> InputError:
    """The error for an id that has no row in the embedding table."""
    return InputError(
        f"Token {token} at offset {offset:,} of {name} is outside the vocabulary of {vocab_size:,}.",
        "Give a vocab_size at least as large as the tokenizer's, or leave it out; or make the dataset anew with the "
        "tokenizer of the model.",
    )
