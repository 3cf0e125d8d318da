"""A log in one page of figures."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from math import isfinite
from pathlib import Path
from typing import Any

from mypt.checkpoint.family import record_of
from mypt.checkpoint.layout import command
from mypt.log.anomalies import find_anomalies
from mypt.log.figures import LossFigures, LossPoint, Rates, State, Summary, Time
from mypt.log.history import EvalColumns, RunHistory, finite
from mypt.log.liveness import Writer, writer_of
from mypt.log.replay import Branch, Replay

CURVE_POINTS = 2000
EARLY = 0.5
"""Share of a run up to which a blocked gold is early."""
HEALTHY = "Gold was never blocked, so gold = final: healthy training, no overfitting detected."
TOO_HIGH = "Gold was blocked early, at step {}: LR is too high or dataset coverage is too high: reduce and re-run."
NOT_FINITE = "Losses are not finite from step {} on: go on from the last good bundle with a lower learning rate."
DIVERGED = "The run diverged at step {}: go on from the last good bundle with a lower learning rate."
EVALUATE_GOLD = "Always evaluate gold, not just the final checkpoint."


def summarize(path: Path, run_id: str | None = None, bundle: Path | None = None, upto: Branch | None = None) -> Summary:
    """Summarize one run of a log, in memory that takes megabytes for a million evaluations.

    Args:
        path: the log.
        run_id: which run of it; the last one that started where nothing is said.
        bundle: the folder that the run writes to, which tells whether it is still going on.
        upto: the branch of the run to keep to; its end is not the run's.

    Raises:
        InputError: there is no log, or no event of the run in it.
    """
    replay = Replay(path, run_id, upto=upto)
    history = RunHistory()
    for event, is_live in replay.events():
        history.add(event, is_live)
    evals, end, sessions = history.evals(), history.end, history.sessions
    tokens, gold = int(evals.tokens[-1]) if evals else 0, history.gold
    alike = evals.since(history.borders[-1]) if history.borders and history.borders[-1] < len(evals) else evals
    train = _losses(alike.step, alike.train)
    writer = writer_of(bundle)
    state: State = sessions[-1].end or ("unfinished" if upto else _without_end(writer))
    return Summary(
        log=path.as_posix(),
        run_id=replay.run_id,
        runs=len(replay.runs),
        state=state,
        attempts=sessions,
        rewinds=history.rewinds,
        step=history.highest,
        max_iters=history.max_iters,
        tokens=max(tokens, end.get("total_tokens", 0), end.get("tokens_processed", 0)),
        evaluations=len(evals),
        time=Time(
            elapsed_s=round(sum(s.elapsed_s for s in sessions), 3),
            evaluating_s=round(history.evaluating_s, 3),
            training_s=end.get("training_s"),
            saving_s=end.get("save_s"),
        ),
        tokens_per_s=_rates(evals, {i for i, s in enumerate(sessions, 1) if s.start_step == 0}, end),
        val_loss=_losses(alike.step, alike.val, alike.se),
        train_loss=None if train.best is None else train,
        eval_sets={key.removeprefix("eval_"): _losses(s.step, s.loss) for key, s in history.sets.items() if s.step},
        phases=history.phases,
        gold=replace(gold, blocked_by={guard: times for guard, times in gold.blocked_by.items() if times}),
        signs=find_anomalies(evals, history),
        passed_over=replay.skipped,
        advice=[*_advice(history, evals), *_going_on(history, state, bundle)],
        curve=_curve(evals),
        steps=history.steps,
        last_word=history.last_word,
        host=None if upto else writer.host,
        evaluated=history.evaluated,
        **_labels(bundle, replay.run_id),
    )


def _labels(bundle: Path | None, run_id: str | None) -> dict[str, Any]:
    """What the record of the run says that it is looked for by."""
    state = record_of(bundle) if bundle is not None else None
    return {"tags": state.tags, "note": state.note} if state is not None and state.run_id == run_id else {}


def _without_end(writer: Writer) -> State:
    """How a run is whose log has no closing event."""
    if writer.alive is None:
        return "unfinished"
    return "running" if writer.alive else "crashed"


def _losses(steps: Sequence[float], losses: Sequence[float], errors: Sequence[float] = ()) -> LossFigures:
    """The course of one loss."""
    best = min(finite(losses), default=None)
    start, last = (_number(losses[0]), _number(losses[-1])) if losses else (None, None)
    return LossFigures(
        start=start,
        best=best,
        best_step=None if best is None else int(steps[losses.index(best)]),
        last=last,
        se=_number(errors[-1]) if errors and last is not None else None,
        change_pct=round(100 * (last / start - 1), 2) if start and last is not None else None,
    )


def _number(value: float) -> float | None:
    return value if isfinite(value) else None


def _rates(evals: EvalColumns, fresh: set[int], end: dict[str, Any]) -> Rates:
    """Rates of all evaluations and of two quarters; the first one of a `fresh` session counts from nothing."""
    columns = [evals.elapsed, evals.tokens, evals.session]
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
    elapsed, tokens, sessions = columns
    seconds = gained = 0.0
    end = 0
    while (first := end) < len(sessions):
        end = bisect_right(sessions, sessions[first], first)
        whole = first == 0 and sessions[first] in fresh
        seconds += elapsed[end - 1] - (0 if whole else elapsed[first])
        gained += tokens[end - 1] - (0 if whole else tokens[first])
    return round(gained / seconds, 1) if seconds > 0 else None


def _advice(history: RunHistory, evals: EvalColumns) -> list[str]:
    """What docs/logs.md says about gold, as far as it applies."""
    gold, blocked = history.gold.last, history.gold.blocked
    if history.not_finite_since is not None:
        return [NOT_FINITE.format(history.not_finite_since), *([EVALUATE_GOLD] if gold else [])]
    if _has_diverged(history):
        return [DIVERGED.format(history.end["iter"]), *([EVALUATE_GOLD] if gold else [])]
    if gold is None and not blocked.count:
        return []
    if blocked.first and blocked.first[0].step <= EARLY * (history.max_iters or history.highest):
        return [TOO_HIGH.format(blocked.first[0].step), EVALUATE_GOLD]
    final = int(evals.step[-1]) if evals else None
    if gold is not None and not blocked.count and not history.not_finite.count and gold.step == final:
        return [HEALTHY]
    return [EVALUATE_GOLD]


def _has_diverged(history: RunHistory) -> bool:
    """Whether the last session ended because something was not finite, so that the same call would end so again."""
    return bool(history.end.get("reason") == "diverged")


def _going_on(history: RunHistory, state: State, bundle: Path | None) -> list[str]:
    if _has_diverged(history):
        return []
    if state in ("stopped", "crashed") and bundle is not None and bundle.is_dir():
        return [f"Go on with it: {command('resume', bundle)}"]
    return []


def _curve(evals: EvalColumns) -> list[LossPoint]:
    """Val losses evenly chosen, with the last one."""
    if not evals:
        return []
    last = len(evals) - 1
    chosen = [*range(0, last, 1 + last // CURVE_POINTS), last]
    return [LossPoint(step=int(evals.step[i]), loss=evals.val[i]) for i in chosen if isfinite(evals.val[i])]
