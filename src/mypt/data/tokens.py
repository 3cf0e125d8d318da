"""The tokens of a split: one or more arrays, in memory or memory-mapped, read as one sequence."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

from mypt.data.tokenizer import TokenIds, Tokenizer
from mypt.errors import InputError
from mypt.schema.files.tokenizer import END_OF_TEXT

Split = Literal["train", "val"]

SCAN_TOKENS = 1 << 24
"""Ids checked at once, so that a memory-mapped file need not fit in memory."""

LOOK_TOKENS = 1 << 20
"""Training tokens that are looked at for one to start from."""


@dataclass(frozen=True)
class Part:
    """One array of a split, named for error messages.

    Attributes:
        mask: 1 for each token that counts, None if all count.
        counted: how many count by the metadata; None if they do not say, as `longest`.
        longest: tokens of its longest conversation.
        documents: that end in it.
    """

    name: str
    ids: TokenIds
    mask: npt.NDArray[np.uint8] | None = None
    counted: int | None = None
    longest: int | None = None
    documents: int | None = None


class Tokens:
    """The concatenated parts of a split, in reading order."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = tuple(p for p in parts if len(p.ids))
        self._ids = [p.ids for p in self.parts]
        self._masks = [p.mask for p in self.parts if p.mask is not None]
        self._ends = np.cumsum([len(p.ids) for p in self.parts], dtype=np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1]) if self.parts else 0

    @property
    def masked(self) -> bool:
        """Whether there is a loss mask."""
        return bool(self._masks)

    @cached_property
    def counted(self) -> int:
        """Tokens after the first, which is no target, that count by the loss mask."""
        first = int(self._masks[0][0] != 0) if self._masks else 0
        return sum(_counted(part) for part in self.parts) - first

    def windows(self, starts: npt.NDArray[np.int64], length: int) -> npt.NDArray[np.int64]:
        """Token ids of windows of `length` tokens starting at `starts` (n): (n, length), int64."""
        return self._read_windows(self._ids, starts, length)

    def mask_windows(self, starts: npt.NDArray[np.int64], length: int) -> npt.NDArray[np.int64]:
        """Loss masks of the same windows: (n, length), 1 where a token counts."""
        return self._read_windows(self._masks, starts, length)

    def locate(self, position: int) -> tuple[str, int]:
        """The name of the part that contains a position, and the offset in that part."""
        part = int(np.searchsorted(self._ends, position, side="right"))
        return self.parts[part].name, position - (int(self._ends[part - 1]) if part else 0)

    def holds(self, token: int) -> bool:
        """Whether a token is anywhere; reads as far as the first."""
        return any(
            bool((part.ids[start : start + SCAN_TOKENS] == token).any())
            for part in self.parts
            for start in range(0, len(part.ids), SCAN_TOKENS)
        )

    def check_ids(self, vocab_size: int) -> None:
        """Check that every id is inside the vocabulary; reads all tokens.

        Raises:
            InputError: an id is outside; the message has its position.
        """
        for part in self.parts:
            if int(np.iinfo(part.ids.dtype).max) < vocab_size:
                continue
            for start in range(0, len(part.ids), SCAN_TOKENS):
                ids = part.ids[start : start + SCAN_TOKENS]
                if int(ids.max()) >= vocab_size:
                    offset = int(np.argmax(ids >= vocab_size))
                    raise outside_vocabulary(int(ids[offset]), part.name, start + offset, vocab_size)

    def _read_windows(
        self, arrays: Sequence[npt.NDArray[np.generic]], starts: npt.NDArray[np.int64], length: int
    ) -> npt.NDArray[np.int64]:
        if len(arrays) == 1:
            windows: npt.NDArray[np.int64] = arrays[0][starts[:, None] + np.arange(length)].astype(np.int64)
            return windows
        out = np.empty((len(starts), length), dtype=np.int64)
        first = np.searchsorted(self._ends, starts, side="right")
        for row, start, part in zip(out, starts.tolist(), first.tolist(), strict=True):
            filled, offset = 0, start - (int(self._ends[part - 1]) if part else 0)
            while filled < length:  # a window may span several parts
                ids = arrays[part][offset : offset + length - filled]
                row[filled : filled + len(ids)] = ids
                filled, part, offset = filled + len(ids), part + 1, 0
        return out


def start_token(tokens: Tokens, tokenizer: Tokenizer) -> int | None:
    """What generation without a prompt starts from: a border of documents, else a newline, else the first token.

    Each of them is among the first tokens that are trained on; None if there are none.
    """
    seen = tokens.windows(np.zeros(1, dtype=np.int64), min(len(tokens), LOOK_TOKENS))[0] if len(tokens) else ()
    wanted = (tokenizer.file.special_ids.get(END_OF_TEXT), tokenizer.newline_id, *seen[:1])
    return next((int(token) for token in wanted if token is not None and token in seen), None)


def _counted(part: Part) -> int:
    if part.counted is not None or part.mask is None:
        return part.counted or 0
    chunks = range(0, len(part.mask), SCAN_TOKENS)
    return sum(int(np.count_nonzero(part.mask[start : start + SCAN_TOKENS])) for start in chunks)


def outside_vocabulary(token: int, name: str, offset: int, vocab_size: int) -> InputError:
    """The error for an id outside the vocabulary."""
    return InputError(
        f"Token {token} at offset {offset:,} of {name} is outside the vocabulary of {vocab_size:,}.",
        "Make the dataset again with the tokenizer of the model; if the id is one of that tokenizer, leave vocab_size "
        "out or give a larger one.",
    )
