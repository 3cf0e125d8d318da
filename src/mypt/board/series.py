"""What the charts draw of a run: its series over tokens, steps or time, in a range, and the marks on them."""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import isfinite, nan
from typing import Any

from mypt.board.decimate import PER_BUCKET, buckets, chosen, smoothed
from mypt.board.index import STEP_FIGURES, Columns
from mypt.board.rates import Rates, rates_of
from mypt.schema.settings.output import Axis
from mypt.visible import visible

_NOT_DRAWN = {"step", "tokens", "seconds", "val_bpb"}
_X: dict[Axis, str] = {"steps": "step", "tokens": "tokens", "time": "seconds"}
_MARKS = {
    "gold_checkpoint": "gold", "gold_blocked": "blocked", "phase_switch": "phase", "training_start": "resume",
    "gold_remeasured": "measured otherwise", "training_stopped": "stopped",
}  # fmt: skip
FEWEST = 50
MOST_RATES = 1000
"""Points of the learning rate, which turns slowly but where it jumps."""
MOST_MARKS = 500
"""Marks of one kind that are drawn at most, the last ones."""


@dataclass(frozen=True)
class View:
    """What is looked at.

    Attributes:
        axis: what x is.
        start: from where on; None for the beginning.
        stop: up to where; None for the end.
        points: how many points of a series may be drawn.
        smooth: weight of a moving average, from 0 for none to below 1.
    """

    axis: Axis = "tokens"
    start: float | None = None
    stop: float | None = None
    points: int = 2000
    smooth: float = 0.0


class Places:
    """Where a step lies on an axis: on the line between the evaluations around it, and beyond them as it went on."""

    def __init__(self, columns: Columns, axis: Axis) -> None:
        self.steps: Sequence[float] = columns.evals["step"]
        self.at: Sequence[float] = columns.evals[_X[axis]]
        if axis == "steps":
            self.steps, self.at = [0.0, 1.0], [0.0, 1.0]
        elif not self.steps or self.steps[0] > columns.first_step:
            first = columns.first_step
            share = first / self.steps[0] if self.steps and self.steps[0] > 0 and axis == "tokens" else 0.0
            self.steps = array("d", [first, *self.steps])
            self.at = array("d", [self.at[0] * share if self.at else 0.0, *self.at])
        if len(self.steps) < 2:
            self.steps, self.at = [*self.steps, self.steps[0] + 1], [*self.at, self.at[0] + _pace(columns, axis)]

    def __call__(self, step: float) -> float:
        """The x of a step."""
        i = min(max(bisect_left(self.steps, step) - 1, 0), len(self.steps) - 2)
        step_0, step_1, x_0, x_1 = self.steps[i], self.steps[i + 1], self.at[i], self.at[i + 1]
        return x_0 + (x_1 - x_0) * (step - step_0) / max(1.0, step_1 - step_0)


def _pace(columns: Columns, axis: Axis) -> float:
    """Tokens or seconds of one step, before evaluations tell."""
    tokens = float(columns.start["config"]["tokens_per_step"]) if columns.start is not None else 1.0
    rates = columns.steps["tokens_per_sec"]
    return tokens if axis == "tokens" else tokens / rates[-1] if rates and rates[-1] > 0 else 1.0


def series_of(columns: Columns, view: View) -> list[dict[str, Any]]:
    """Every series of a run: name, x, y, step of each point, and whether these are all points of the range."""
    at = Places(columns, view.axis)
    xs: Sequence[float] = columns.evals[_X[view.axis]]
    evals, steps = columns.evals["step"], columns.steps["step"]
    found = []
    for name, values in columns.evals.items():
        if name not in _NOT_DRAWN and any(map(isfinite, values)):
            found.append(_drawn(name, values, evals, xs.__getitem__, view))
    for name in STEP_FIGURES if steps else ():
        found = [series for series in found if series["name"] != name]
        found.append(_drawn(name, columns.steps[name], steps, lambda i: at(steps[i]), view))
    if (rates := rates_of(columns)) is not None:
        found = [series for series in found if series["name"] != "lr"]
        found.append(_by_settings(rates, at, view))
    return found


def _by_settings(rates: Rates, at: Places, view: View) -> dict[str, Any]:
    """The learning rate of every step, or of as many as are asked for."""
    first, end = _within(rates.steps, at, view)
    shown = rates.steps[first:end]
    stride = -(-len(shown) // min(max(FEWEST, view.points), MOST_RATES)) or 1
    kept = sorted({*shown[::stride], *shown[-1:], *(step for step in rates.bends() if step in shown)})
    return {
        "name": "lr", "x": [_number(at(step)) for step in kept], "y": [rates(step) for step in kept], "step": kept,
        "count": len(shown), "exact": stride == 1, "last": rates(rates.steps[-1]),
    }  # fmt: skip


def _within(positions: Sequence[int], x: Callable[[int], float], view: View) -> tuple[int, int]:
    """The part of positions that is looked at, with a neighbour on either side that the line goes on to."""
    first = 0 if view.start is None else max(0, bisect_left(positions, view.start, key=x) - 1)
    end = len(positions) if view.stop is None else min(len(positions), bisect_right(positions, view.stop, key=x) + 1)
    return first, end


def _drawn(
    name: str, values: "array[float]", steps: Sequence[float], x: Callable[[int], float], view: View
) -> dict[str, Any]:
    """One series, as many points of it as are asked for."""
    positions = range(len(values))
    first, end = _within(positions, x, view)
    kept = _kept(values, first, end, x, view)
    found: dict[str, Any] = {
        "name": visible(name),
        "x": [_number(x(i)) for i in kept],
        "y": [_number(values[i]) for i in kept],
        "step": [int(steps[i]) for i in kept],
        "count": max(0, end - first),
        "exact": len(kept) >= end - first,
        "last": next((values[i] for i in reversed(positions) if isfinite(values[i])), None),
    }
    if view.smooth and name != "lr" and len(values) > 2:
        means = array("d", smoothed(values[:end], view.smooth))
        kept = _kept(means, first, end, x, view)
        found["smooth"] = {"x": [_number(x(i)) for i in kept], "y": [_number(means[i]) for i in kept]}
    return found


def _kept(values: "array[float]", first: int, end: int, x: Callable[[int], float], view: View) -> list[int]:
    if end - first <= max(FEWEST, view.points):
        return list(range(first, end))
    return chosen(values, buckets(x, first, end, max(FEWEST, view.points) // PER_BUCKET))


def _number(value: float) -> float | None:
    return value if isfinite(value) else None


def marks_of(columns: Columns, view: View) -> list[dict[str, Any]]:
    """Gold and blocked evaluations, phases, resumes and rewinds: where each is, and what it says."""
    at, marks = Places(columns, view.axis), dict[str, list[dict[str, Any]]]()
    steps = columns.evals["step"] or columns.steps["step"]
    losses = columns.evals.get("val_loss") or columns.steps["loss"]
    for step, event in (*_first_phase(columns), *columns.marks):
        kind = _MARKS.get(event["event"])
        if kind is None:
            continue
        kind = "rewind" if kind == "resume" and event["reached"] is not None else kind
        mark: dict[str, Any] = {
            "kind": kind,
            "step": step,
            "x": _number(at(step)),
            "y": _number(_on_line(steps, losses, step)),
        }
        mark |= {"phase": visible(event["new_phase"])} if kind == "phase" else {}
        marks.setdefault(kind, []).append({**mark, "text": _told(event, step)})
    return [mark for found in marks.values() for mark in found[-MOST_MARKS:]]


def _first_phase(columns: Columns) -> Iterator[tuple[int, dict[str, Any]]]:
    """The beginning of the first phase, which no event tells, of a run that has several."""
    switch = next((step for step, event in columns.marks if event["event"] == "phase_switch"), None)
    if switch is not None and columns.first_phase is not None and columns.first_phase[1] <= switch:
        yield columns.first_step, {"event": "phase_switch", "new_phase": columns.first_phase[0]}


def _on_line(xs: Sequence[float], ys: Sequence[float], x: float) -> float:
    """The height of a curve at a place, on the line between its neighbours; before and after it that of its ends."""
    i = bisect_left(xs, x)
    if i == len(xs) or i == 0 or xs[i] == x:
        return ys[min(i, len(ys) - 1)] if ys else nan
    share = (x - xs[i - 1]) / (xs[i] - xs[i - 1])
    return ys[i - 1] + (ys[i] - ys[i - 1]) * share


def _told(event: dict[str, Any], step: int) -> str:
    name, where = event["event"], f"step {step:,}"
    if name == "gold_checkpoint":
        return f"gold at {where}: val {event['val_loss']:.4f}"
    if name == "phase_switch":
        return visible(f"phase {event['new_phase']} from {where}")
    if name == "training_start":
        reached = event["reached"]
        return f"resumed at {where}" if reached is None else f"rewound from step {reached:,} to {where}"
    what = {"gold_blocked": "gold blocked", "gold_remeasured": "measured otherwise", "training_stopped": "stopped"}
    return visible(f"{what[name]} at {where}: {event['reason']}")
