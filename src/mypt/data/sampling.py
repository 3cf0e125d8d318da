"""Chooses the windows of a training micro-batch as a pure function of seed and batch index."""

import numpy as np
import numpy.typing as npt

Starts = npt.NDArray[np.int64]

ROUNDS = 4
_MIX = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(29)


def random_starts(seed: int, index: int, size: int, tokens: int, block_size: int) -> Starts:
    """Start positions of `size` windows drawn with replacement from a split of `tokens` tokens (size)."""
    # the third entry of the seed is reserved for the rank of data-parallel training
    return np.random.default_rng((seed, index, 0)).integers(0, tokens - block_size, size=size)


def epoch_starts(seed: int, index: int, size: int, tokens: int, block_size: int) -> Starts:
    """Start positions of `size` windows, from window `index * size` on, in a sequence of shuffled epochs (size).

    An epoch consists of consecutive windows of `block_size` targets, so that each token is a target once; only the
    last window is moved back to fit the split.
    """
    windows = -(-(tokens - 1) // block_size)
    number = np.arange(index * size, (index + 1) * size, dtype=np.int64)
    epochs, indices = np.divmod(number, windows)
    order = np.concatenate([shuffled(indices[epochs == e], windows, (seed, int(e))) for e in np.unique(epochs)])
    starts: Starts = np.minimum(order * block_size, tokens - 1 - block_size)
    return starts


def shuffled(indices: npt.NDArray[np.int64], size: int, key: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """Entries `indices` of a permutation of range(size), in constant time and memory per entry.

    A Feistel network permutes the integers of an even number of bits; results outside the range are mapped again
    until they are inside (cycle walking: Black and Rogaway 2002, "Ciphers with Arbitrary Finite Domains").
    """
    half = np.uint64(max(1, -(-max(size - 1, 1).bit_length() // 2)))
    keys = np.random.SeedSequence(key).generate_state(ROUNDS, np.uint64).astype(np.uint64)
    values = _feistel(indices.astype(np.uint64), half, keys)
    while (outside := values >= size).any():
        values[outside] = _feistel(values[outside], half, keys)
    return values.astype(np.int64)


def _feistel(values: npt.NDArray[np.uint64], half: np.uint64, keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    low = np.uint64((1 << int(half)) - 1)
    left, right = values >> half, values & low
    for key in keys:
        mixed = (right ^ key) * _MIX
        mixed = (mixed ^ (mixed >> _SHIFT)) * _MIX
        left, right = right, left ^ ((mixed >> np.uint64(64 - int(half))) & low)
    return (left << half) | right
