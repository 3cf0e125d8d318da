"""Whether a file without a header holds uint16 ids, or numbers of another width or byte order.

uint16 ids cannot be told for sure from what they are not, so only what ids of a text never look like is refused. Read
two bytes at a time, wider numbers have a half that is always tiny beside one that is not: that 32 larger ids of a text
all fall on one side has a chance of 2^-32. A sequence that really alternates with id 0 (or with ids up to 7) without an
exception looks the same and is refused too: the wrong guess would train garbage without a word, and a header says for
certain what a file holds.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mypt.regular import open_regular

PROBE_BYTES = 1 << 16
ENOUGH = 32
"""Ids of which none is where it could be by chance."""
LARGEST_HALF = 7
"""Upper half of the largest ids that are expected, below 524,288; the largest vocabularies have about 262,144."""
_BYTE_ORDER_IDS = 4
_OUTSIDE_SHARE = 1 / 16

Ids = npt.NDArray[np.uint16]


@dataclass(frozen=True)
class Misread:
    """What a file holds instead of little-endian uint16.

    Attributes:
        dtype: numpy's name for it, such as `<u4`.
        told: the same in words.
        fits: whether the ids that were seen are below 65,536, as they have to be to become uint16.
    """

    dtype: str
    told: str
    fits: bool


def misread(path: Path, size: int, vocab_size: int) -> Misread | None:
    """What a file without a header holds, if it is not uint16, by its beginning, middle and end.

    Args:
        path: the file.
        size: its bytes.
        vocab_size: what its ids have to be below of.
    """
    ids = np.frombuffer(_probes(path, size), "<u2")
    quads = ids[: len(ids) // 4 * 4].reshape(-1, 4)
    for order, halves in (("<", quads), (">", quads[:, ::-1].byteswap())):  # the least significant uint16 first
        low, high = halves[:, [0, 2]], halves[:, [1, 3]]
        if not any((low > most).sum() >= ENOUGH and not (high > most).any() for most in (0, LARGEST_HALF)):
            continue
        width = 4 if halves[:, 2:].any() or size % 8 else 8
        name = {4: "32-bit numbers (uint32 or int32)", 8: "64-bit numbers (int64)"}[width]
        fits = not (high if width == 4 else halves[:, 1]).any()
        return Misread(f"{order}u{width}", name + (", big-endian" if order == ">" else ""), fits)
    if _is_swapped(ids, vocab_size):
        return Misread(">u2", "big-endian uint16", True)
    return None


def _is_swapped(ids: Ids, vocab_size: int) -> bool:
    """Whether ids make sense only with their bytes swapped: none has a low byte, or many are outside the vocabulary."""
    if len(ids) < ENOUGH:
        return False
    if not (ids & 0xFF).any():
        return len(np.unique(ids)) > _BYTE_ORDER_IDS
    outside = (ids >= vocab_size).mean()
    return bool(outside > _OUTSIDE_SHARE and (ids.byteswap() < vocab_size).all())


def _probes(path: Path, size: int) -> bytes:
    """The first, middle and last block of a file, each from a multiple of 8 bytes; all of a file that is not larger."""
    starts = [0, size // 2, size - PROBE_BYTES] if size > 3 * PROBE_BYTES else [0]
    length = PROBE_BYTES if len(starts) > 1 else size
    with open_regular(path) as file:
        blocks = []
        for start in starts:
            file.seek(start // 8 * 8)
            blocks.append(file.read(length // 8 * 8))
    return b"".join(blocks)
