"""What in the course of a run deserves a look, told from its evaluations alone."""

from array import array
from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import inf, isfinite, isnan
from operator import sub

from mypt.log.figures import Anomalies, Few, Spike, Stall
from mypt.log.history import EvalColumns, RunHistory, finite

SPIKE_SHARE = 0.05
SPIKE_ERRORS = 4.0
STALL_GAPS = 5.0
FEWEST_GAPS = 4
"""Gaps between evaluations from which there is a usual one."""
FEWEST_AFTER_BEST = 3
OVERFIT_SHARE = 0.01
"""Of the best val loss: what it moves by on a plateau, where a train loss falls too."""
MEDIAN_OF = 10_000
"""Gaps to take the median of; more of them, evenly chosen, would not move it."""


def find_anomalies(evals: EvalColumns, history: RunHistory) -> Anomalies:
    """Find all of them in the evaluations of a run; losses that were measured otherwise are compared with none."""
    alike = evals.since(history.borders[-1]) if history.borders else evals
    return Anomalies(
        batches_skipped=history.skipped_batches,
        batches_empty=history.empty_batches,
        losses_not_finite=history.not_finite.count,
        not_finite=history.not_finite,
        outputs_lost=history.outputs_lost,
        measured_otherwise=history.measured_otherwise,
        spikes=Few.of(_spikes(evals, history.borders)),
        stalls=Few.of(_stalls(evals)),
        rising=_rising(alike.val),
        overfit_after=_overfit_after(alike),
    )


def _spikes(evals: EvalColumns, borders: Sequence[int]) -> Iterator[Spike]:
    for i, (before, loss) in enumerate(pairwise(evals.val), 1):
        rise, error = loss - before, evals.se[i]
        if i in borders or not isfinite(loss):
            continue
        if rise > SPIKE_SHARE * before and (isnan(error) or rise > SPIKE_ERRORS * error):
            yield Spike(step=int(evals.step[i]), before=before, loss=loss)


def _stalls(evals: EvalColumns) -> Iterator[Stall]:
    """Gaps within a session, by its own clock; between two sessions nobody was waiting."""
    elapsed, session = evals.elapsed, evals.session
    gaps = array("d", map(sub, elapsed[1:], elapsed))
    sample = range(0, len(gaps), 1 + len(gaps) // MEDIAN_OF)
    chosen = sorted(gaps[i] for i in sample if session[i] == session[i + 1])
    usual = chosen[len(chosen) // 2] if len(chosen) >= FEWEST_GAPS else inf
    limit = STALL_GAPS * usual
    for i, gap in enumerate(gaps):
        if gap > limit > 0 and session[i] == session[i + 1]:
            yield Stall(step=int(evals.step[i + 1]), gap_s=round(gap, 3), usual_s=round(usual, 3))


def _rising(val: Sequence[float]) -> int:
    """How many evaluations at the end are each above the one before."""
    rises = 0
    while rises + 1 < len(val) and val[-1 - rises] > val[-2 - rises]:
        rises += 1
    return rises


def _overfit_after(evals: EvalColumns) -> int | None:
    """The step of the best val loss, if the run overfits from there on."""
    val, train = evals.val, evals.train
    if (lowest := min(finite(val), default=None)) is None:
        return None
    best = len(val) - 1 - val[::-1].index(lowest)
    return int(evals.step[best]) if overfits((lowest, train[best]), val[best + 1 :], train[-1]) else None


def overfits(best: tuple[float, float], after: Sequence[float], train: float) -> bool:
    """Whether the val loss rises, by halves and beyond what a plateau does, while the train loss falls.

    Args:
        best: val and train loss of the evaluation with the lowest val loss.
        after: val losses of the evaluations since then.
        train: train loss of the last one.
    """
    after = finite(after)
    if len(after) < FEWEST_AFTER_BEST:
        return False
    half = len(after) // 2
    early, late = sum(after[:half]) / half, sum(after[half:]) / (len(after) - half)
    return late > max(early, best[0] * (1 + OVERFIT_SHARE)) and train < best[1]
