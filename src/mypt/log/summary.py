"""A log in one page of figures, read in a single pass."""

import shlex
from bisect import bisect_right
from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import Any

from mypt.checkpoint.lock import is_abandoned, is_held
from mypt.log.anomalies import read_signs
from mypt.log.figures import (
    ENDS,
    AttemptFigures,
    Blocked,
    Few,
    GoldFigures,
    LossFigures,
    PassedOverFigures,
    Phase,
    Point,
    Rates,
    State,
    Summary,
    Time,
)
from mypt.log.gather import Evals, gathered
from mypt.log.live import nothing_found
from mypt.log.reader import PassedOver
from mypt.log.rows import Rows, finite
from mypt.log.track import ATTEMPT, ELAPSED, GUARDS, SE, STEP, TOKENS, TRAIN, VAL, Attempt, Track

CURVE_POINTS = 2000
EARLY = 0.5
"""Share of a run up to which a blocked gold is early."""
HEALTHY = "Gold was never blocked, so gold = final: healthy training, no overfitting detected."
TOO_HIGH = "Gold was blocked early, at step {}: LR is too high or dataset coverage is too high: reduce and re-run."
EVALUATE_GOLD = "Always evaluate gold, not just the final checkpoint."


def summarize(path: Path, run_id: str | None = None, bundle: Path | None = None) -> Summary:
    """Summarize one run of a log, in memory that takes megabytes for a million evaluations.

    Args:
        path: the log.
        run_id: which run of it; the last one that started where nothing is said.
        bundle: the folder that the run writes to, which tells whether it is still going on.

    Raises:
        InputError: there is no log, or no event of the run in it.
    """
    tracks: dict[str | None, Track] = {}
    latest: Track | None = None
    passed = PassedOver()
    track = Track(None)
    for found in gathered(path, passed):
        run = found.run_id if isinstance(found, Evals) else found.get("run_id")
        if run != track.run_id or not tracks:
            track = tracks.setdefault(run, Track(run))
        if isinstance(found, Evals):
            track.take_evals(found)
            latest = latest or track
        else:
            track.take(found)
            latest = track if latest is None or found["event"] == "training_start" else latest
    chosen = latest if run_id is None else tracks.get(run_id)
    if chosen is None:
        raise nothing_found(path, run_id)
    return _summary(path, chosen, len(tracks), passed, bundle)


def _summary(path: Path, track: Track, runs: int, passed: PassedOver, bundle: Path | None) -> Summary:
    last, evals = track.attempts[-1], track.evals
    tokens = int(evals.row(-1)[TOKENS]) if len(evals) else 0
    end: dict[str, Any] = last.end or {}
    train = _figures(evals, TRAIN)
    gold = _gold(track)
    state: State = end["event"].removeprefix("training_") if end else _without_end(bundle)
    return Summary(
        log=path.as_posix(),
        run_id=track.run_id,
        runs=runs,
        state=state,
        attempts=[_attempt(a) for a in track.attempts],
        rewinds=track.rewinds,
        step=track.highest,
        max_iters=track.max_iters,
        tokens=max(tokens, end.get("total_tokens", 0), end.get("tokens_processed", 0)),
        evaluations=len(evals),
        time=_time(track, end),
        tokens_per_s=_rates(evals, {i for i, a in enumerate(track.attempts, 1) if a.start_step == 0}, end),
        val_loss=_figures(evals, VAL, SE),
        train_loss=None if train.best is None else train,
        eval_sets={name.removeprefix("eval_"): _figures(rows, 1) for name, rows in track.sets.items() if len(rows)},
        phases=[Phase(name=m.name, after_step=m.after_step) for m in track.marks],
        gold=gold,
        signs=read_signs(evals, len(track.skipped)),
        passed_over=PassedOverFigures(torn=passed.torn, foreign=passed.foreign, binary=passed.binary),
        advice=[*_advice(gold, track), *_going_on(state, bundle)],
        curve=_curve(evals),
    )


def _without_end(bundle: Path | None) -> State:
    """How a run is whose log has no closing event."""
    if is_held(bundle):
        return "running"
    return "crashed" if is_abandoned(bundle) else "unfinished"


def _attempt(attempt: Attempt) -> AttemptFigures:
    end: dict[str, Any] = attempt.end or {}
    return AttemptFigures(
        number=attempt.number,
        start_step=attempt.start_step,
        started_at=attempt.started_at,
        elapsed_s=attempt.elapsed_s,
        end=end["event"].removeprefix("training_") if end else None,
        end_step=attempt.end_step,
        reason=end.get("reason"),
    )


def _time(track: Track, end: dict[str, Any]) -> Time:
    return Time(
        elapsed_s=round(sum(a.elapsed_s for a in track.attempts), 3),
        evaluating_s=round(track.evaluating_s, 3),
        training_s=end.get("training_s"),
        saving_s=end.get("save_s"),
    )


def _figures(rows: Rows, loss: int, se: int | None = None) -> LossFigures:
    """The course of the loss in a column."""
    values = rows.column(loss)
    best = min(finite(values), default=None)
    start, last = (_number(values[0]), _number(values[-1])) if len(values) else (None, None)
    return LossFigures(
        start=start,
        best=best,
        best_step=None if best is None else int(rows.row(values.index(best))[STEP]),
        last=last,
        se=_number(rows.row(-1)[se]) if se is not None and len(rows) else None,
        change_pct=round(100 * (last / start - 1), 2) if start and last is not None else None,
    )


def _number(value: float) -> float | None:
    return value if isfinite(value) else None


def _rates(evals: Rows, fresh: set[int], end: dict[str, Any]) -> Rates:
    """Rates of all evaluations, and of the first and the last quarter of them.

    Args:
        evals: the table of `Track.evals`.
        fresh: sessions that began with nothing, whose first evaluation counts from there.
        end: the closing event, which knows the arithmetic.
    """
    columns = [evals.column(c) for c in (ELAPSED, TOKENS, ATTEMPT)]
    quarter = max(2, len(evals) // 4)
    return Rates(
        overall=_rate(columns, fresh),
        first_quarter=_rate([c[:quarter] for c in columns], fresh),
        last_quarter=_rate([c[-quarter:] for c in columns], set()),
        tflops=end.get("tflops"),
        mfu=end.get("mfu"),
    )


def _rate(columns: Sequence[Sequence[float]], fresh: set[int]) -> float | None:
    """Tokens over seconds from the first to the last evaluation of each session."""
    elapsed, tokens, attempts = columns
    seconds = gained = 0.0
    end = 0
    while (first := end) < len(attempts):
        end = bisect_right(attempts, attempts[first], first)
        whole = first == 0 and attempts[first] in fresh
        seconds += elapsed[end - 1] - (0 if whole else elapsed[first])
        gained += tokens[end - 1] - (0 if whole else tokens[first])
    return round(gained / seconds, 1) if seconds > 0 else None


def _gold(track: Track) -> GoldFigures:
    guards = track.blocked.column(1)
    rest = [r for r in track.last_reasons if r not in track.first_reasons][-ENDS:]
    first, last = (
        [Blocked(step=r.step, loss=r.loss, reason=r.text) for r in part] for part in (track.first_reasons, rest)
    )
    points = [Point(step=int(track.gold.row(i)[0]), loss=track.gold.row(i)[1]) for i in (0, -1) if len(track.gold)]
    return GoldFigures(
        count=len(track.gold),
        first=points[0] if points else None,
        last=points[-1] if points else None,
        blocked=Few(count=len(guards), first=first, last=last),
        blocked_by={name: n for i, name in enumerate(GUARDS) if (n := guards.count(i))},
    )


def _advice(gold: GoldFigures, track: Track) -> list[str]:
    """What the spec says about gold, as far as it applies."""
    if gold.last is None and not gold.blocked.count:
        return []
    length = track.max_iters or track.highest
    if gold.blocked.count and gold.blocked.first and gold.blocked.first[0].step <= EARLY * length:
        return [TOO_HIGH.format(gold.blocked.first[0].step), EVALUATE_GOLD]
    final = int(track.evals.row(-1)[STEP]) if len(track.evals) else None
    if not gold.blocked.count and gold.last is not None and gold.last.step == final:
        return [HEALTHY]
    return [EVALUATE_GOLD]


def _going_on(state: State, bundle: Path | None) -> list[str]:
    if state in ("stopped", "crashed") and bundle is not None and bundle.is_dir():
        return [f"Go on with it: mypt resume {shlex.quote(bundle.name)}"]
    return []


def _curve(evals: Rows) -> list[Point]:
    """Val losses evenly chosen, with the last one."""
    steps, val = evals.column(STEP), evals.column(VAL)
    stride = 1 + (len(val) - 1) // CURVE_POINTS if len(val) else 1
    chosen = [*range(0, len(val) - 1, stride), len(val) - 1] if len(val) else []
    return [Point(step=int(steps[i]), loss=val[i]) for i in chosen if isfinite(val[i])]
