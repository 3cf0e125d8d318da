"""Loss curves of runs, in the terminal or as a file."""

import html
import io
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from mypt import units
from mypt.checkpoint.atomic import replacing_file, storage_errors
from mypt.errors import UsageError
from mypt.schema.settings.output import Axis
from mypt.visible import visible

if TYPE_CHECKING:
    from mypt.log.run_record import CurvePoint, RunRecord, StepPoint

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Told apart by colour-blind readers too (Okabe and Ito 2008)."""
TERMINAL_COLOURS = ("blue", "orange", "green", "magenta", "red", "cyan")
PLAIN_MARKERS = "o+#=%"
BEYOND = 1e15
"""What is no number, or not below this, cannot be drawn in a terminal."""
_X: dict[Axis, "Callable[[CurvePoint | StepPoint], float]"] = {
    "tokens": lambda p: p.tokens,
    "steps": lambda p: p.step,
    "time": lambda p: p.seconds,
}
_TITLES: dict[Axis, str] = {"tokens": "training tokens", "steps": "step", "time": "time of all sessions"}
SUFFIXES = (".png", ".svg", ".html")


def terminal_plot(runs: "Sequence[RunRecord]", axis: Axis, width: int, *, colour: bool) -> str:
    """Val losses as text, of one run the train losses too; gold is marked by a star, blocks by an x.

    Raises:
        UsageError: the extra that draws is not installed.
    """
    plt = _library("plotext")
    plt.clear_figure()
    plt.plot_size(width, 22)
    plt.theme("clear")  # axes in the terminal's own colour, so that they are seen on dark and on light
    for number, run in enumerate(runs):
        shade = TERMINAL_COLOURS[number % len(TERMINAL_COLOURS)] if colour else None
        marker = "braille" if colour else PLAIN_MARKERS[number % len(PLAIN_MARKERS)]
        if len(runs) == 1:
            _plot_train(plt, run, axis, colour=colour)
        label = visible(f"{run.label} val" if len(runs) == 1 else run.label)
        _plot_points(plt.plot, ((_X[axis](p), p.val_loss) for p in run.curve), label=label, marker=marker, color=shade)
        for steps, mark in ((set(run.gold[-1:]), "★"), (set(run.blocked), "x")):
            marked = [(_X[axis](p), p.val_loss) for p in run.curve if p.step in steps]
            _plot_points(plt.scatter, marked, marker=mark, color=shade)
    plt.xlabel(_TITLES[axis])
    plt.ylabel("loss" if len(runs) == 1 else "val loss")
    ends = max((x for run in runs for p in run.curve if abs(x := _X[axis](p)) < BEYOND), default=1.0)
    ticks = [ends * i / 4 for i in range(5)]
    plt.xticks(ticks, [_shown(tick, axis) for tick in ticks])
    return str(plt.build())


def _plot_train(plt: Any, run: "RunRecord", axis: Axis, *, colour: bool) -> None:
    """The train losses of single steps, where they were logged, and those of the evaluations over them."""
    steps = ((_X[axis](p), p.loss) for p in run.steps)
    train = ((_X[axis](p), p.train_loss) for p in run.curve)
    for what, points, shade, mark in (
        ("steps", steps, "gray", "'"),
        ("train", train, "cyan" if run.steps else "gray", "."),
    ):
        marker, color = ("braille", shade) if colour else (mark, None)
        _plot_points(plt.plot, points, label=visible(f"{run.label} {what}"), marker=marker, color=color)


def _plot_points(
    draw: Callable[..., object], points: Iterable[tuple[float, float | None]], **style: str | None
) -> None:
    """Draw points, but those that have no place in the terminal."""
    known = [(x, loss) for x, loss in points if loss is not None and abs(x) < BEYOND and abs(loss) < BEYOND]
    if known:
        draw(*map(list, zip(*known, strict=True)), **style)


def save_plot(runs: "Sequence[RunRecord]", axis: Axis, path: Path) -> None:
    """Save a .png, .svg or .html: val and train loss above, learning rate below, with phases, gold and blocks.

    Raises:
        UsageError: the name says nothing of the form, or the extra that draws is not installed.
    """
    if path.suffix not in SUFFIXES:
        raise UsageError(f"{path} is no picture.", f"End its name in one of {', '.join(SUFFIXES)}.")
    matplotlib = _library("matplotlib")
    matplotlib.use("agg")
    plt = _library("matplotlib.pyplot")
    figure, (above, below) = plt.subplots(
        2, 1, sharex=True, figsize=(9, 6), gridspec_kw={"height_ratios": [4, 1]}, layout="constrained"
    )
    for number, run in enumerate(runs):
        _draw(above, below, run, axis, COLOURS[number % len(COLOURS)])
    if len(runs) == 1:
        _draw_phases(above, runs[0], axis)
    above.set_ylabel("loss, nats per token")
    above.grid(alpha=0.25)
    above.legend(frameon=False)
    below.set_ylabel("learning rate")
    below.set_xlabel(_TITLES[axis])
    below.grid(alpha=0.25)
    below.xaxis.set_major_formatter(lambda x, _: _shown(x, axis))
    with storage_errors(path, "--out"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing_file(path) as temporary:
            _write(figure, temporary, ", ".join(run.label for run in runs))
    plt.close(figure)


def _draw(above: Any, below: Any, run: "RunRecord", axis: Axis, colour: str) -> None:
    x = [_X[axis](p) for p in run.curve]
    if run.steps:
        at, losses = [_X[axis](p) for p in run.steps], [p.loss for p in run.steps]
        above.plot(at, losses, color=colour, alpha=0.3, linewidth=0.5, label=_label(f"{run.label} steps"))
    above.plot(x, _gaps(p.val_loss for p in run.curve), color=colour, label=_label(f"{run.label} val"))
    if any(p.train_loss is not None for p in run.curve):
        train = _gaps(p.train_loss for p in run.curve)
        above.plot(x, train, color=colour, alpha=0.5, linestyle="--", linewidth=1, label=_label(f"{run.label} train"))
    marks = (("gold", run.gold[-1:], "*", 130), ("gold blocked", run.blocked, "x", 40))
    for title, steps, marker, size in marks:
        marked = set(steps)
        points = [p for p in run.curve if p.step in marked]
        if points:
            at = [_X[axis](p) for p in points]
            above.scatter(
                at, _gaps(p.val_loss for p in points), marker=marker, s=size, color=colour, zorder=3,
                label=_label(f"{run.label} {title}"),
            )  # fmt: skip
    if any(p.lr is not None for p in run.curve):
        below.plot(x, _gaps(p.lr for p in run.curve), color=colour)


def _label(text: str) -> str:
    """Text as it is to matplotlib, to which dollars enclose formulas, and a leading underscore hides a legend."""
    text = visible(text).replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def _gaps(values: Iterable[float | None]) -> list[float]:
    """Values to draw, with a gap where one is missing."""
    return [float("nan") if value is None else value for value in values]


def _draw_phases(above: Any, run: "RunRecord", axis: Axis) -> None:
    for name, step in run.phases:
        after = next((p for p in run.curve if p.step >= step), None)
        if after is not None:
            where = _X[axis](after) * step / after.step
            above.axvline(where, color="grey", linestyle=":", linewidth=1)
            above.text(where, 1.0, _label(f" {name}"), transform=above.get_xaxis_transform(), va="top", color="grey")


def _write(figure: Any, path: Path, title: str) -> None:
    if path.suffix != ".html":
        figure.savefig(path, dpi=150)
        return
    drawing = io.StringIO()
    figure.savefig(drawing, format="svg")
    svg = drawing.getvalue()
    svg = svg[svg.index("<svg") :]
    head = f'<meta charset="utf-8">\n<title>{html.escape(visible(title))}</title>'
    page = f'<!doctype html>\n{head}\n<body style="background:#fff">\n{svg}\n'
    path.write_text(page, encoding="utf-8", newline="\n")


def _shown(value: float, axis: Axis) -> str:
    return units.duration(value) if axis == "time" else units.count(value)


def _library(name: str) -> ModuleType:
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError as error:
        raise UsageError(
            f"Drawing needs {name.split('.')[0]}, which is not installed.", "Install it: pip install 'mypt[plot]'"
        ) from error
