"""Curves of runs in the terminal."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rich.console import Console

from mypt.cli.draw.runs import Course, ends, fits, library
from mypt.cli.draw.ticks import TITLES, ticks
from mypt.schema.settings.output import Axis
from mypt.visible import visible

COLOURS = ("blue", "orange", "green", "magenta", "red", "cyan")
GLYPHS = "o+#=%@$&ns"
"""What tells curves apart where there is no colour; of further ones it is the letters of their place."""
POINTS = 1000
HEIGHT = 22
LABEL = 14
"""Characters that a label of the axis has to itself, with the room around it."""
_TRAIN = (("loss", "steps", "gray", "'"), ("train_loss", "train", "cyan", "."))
_MARKS = {"gold": ("★", "gold"), "blocked": ("x", "gold blocked")}


@dataclass(frozen=True)
class _Entry:
    """One of the key: a sign, what it means, and the colour of the sign."""

    sign: str
    name: str
    colour: str | None = None

    def shown(self, plt: Any, *, colour: bool) -> str:
        return f"{plt.colorize(self.sign, self.colour) if colour and self.colour else self.sign} {self.name}"


def check() -> None:
    """Make sure that there is what draws.

    Raises:
        UsageError: the extra that draws is not installed.
    """
    library("plotext")


def coloured(console: Console) -> bool:
    """Whether a console takes colours, which `NO_COLOR` says beside what it is."""
    return console.color_system is not None and not console.no_color


def plot(runs: Sequence[Course], axis: Axis, width: int, *, colour: bool) -> str:
    """Val losses as text, of one run the train losses too, under a key; gold is marked by a star, blocks by an x.

    Raises:
        UsageError: the extra that draws is not installed.
    """
    plt = library("plotext")
    plt.clear_figure()
    plt.limit_size(False, False)
    plt.plot_size(width, HEIGHT)
    plt.theme("clear")  # axes in the terminal's own colour, so that they are seen on dark and on light
    drawn = [run.series(axis, POINTS) for run in runs]
    key = list[_Entry]()
    for number, (run, series) in enumerate(zip(runs, drawn, strict=True)):
        shade = COLOURS[number % len(COLOURS)]
        curve = "val_loss" if "val_loss" in series or len(runs) == 1 else "loss"
        lines = [*(_TRAIN if len(runs) == 1 else ()), (curve, "val" if len(runs) == 1 else "", shade, _glyph(number))]
        for name, what, tint, glyph in lines:
            if _draw(plt.plot, series.get(name), tint if colour else None, "braille" if colour else glyph):
                key.append(_Entry("───" if colour else glyph * 2, f"{visible(run.name)} {what}".strip(), tint))
    for kind, (glyph, told) in _MARKS.items():
        for number, run in enumerate(runs):
            at = [mark for mark in run.marks(axis) if mark["kind"] == kind]
            tint = COLOURS[number % len(COLOURS)] if colour else None
            if _draw(plt.scatter, {n: [mark[n] for mark in at] for n in "xy"}, tint, glyph):
                key += [_Entry(glyph, told)] if _Entry(glyph, told) not in key else []
    plt.xlabel(TITLES[axis])
    plt.ylabel("loss" if len(runs) == 1 else "val loss")
    low, high = ends(drawn)
    low, high = min(low, 0.0), high if high > low else low + 1.0
    plt.xlim(low, high)
    places = ticks(low, high, axis, max(3, width // LABEL))
    plt.xticks([place for place, _ in places], [label for _, label in places])
    shown = str(plt.build()).rstrip("\n")
    lines = ["   ".join(entry.shown(plt, colour=colour) for entry in line) for line in _lines(key, width)]
    return "\n".join([*lines, shown if colour else plt.uncolorize(shown)])


def _glyph(number: int) -> str:
    return GLYPHS[number] if number < len(GLYPHS) else chr(ord("A") + (number - len(GLYPHS)) % 26)


def _lines(key: Iterable[_Entry], width: int) -> list[list[_Entry]]:
    """The entries, as many on a line as there is room for."""
    lines, used = [list[_Entry]()], 0
    for entry in key:
        most = width - len(entry.sign) - 2
        entry = entry if len(entry.name) <= most else replace(entry, name=f"{entry.name[: most - 1]}…")
        size = len(entry.sign) + 1 + len(entry.name)
        if lines[-1] and used + 3 + size > width:
            lines, used = [*lines, []], 0
        lines[-1].append(entry)
        used += size + (3 if used else 0)
    return lines


def _draw(draw: Callable[..., object], points: dict[str, Any] | None, color: str | None, marker: str) -> bool:
    """Draw points, but those that have no place; whether there were any."""
    known = [(x, y) for x, y in zip(points["x"], points["y"], strict=True) if fits(x) and fits(y)] if points else []
    if known:
        draw(*map(list, zip(*known, strict=True)), color=color, marker=marker)
    return bool(known)
