"""Curves of runs as a still picture: losses above, the learning rate below, and what the lines and marks mean."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

from mypt.cli.draw.runs import Course, ends, fits, library
from mypt.cli.draw.ticks import TITLES, ticks
from mypt.schema.settings.output import Axis
from mypt.visible import visible

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Told apart by colour-blind readers too (Okabe and Ito 2008)."""
SYMBOLS = "osD^vpPh"
POINTS = 4000
GREY = "#555555"
_SETS = ((0, (5, 2)), (0, (5, 2, 1, 2)), (0, (9, 2)), (0, (9, 2, 1, 2)))
_MARKS = {
    "gold": ("*", 14, "gold"), "blocked": ("x", 7, "gold blocked"), "resume": (">", 7, "resumed"),
    "rewind": ("<", 7, "rewound"), "measured otherwise": ((6, 2, 0), 9, "measured otherwise"),
    "stopped": (r"$\otimes$", 9, "stopped"), "phase": ("|", 12, "phase"),
}  # fmt: skip
"""Each kind's marker, its size and what it means, in the order of the key."""
_BELOW = {"stopped": 0.025, "resume": 0.07, "rewind": 0.07, "measured otherwise": 0.115}
"""Marks of sessions, and how far above the lower edge of the frame they stand."""
_NAME, _LINES, _TITLE = 26, 3, 70
"""Letters of a line of a name in the key, lines of it, and letters of a line of the title."""


def check() -> None:
    """Make sure that there is what draws.

    Raises:
        UsageError: the extra that draws is not installed.
    """
    library("matplotlib")


def draw(runs: Sequence[Course], axis: Axis, path: Path, verdict: str | None = None) -> None:
    """Draw runs into a .png or .svg.

    Args:
        runs: in the order of the key.
        axis: what is horizontal.
        path: of the picture.
        verdict: what stands under the title.

    Raises:
        UsageError: the extra that draws is not installed.
    """
    library("matplotlib").use("agg")
    plt = library("matplotlib.pyplot")
    height = max(6.5, 1.5 + 0.25 * sum(1 + _named(run.name).count("\n") for run in runs))
    figure, (above, below) = plt.subplots(
        2, 1, sharex=True, figsize=(11, height), dpi=150, gridspec_kw={"height_ratios": [4, 1]}, layout="constrained"
    )
    drawn = [run.series(axis, POINTS) for run in runs]
    key = _Key(drawn)
    for number, (run, series) in enumerate(zip(runs, drawn, strict=True)):
        _losses(above, series, key, number)
        _marks(above, run.marks(axis), key, number, phases=len(runs) == 1)
        if "lr" in series:
            below.plot(*_line(series["lr"]), color=key.colour(number), linewidth=1.5)
    _axes(above, below, axis, ends(drawn))
    phases = [mark for mark in runs[0].marks(axis) if mark["kind"] == "phase"]
    _strips(above, key, phases if len(runs) == 1 else [])
    title = ", ".join(run.name for run in runs)
    title = title if len(title) <= 2 * _TITLE else f"{len(runs)} runs"
    above.set_title("\n".join([_wrapped(title, _TITLE, 2), *([_plain(verdict)] if verdict else [])]), loc="left")
    figure.legend(handles=key.runs(plt, runs), loc="outside right upper", frameon=False)
    meanings = key.meanings(plt)
    figure.legend(handles=meanings, loc="outside lower center", ncols=min(6, max(1, len(meanings))), frameon=False)
    figure.savefig(path)
    plt.close(figure)


class _Key:
    """How runs and losses are drawn, and which marks there are.

    Attributes:
        styles: of the losses that there are: what each is called, its dashes, its width and how much it covers.
        seen: kinds of the marks that were drawn.
    """

    def __init__(self, drawn: Sequence[dict[str, dict[str, Any]]]) -> None:
        sets = dict.fromkeys(name for series in drawn for name in series if name.startswith("eval_"))
        names = {name for series in drawn for name in series}
        styles: dict[str, tuple[str, Any, float, float]] = {
            "val_loss": ("val", "-", 2.0, 1.0),
            "train_loss": ("train", ":", 1.5, 0.9),
        }
        styles |= {"loss": ("steps", "-", 0.6, 0.4)}
        styles |= {name: (name.removeprefix("eval_"), _SETS[i % 4], 1.3, 0.9) for i, name in enumerate(sets)}
        self.styles = {name: style for name, style in styles.items() if name in names}
        self.seen: set[str] = set()

    def colour(self, run: int) -> str:
        return COLOURS[run % len(COLOURS)]

    def symbol(self, run: int) -> str:
        return SYMBOLS[(run + run // len(SYMBOLS)) % len(SYMBOLS)]

    def runs(self, plt: Any, runs: Sequence[Course]) -> list[Any]:
        """One entry a run."""
        line = plt.matplotlib.lines.Line2D
        return [
            line([], [], color=self.colour(i), marker=self.symbol(i), linewidth=2, label=_named(run.name))
            for i, run in enumerate(runs)
        ]

    def meanings(self, plt: Any) -> list[Any]:
        """One entry for each kind of line and of mark that is drawn."""
        line = plt.matplotlib.lines.Line2D
        lines = [
            line([], [], color=GREY, linestyle=dash, linewidth=width, label=_plain(told))
            for told, dash, width, _ in self.styles.values()
        ]
        marks = [
            line([], [], color=GREY, linestyle="", marker=marker, markersize=size, label=told)
            for kind, (marker, size, told) in _MARKS.items()
            if kind in self.seen
        ]
        return [*lines, *marks]


def _losses(above: Any, series: dict[str, dict[str, Any]], key: _Key, run: int) -> None:
    for name, (_, dash, width, alpha) in sorted(key.styles.items(), key=lambda style: style[1][2]):
        if name in series:
            x, y = _line(series[name])
            symbols = {} if name == "loss" else {"marker": key.symbol(run), "markersize": 4, "markevery": 0.12}
            above.plot(x, y, color=key.colour(run), linestyle=dash, linewidth=width, alpha=alpha, **symbols)


def _marks(above: Any, marks: Iterable[dict[str, Any]], key: _Key, run: int, *, phases: bool) -> None:
    """Marks on the curve; those of sessions below all curves, so that they hide nothing and nothing hides them."""
    for mark in marks:
        if mark["kind"] == "phase" and phases:
            continue
        marker, size, _ = _MARKS[mark["kind"]]
        edge = "black" if mark["kind"] == "gold" else key.colour(run)
        below = _BELOW.get(mark["kind"])
        place = {} if below is None else {"transform": above.get_xaxis_transform()}
        above.plot(
            mark["x"], mark["y"] if below is None else below, linestyle="", marker=marker, markersize=size,
            color=key.colour(run), markeredgecolor=edge, zorder=4, clip_on=False, **place,
        )  # fmt: skip
        key.seen.add(mark["kind"])


def _strips(above: Any, key: _Key, phases: Sequence[dict[str, Any]]) -> None:
    """Room below the curves for the marks of sessions, and above them for a line and a name where a phase begins."""
    low, high = above.get_ylim()
    row = (high - low) * 0.055
    above.set_ylim(low - 3 * row * bool(key.seen & _BELOW.keys()), high + row * len(phases))
    middle = sum(above.get_xlim()) / 2
    for number, phase in enumerate(phases):
        above.axvline(phase["x"], color=GREY, linestyle=":", linewidth=1)
        above.text(
            phase["x"], high + row * (len(phases) - number - 0.5), f" {_wrapped(phase['phase'], _NAME, 1)} ",
            color=GREY, va="center", ha="right" if phase["x"] > middle else "left",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
        )  # fmt: skip


def _axes(above: Any, below: Any, axis: Axis, span: tuple[float, float]) -> None:
    low, high = min(0.0, span[0]), span[1]
    room = (high - low) * 0.02 or 1.0
    below.set_xlim(low - room, high + room)
    places = ticks(low, high, axis, 8)
    below.set_xticks([place for place, _ in places], [label for _, label in places])
    above.set_ylabel("loss, nats per token")
    below.set_ylabel("learning rate")
    below.set_xlabel(TITLES[axis])
    below.yaxis.set_major_formatter(lambda rate, _: f"{rate:g}")
    for plot in (above, below):
        plot.grid(alpha=0.25)
        plot.spines[["top", "right"]].set_visible(False)


def _line(series: dict[str, Any]) -> tuple[list[float], list[float]]:
    """The points of a curve, with gaps where there is no number."""
    x, y = ([value if fits(value) else float("nan") for value in series[name]] for name in "xy")
    return x, y


def _named(name: str) -> str:
    return _wrapped(name, _NAME, _LINES)


def _wrapped(text: str, width: int, lines: int) -> str:
    return _plain("\n".join(wrap(visible(text), width, max_lines=lines, placeholder="…") or [""]))


def _plain(text: str) -> str:
    """Text as it is to matplotlib, to which dollars enclose formulas, and a leading underscore hides a legend."""
    text = visible(text).replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text
