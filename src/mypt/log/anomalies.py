"""What in the course of a run deserves a look, told from its evaluations alone."""

from array import array
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from math import inf, isfinite
from operator import sub
from typing import TypeVar

from mypt.log.figures import ENDS, Few, Signs, Spike, Stall
from mypt.log.rows import Rows, finite
from mypt.log.track import ATTEMPT, ELAPSED, SE, STEP, TRAIN, VAL

T = TypeVar("T")
SPIKE_SHARE = 0.05
SPIKE_ERRORS = 4.0
STALL_GAPS = 5.0
FEWEST_GAPS = 4
"""Gaps between evaluations from which there is a usual one."""
FEWEST_AFTER_BEST = 3
MEDIAN_OF = 10_000
"""Gaps to take the median of; more of them, evenly chosen, would not move it."""


def read_signs(evals: Rows, skipped: int) -> Signs:
    """Every sign.

    Args:
        evals: the table of `Track.evals`.
        skipped: batches that were left out.
    """
    val = evals.column(VAL)
    return Signs(
        batches_skipped=skipped,
        losses_not_finite=len(val) - len(finite(val)),
        spikes=few(_spikes(evals.column(STEP), val, evals.column(SE))),
        stalls=few(_stalls(evals)),
        rising=_rising(val),
        overfit_after=_overfit_after(evals),
    )


def few(items: Iterable[T]) -> Few[T]:
    """The length of a list and its ends, without keeping the rest."""
    count, first, last = 0, [], deque[T](maxlen=ENDS)
    for item in items:
        count += 1
        if count <= ENDS:
            first.append(item)
        else:
            last.append(item)
    return Few(count=count, first=first, last=list(last))


def _spikes(steps: Sequence[float], val: Sequence[float], errors: Sequence[float]) -> Iterator[Spike]:
    for i, (before, loss) in enumerate(pairwise(val), 1):
        rise = loss - before
        if rise > SPIKE_SHARE * before and not rise <= SPIKE_ERRORS * errors[i] and isfinite(loss):
            yield Spike(step=int(steps[i]), before=before, loss=loss)


def _stalls(evals: Rows) -> Iterator[Stall]:
    """Gaps within a session, by its own clock; between two sessions nobody was waiting."""
    elapsed, attempts = evals.column(ELAPSED), evals.column(ATTEMPT)
    gaps = array("d", map(sub, elapsed[1:], elapsed))
    some = range(0, len(gaps), 1 + len(gaps) // MEDIAN_OF)
    chosen = sorted(gaps[i] for i in some if attempts[i] == attempts[i + 1])
    usual = chosen[len(chosen) // 2] if len(chosen) >= FEWEST_GAPS else inf
    limit = STALL_GAPS * usual
    for i, gap in enumerate(gaps):
        if gap > limit > 0 and attempts[i] == attempts[i + 1]:
            yield Stall(step=int(evals.row(i + 1)[STEP]), gap_s=round(gap, 3), usual_s=round(usual, 3))


def _rising(val: Sequence[float]) -> int:
    """How many evaluations at the end are each above the one before."""
    rises = 0
    while rises + 1 < len(val) and val[-1 - rises] > val[-2 - rises]:
        rises += 1
    return rises


def _overfit_after(evals: Rows) -> int | None:
    """The step of the best val loss, if from there on val rises, by halves, while the train loss falls."""
    val, train = evals.column(VAL), evals.column(TRAIN)
    if (lowest := min(finite(val), default=None)) is None:
        return None
    best = len(val) - 1 - val[::-1].index(lowest)
    after = finite(val[best + 1 :])
    if len(after) < FEWEST_AFTER_BEST:
        return None
    half = len(after) // 2
    rises = sum(after[half:]) / (len(after) - half) > sum(after[:half]) / half
    return int(evals.row(best)[STEP]) if rises and train[-1] < train[best] else None
