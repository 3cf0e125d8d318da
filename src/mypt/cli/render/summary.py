"""What a log comes to, as a page: how the run went, its losses, gold, and what deserves a look."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from mypt import units
from mypt.checkpoint.layout import display_path
from mypt.cli.console import styled
from mypt.cli.render.tables import columns_table, pairs_table
from mypt.log.figures import Few, LossFigures, LossPoint, StepFigures, Summary
from mypt.log.liveness import seconds_since
from mypt.visible import visible

BARS = "▁▂▃▄▅▆▇█"
SPARKS = 60
"""Bars in the line of val losses: as many as fit beside their name at 80 columns."""
_BESIDE = 20
"""What stands beside it."""
STATE_STYLE = {
    "complete": "green", "running": "cyan", "stopped": "yellow", "unfinished": "yellow", "crashed": "red",
    "damaged": "bold red",
}  # fmt: skip
"""How the state of a run is shown."""
_SHOWN = 3
T = TypeVar("T")


def summary_page(summary: Summary, width: int) -> Group:
    """One run: how it went, its losses, gold, and what deserves a look."""
    advice = (Padding(line, (0, 0, 0, 2)) for line in summary.advice)
    return Group(_heading(summary), *tables(summary, width), *advice, "")


def tables(summary: Summary, width: int) -> list[Table]:
    """How a run went, its losses, gold, and what deserves a look."""
    parts = [pairs_table(None, _course(summary, width))]
    if summary.evaluations:
        parts.append(_losses(summary))
    if summary.evaluated.count:
        parts.append(pairs_table("Evaluated", _evaluated(summary)))
    if gold := list(_gold(summary)):
        parts.append(pairs_table("Gold", gold))
    if signs := list(_signs(summary)):
        parts.append(pairs_table("To look at", signs))
    return parts


def sparkline(points: Sequence[LossPoint], width: int = SPARKS) -> str:
    """Losses as bars of eight heights, each the mean of its share of the points."""
    width = min(width, len(points))
    means = []
    for i in range(width):
        share = points[i * len(points) // width : (i + 1) * len(points) // width]
        means.append(sum(p.loss for p in share) / len(share))
    low, high = min(means, default=0.0), max(means, default=0.0)
    scale = (len(BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(BARS[round((m - low) * scale)] for m in means)


def _heading(s: Summary) -> Text:
    run = f", run {s.run_id}" if s.run_id else ""
    several = f" (the last started of {s.runs})" if s.runs > 1 else ""
    return styled(display_path(Path(s.log)), "bold").append(visible(f"{run}{several}"), "not bold")


def _course(s: Summary, width: int) -> Iterator[tuple[str, str | Text]]:
    yield "state", styled(_state(s), STATE_STYLE[s.state])
    of = f" of {s.max_iters:,}" if s.max_iters else ""
    yield "steps", f"{s.step:,}{of}, {units.count(s.tokens)} tokens, {s.evaluations:,} evaluations"
    if s.steps:
        yield "logged steps", _logged_steps(s.steps)
    if len(s.attempts) > 1:
        starts = [f"{a.number} from step {a.start_step:,}" for a in s.attempts[-_SHOWN:]]
        rewinds = f"; {s.rewinds} went back to an earlier step" if s.rewinds else ""
        yield "sessions", f"{len(s.attempts)}, the last: {', '.join(starts)}{rewinds}"
    more = [(s.time.training_s, "training"), (s.time.evaluating_s, "evaluating"), (s.time.saving_s, "saving")]
    split = ", ".join(f"{units.duration(t)} {what}" for t, what in more if t is not None)
    last = " (training and saving: of the last session)" if s.time.training_s and len(s.attempts) > 1 else ""
    yield "time", f"{units.duration(s.time.elapsed_s)}: {split}{last}"
    r = s.tokens_per_s
    if r.overall is not None:
        quarters = [(r.first_quarter, "in the first quarter"), (r.last_quarter, "in the last")]
        parts = [f"{units.count(rate)} {when}" for rate, when in quarters if rate is not None]
        yield "tokens/s", f"{units.count(r.overall)} with evaluating" + "".join(f", {p}" for p in parts)
    if r.tflops is not None:
        share = "" if r.mfu is None else f", {r.mfu:.1%} of the device's peak (MFU)"
        yield "arithmetic", f"{r.tflops:.2f} TFLOP/s in training steps{share}"
    if len(s.phases) > 1:
        yield "phases", ", ".join(f"{p.name} after step {p.after_step:,}" for p in s.phases)
    if s.curve:
        yield "val loss", sparkline(s.curve, min(SPARKS, width - _BESIDE))
    if s.tags:
        yield "tags", ", ".join(s.tags)
    if s.note:
        yield "note", s.note


def _logged_steps(steps: StepFigures) -> str:
    norm, step = steps.largest_grad_norm, steps.largest_grad_norm_step
    largest = "" if norm is None else f", largest gradient norm {norm:.4g} at step {step:,}"
    return f"{steps.count:,}, the last loss {_loss(steps.last_loss)}{largest}"


def _state(s: Summary) -> str:
    last = s.attempts[-1]
    if s.state == "stopped":
        return f"stopped at step {last.end_step:,}: {last.reason or ''}"
    if s.state == "unfinished" and s.host is not None:
        silent = seconds_since(s.last_word or "")
        return f"unfinished: no word from {s.host}" + ("" if silent is None else f" for {units.duration(silent)}")
    return f"crashed, the last word at step {s.step:,}" if s.state == "crashed" else s.state


def _losses(s: Summary) -> Table:
    figures = ("start", "best", "at step", "last", "change")
    named = {"val": s.val_loss, **({"train": s.train_loss} if s.train_loss else {}), **s.eval_sets}
    rows = [(name, *_loss_cells(losses)) for name, losses in named.items()]
    return columns_table(None, ("loss", *figures), rows, right=figures, whole=figures, spare=("change", "start"))


def _loss_cells(f: LossFigures) -> tuple[str, ...]:
    error = f" ± {f.se:.4f}" if f.se is not None else ""
    change = "-" if f.change_pct is None else f"{f.change_pct:+.1f} %"
    step = "-" if f.best_step is None else f"{f.best_step:,}"
    return _loss(f.start), _loss(f.best), step, _loss(f.last) + error, change


def _loss(value: float | None) -> str:
    return "no number" if value is None else f"{value:.4f}"


def _evaluated(s: Summary) -> Iterator[tuple[str, str]]:
    for e in _ends(s.evaluated):
        figures = ", ".join(f"{name} {value:.4f}" for name, value in e.figures.items())
        yield f"{e.bundle}, step {e.step:,}", f"{e.source}: {figures}"


def _gold(s: Summary) -> Iterator[tuple[str, str]]:
    g = s.gold
    if g.first is not None and g.last is not None:
        first = f", the first at step {g.first.step:,} with {g.first.loss:.4f}" if g.count > 1 else ""
        yield "gold", f"step {g.last.step:,} with {g.last.loss:.4f}; {_times(g.count, 'saved')}{first}"
    if g.blocked.count:
        guards = ", ".join(f"{guard} {n:,}" for guard, n in g.blocked_by.items())
        yield "blocked", f"{_times(g.blocked.count)}: {guards}"
        yield from (("", f"step {b.step:,}: {b.reason}") for b in _ends(g.blocked))


def _signs(s: Summary) -> Iterator[tuple[str, str]]:
    signs, passed = s.signs, s.passed_over
    if signs.overfit_after is not None:
        yield "overfit", f"val loss rises after step {signs.overfit_after:,} while the train loss falls"
    if signs.rising >= _SHOWN:
        yield "rising", f"the last {signs.rising:,} evaluations are each above the one before"
    if signs.spikes.count:
        rises = (f"{p.before:.4f} to {p.loss:.4f} at step {p.step:,}" for p in _ends(signs.spikes))
        yield "spikes", f"{signs.spikes.count:,}: {'; '.join(rises)}"
    if signs.stalls.count:
        gaps = (
            f"{units.duration(p.gap_s)} before step {p.step:,} (usual {units.duration(p.usual_s)})"
            for p in _ends(signs.stalls)
        )
        yield "stalls", f"{signs.stalls.count:,}: {'; '.join(gaps)}"
    for count, why in ((signs.batches_skipped, "whose loss or gradient was not finite"),
                       (signs.batches_empty, "of which no token counts by the loss mask")):  # fmt: skip
        yield from [("skipped", f"{_times(count)} a batch {why}")] if count else []
    if signs.losses_not_finite:
        where = "; ".join(f"{', '.join(p.losses)} at step {p.step:,}" for p in _ends(signs.not_finite))
        yield "no number", f"{_times(signs.losses_not_finite)} a loss was not finite: {where}"
    if signs.outputs_lost:
        yield "output", f"{_times(signs.outputs_lost)} it could not be shown to the end; the log has all of it"
    if signs.measured_otherwise.count:
        where = "; ".join(f"from step {p.step:,} on, {p.reason}" for p in _ends(signs.measured_otherwise))
        yield "measure", f"losses do not compare with those before: {where}"
    if passed.total:
        kinds = f"{passed.torn:,} torn, {passed.foreign:,} foreign, {passed.binary:,} binary"
        yield "lines", f"{passed.total:,} of the log passed over: {kinds}"


def _ends(few: Few[T]) -> list[T]:
    """The first and the last of a list, as many as a page bears."""
    every = [*few.first, *few.last]
    return every if len(every) <= _SHOWN else [*every[: _SHOWN - 1], every[-1]]


def _times(count: int, before: str = "") -> str:
    times = "once" if count == 1 else f"{count:,} times"
    return f"{before} {times}".strip()
