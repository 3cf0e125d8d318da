"""Which windows a training micro-batch consists of: a pure function of the seed and the batch's number."""

import numpy as np
import numpy.typing as npt

Starts = npt.NDArray[np.int64]

ROUNDS = 4
_MIX = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(29)


def random_starts(seed: int, index: int, size: int, tokens: int, block_size: int) -> Starts:
    """First tokens of `size` windows drawn anywhere in a split of `tokens` (size), with replacement.

    The zero keeps a place for the number of the process, once several share a batch.
    """
    return np.random.default_rng((seed, index, 0)).integers(0, tokens - block_size, size=size)


def epoch_starts(seed: int, index: int, size: int, tokens: int, block_size: int) -> Starts:
    """First tokens of the windows `index * size` and following in an endless series of shuffled epochs (size).

    The windows of an epoch lie side by side, each `block_size` targets long, so that an epoch sees every token
    once; only the last one is moved back to end where the split does.
    """
    windows = -(-(tokens - 1) // block_size)
    number = np.arange(index * size, (index + 1) * size, dtype=np.int64)
    epochs, places = np.divmod(number, windows)
    order = np.concatenate([shuffled(places[epochs == e], windows, (seed, int(e))) for e in np.unique(epochs)])
    starts: Starts = np.minimum(order * block_size, tokens - 1 - block_size)
    return starts


def shuffled(places: npt.NDArray[np.int64], size: int, key: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """What stands at `places` of a permutation of range(size), in constant time and memory a place.

    A Feistel network permutes the numbers of an even count of bits, and numbers that fall outside are sent
    through it again until they do not (Black and Rogaway 2002, "Ciphers with Arbitrary Finite Domains").
    """
    half = np.uint64(max(1, -(-max(size - 1, 1).bit_length() // 2)))
    keys = np.random.SeedSequence(key).generate_state(ROUNDS, np.uint64).astype(np.uint64)
    values = _feistel(places.astype(np.uint64), half, keys)
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
