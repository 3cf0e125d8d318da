"""Curves of any length, thinned out to what a screen can show.

Of each column of pixels the first, the last, the lowest and the highest point are kept, so that the line drawn is the
same as with all points (Jugel et al. 2014, "M4").
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate, islice, pairwise
from math import isfinite, nan

PER_BUCKET = 4
NOTHING = 1e-12
"""A share of the weight of an average that no figure shows."""


def buckets(at: Callable[[int], float], start: int, stop: int, count: int) -> list[int]:
    """The borders, as positions, of so many parts of equal width in x.

    Args:
        at: the x of a position; it never goes down.
        start: the first position.
        stop: the position after the last.
        count: of the parts.
    """
    low, high = at(start), at(stop - 1)
    positions = range(start, stop)
    inner = (start + bisect_left(positions, low + (high - low) * i / count, key=at) for i in range(1, count))
    return [start, *inner, stop]


def chosen(values: Sequence[float], borders: Sequence[int]) -> list[int]:
    """The positions to draw, in order; of the values that are no number one in each part, for the gap."""
    found: list[int] = []
    for start, stop in pairwise(borders):
        if stop - start <= PER_BUCKET:
            found += range(start, stop)
        else:
            found += _extremes(values, start, stop)
    return found


def _extremes(values: Sequence[float], start: int, stop: int) -> list[int]:
    part = values[start:stop]
    if isfinite(sum(part)):
        found = {0, part.index(min(part)), part.index(max(part)), len(part) - 1}
    else:
        known = [i for i, value in enumerate(part) if isfinite(value)]
        gap = next((i for i, value in enumerate(part) if not isfinite(value)), 0)
        ends = {min(known, key=part.__getitem__), max(known, key=part.__getitem__)} if known else set()
        found = {0, gap, len(part) - 1} | ends
    return [start + i for i in sorted(found)]


def smoothed(values: Sequence[float], weight: float) -> Iterator[float]:
    """The moving average in which each value has `weight` times the weight of the next, without a bias at the start."""
    if not isfinite(sum(values)):
        yield from _with_gaps(values, weight)
        return
    new = 1 - weight
    totals = islice(accumulate(values, lambda total, value: weight * total + new * value, initial=0.0), 1, None)
    share = weight
    for total in totals:
        yield total / (1 - share)
        share *= weight
        if share < NOTHING:
            break
    yield from totals


def _with_gaps(values: Iterable[float], weight: float) -> Iterator[float]:
    """The same where some of the values are no numbers, which have no average and no weight."""
    total = share = 0.0
    for value in values:
        if isfinite(value):
            total, share = weight * total + (1 - weight) * value, weight * share + 1 - weight
            yield total / share
        else:
            yield nan
