"""A report on runs in one file: the board's charts with what they draw, which needs neither a board nor a network."""

import base64
import hashlib
import html
import json
import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from math import isfinite
from typing import Any, get_args

import mypt
from mypt.board.assets import filled, plotly_script, text_of
from mypt.board.index import Columns
from mypt.board.series import Places, View, marks_of, series_of
from mypt.schema.settings.output import Axis
from mypt.visible import visible

POINTS = 4000
"""Points of a series that a report has at most: as many as the board draws on the widest screen."""
ALL_POINTS = 200_000
"""Points of all series together, of which further runs get fewer each."""
MODULES = ("units.js", "dom.js", "themes.js", "charts.js", "pages.js", "report.js")
"""The scripts of the page, each after those that it imports."""
_IMPORT = re.compile(r"^import .*;\n|^export (?=const|class|function|async)", re.MULTILINE)


def check() -> None:
    """Make sure that there is what a report is made with.

    Raises:
        UsageError: plotly is not installed.
    """
    plotly_script("A report")


def report(runs: Sequence[tuple[str, Columns]], axis: Axis, title: str, page: dict[str, Any] | None) -> str:
    """A report as HTML, which loads nothing from anywhere.

    Args:
        runs: what each is called, and its log.
        axis: what is horizontal at first.
        title: of the page.
        page: the verdict and the tables.

    Raises:
        UsageError: plotly is not installed.
    """
    script = plotly_script("A report").read_text(encoding="utf-8")
    scripts = {"theme": text_of("theme.js"), "plotly": script, "modules": "".join(map(_bundled, MODULES))}
    scripts = {name: _enclosed(text) for name, text in scripts.items()}
    most = ALL_POINTS // max(1, sum(len(series_of(columns, View(points=1))) for _, columns in runs))
    content = {
        "axis": axis,
        "page": page,
        "runs": [_run(i, name, columns, axis, min(POINTS, most)) for i, (name, columns) in enumerate(runs)],
    }
    made = f"mypt {mypt.__version__}, {datetime.now().astimezone():%Y-%m-%d %H:%M}"
    return filled("report.html", {
        **scripts, "policy": _policy(scripts.values()), "title": html.escape(visible(title)), "made": made,
        "style": text_of("board.css"),
        "data": json.dumps(content, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c"),
    })  # fmt: skip


def _bundled(name: str) -> str:
    """A module as a part of one script, in which nothing is imported from another file."""
    return _IMPORT.sub("", text_of(name))


def _enclosed(script: str) -> str:
    """A script that can stand in a page: it ends where it ends, and its lines end as a browser reads them."""
    return re.sub("</(?=script)", r"<\\/", script, flags=re.IGNORECASE).replace("\r\n", "\n").replace("\r", "\n")


def _policy(scripts: Iterable[str]) -> str:
    """What a browser is to allow: these scripts and no other, and nothing from elsewhere."""
    hashes = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts)
    allowed = " ".join(f"'sha256-{found}'" for found in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; "
        "form-action 'none'"
    )


def _run(number: int, name: str, columns: Columns, axis: Axis, points: int) -> dict[str, Any]:
    """A run with its curves and marks, each of them placed on every axis."""
    places = {axis: Places(columns, axis) for axis in get_args(Axis)}
    view = View(axis, points=points)

    def placed(steps: Iterable[int]) -> dict[str, list[float | None]]:
        steps = list(steps)
        return {axis: [_short(at(step)) for step in steps] for axis, at in places.items()}

    series = [{**one, "y": [_short(y) for y in one["y"]], "x": placed(one["step"])} for one in series_of(columns, view)]
    marks = [
        {**mark, "x": {axis: x for axis, (x,) in placed([mark["step"]]).items()}} for mark in marks_of(columns, view)
    ]
    return {"id": str(number), "name": visible(name), "series": series, "marks": marks}


def _short(value: float | None) -> float | None:
    """A figure as exact as any chart of it, in few letters."""
    if value is None or not isfinite(value):
        return None
    return int(value) if value == int(value) else float(f"{value:.8g}")
