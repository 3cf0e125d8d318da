"""What in the course of a run deserves a look, told from its evaluations alone."""

from array import array
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from math import inf, isfinite, nan
from typing import TypeVar

from mypt.record.rows import Rows
from mypt.record.track import ATTEMPT, CLOCK, SE, STEP, TRAIN, VAL
from mypt.schema.summary import ENDS, Few, Signs, Spike, Stall

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
        losses_not_finite=sum(not isfinite(x) for x in val),
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
    for step, before, loss, error in zip(steps[1:], val, val[1:], errors[1:], strict=False):
        rise = loss - before
        if rise > SPIKE_SHARE * before and not rise <= SPIKE_ERRORS * error and isfinite(loss):
            yield Spike(step=int(step), before=before, loss=loss)


def _stalls(evals: Rows) -> Iterator[Stall]:
    """Gaps within a session; between two sessions nobody was waiting."""
    clock, attempts = evals.column(CLOCK), evals.column(ATTEMPT)
    pairs = zip(attempts, attempts[1:], clock, clock[1:], strict=False)
    gaps = array("d", (after - before if old == new else nan for old, new, before, after in pairs))
    chosen = sorted(gap for gap in gaps[:: 1 + len(gaps) // MEDIAN_OF] if gap == gap)
    usual = chosen[len(chosen) // 2] if len(chosen) >= FEWEST_GAPS else inf
    for step, gap in zip(evals.column(STEP)[1:], gaps, strict=True):
        if gap > STALL_GAPS * usual > 0:
            yield Stall(step=int(step), gap_s=round(gap, 3), usual_s=round(usual, 3))


def _rising(val: Sequence[float]) -> int:
    """How many evaluations at the end are each above the one before."""
    rises = 0
    while rises + 1 < len(val) and val[-1 - rises] > val[-2 - rises]:
        rises += 1
    return rises


def _overfit_after(evals: Rows) -> int | None:
    """The step of the best val loss, if from there on val rises, by halves, while the train loss falls."""
    val, train = evals.column(VAL), evals.column(TRAIN)
    finite = [x for x in val if isfinite(x)]
    if not finite:
        return None
    best = len(val) - 1 - val[::-1].index(min(finite))
    after = [x for x in val[best + 1 :] if isfinite(x)]
    if len(after) < FEWEST_AFTER_BEST:
        return None
    half = len(after) // 2
    rises = sum(after[half:]) / (len(after) - half) > sum(after[:half]) / half
    return int(evals.row(best)[STEP]) if rises and train[-1] < train[best] else None
