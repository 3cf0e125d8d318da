"""Round places on an axis, and what is written beside them."""

from bisect import bisect_left
from collections.abc import Iterator
from itertools import count
from math import ceil, floor

from mypt.schema.settings.output import Axis

TITLES: dict[Axis, str] = {"tokens": "training tokens", "steps": "step", "time": "time of all sessions"}
_TIMES = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)
_FINEST = -6
"""Powers of ten: nothing is told in less than a millionth of a second."""


def ticks(low: float, high: float, axis: Axis, most: int) -> list[tuple[float, str]]:
    """Places from `low` to `high`, at most so many, each with a label that no other has."""
    step = next(step for step in _steps(axis) if floor(high / step) - ceil(low / step) < most)
    places = [number * step for number in range(ceil(low / step), floor(high / step) + 1)]
    label = _time if axis == "time" else _count
    return [(place, label(place)) for place in places or [low]]


def _steps(axis: Axis) -> Iterator[float]:
    """What two neighbours may differ by, growing."""
    if axis == "time":
        yield from (digit * 10.0**power for power in range(_FINEST, 0) for digit in (1, 2, 5))
        yield from _TIMES
    unit = _TIMES[-1] if axis == "time" else 1
    yield from (unit * digit * 10**power for power in count() for digit in (1, 2, 5))


def _time(seconds: float) -> str:
    """`0.25s`, `1m 30s`, `2h` or `1d 12h`."""
    whole, part = divmod(round(seconds, -_FINEST), 1)
    parts, rest = [], int(whole)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        number, rest = divmod(rest, size)
        parts += [f"{number}{unit}"] if number else []
    last = f"{rest + part:.6f}".rstrip("0").rstrip(".")
    return " ".join([*parts, *([f"{last}s"] if last != "0" or not parts else [])])


def _count(number: float) -> str:
    """`500`, `1.5K` or `34M`, with as many digits as the number has."""
    sizes = (1.0, 1e3, 1e6, 1e9, 1e12)
    i = max(0, bisect_left(sizes, abs(number) + 0.5) - 1)
    return f"{number / sizes[i]:.15g}{('', 'K', 'M', 'B', 'T')[i]}"
