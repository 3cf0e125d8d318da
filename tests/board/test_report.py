"""A report: one file with all that it needs, in which no text of a run is anything but text."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from mypt.board.assets import PAGES
from mypt.board.report import MODULES, report
from mypt.board.series import Places, View, marks_of, series_of
from mypt.schema.settings.output import Axis
from tests.board.runs import HOSTILE, columns_of, course, start, step, write_log, write_run
from tests.conftest import Mypt, flat

ENDING = "x</script><script>window.hacked=3</script><!--<script>"
MEGABYTES = 6


class Parts(HTMLParser):
    """The elements of a page, and the texts of its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.scripts: list[str] = []
        self.title = ""
        self._inside = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        self._inside = tag
        self.scripts += [""] if tag == "script" else []

    def handle_endtag(self, tag: str) -> None:
        self._inside = "" if tag == self._inside else self._inside

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts[-1] += data
        elif self._inside == "title":
            self.title += data


def made(folder: Path, *names: str, page: dict[str, Any] | None = None, axis: Axis = "tokens") -> Parts:
    log = write_log(folder / "a.jsonl", course(5))
    return Parts(report([(name, columns_of(log)) for name in names], axis, ", ".join(names), page))


def test_a_report_loads_nothing_and_runs_its_own_scripts_alone(tmp_path: Path) -> None:
    parts = made(tmp_path, "a", "b")
    loading = [(tag, at) for tag, at in parts.elements if {"src", "href", "srcset", "action", "poster"} & at.keys()]
    assert [(tag, at.get("href")) for tag, at in loading] == [("link", "data:,"), ("a", "#charts")]
    policy = next(at["content"] for tag, at in parts.elements if at.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert not re.search(r"https?:|\*|'self'|unsafe-eval|script-src[^;]*unsafe", policy)
    theme, data, plotly, modules = parts.scripts
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (theme, plotly, modules)]
    assert re.findall(r"'sha256-([^']+)'", policy) == hashes
    assert "plotly.js v" in plotly[:200] and not re.search(r"^import |^export ", modules, re.MULTILINE)
    assert {run["name"] for run in json.loads(data)["runs"]} == {"a", "b"}


def test_every_module_of_a_report_follows_those_that_it_imports() -> None:
    for number, name in enumerate(MODULES):
        imported = re.findall(r'from "\./([^"]+)"', (PAGES / name).read_text(encoding="utf-8"))
        assert set(imported) <= set(MODULES[:number]), name


@pytest.mark.parametrize("name", [HOSTILE, ENDING, "@@plotly@@", "]]>&lt;", "\u2028\x1b[31m"])
def test_a_hostile_name_is_text_in_a_report(name: str, tmp_path: Path) -> None:
    page = {"verdict": name, "reasons": [name], "lines": [name], "sections": []}
    parts, harmless = made(tmp_path, name, page=page), made(tmp_path, "a", page={**page, "verdict": "a"})
    assert [tag for tag, _ in parts.elements] == [tag for tag, _ in harmless.elements]
    shown = name.replace("\u2028", r"\u2028").replace("\x1b", r"\x1b")
    content = json.loads(parts.scripts[1])
    assert parts.title == shown and content["runs"][0]["name"] == shown
    assert content["page"] == page and parts.scripts[2:] == harmless.scripts[2:]


@pytest.mark.parametrize("axis", ["tokens", "steps", "time"])
def test_a_report_has_every_point_on_every_axis(axis: Axis, tmp_path: Path) -> None:
    run = json.loads(made(tmp_path, "a", axis=axis).scripts[1])["runs"][0]
    columns = columns_of(tmp_path / "a.jsonl")
    expected = {series["name"]: series for series in series_of(columns, View(axis))}
    assert [series["name"] for series in run["series"]] == [*expected]
    for series in run["series"]:
        assert series["x"][axis] == pytest.approx(expected[series["name"]]["x"])
        assert series["y"] == pytest.approx(expected[series["name"]]["y"]) and series["exact"]
    assert [mark["x"][axis] for mark in run["marks"]] == [m["x"] for m in marks_of(columns, View(axis))]


def test_a_report_of_a_long_run_has_the_shape_of_all_its_points(tmp_path: Path) -> None:
    losses = [3 + (i * 7919 % 1000) / 1000 for i in range(30_000)]
    log = write_log(tmp_path / "a.jsonl", [start(), *(step(i, losses[i]) for i in range(1, 30_000))])
    columns = columns_of(log)
    text = report([("a", columns)], "tokens", "a", None)
    assert len(text.encode()) < MEGABYTES * 1e6
    series = {s["name"]: s for s in json.loads(Parts(text).scripts[1])["runs"][0]["series"]}
    kept = series["loss"]
    assert not kept["exact"] and kept["count"] == 29_999 and 1000 < len(kept["y"]) < 6000
    assert (min(kept["y"]), max(kept["y"])) == (min(losses[1:]), max(losses[1:]))
    at = Places(columns, "time")
    assert kept["x"]["time"] == pytest.approx([at(number) for number in kept["step"]])


def test_a_report_has_the_verdict_and_the_tables_of_its_verb(mypt: Mypt, folder: Path) -> None:
    write_run(folder, "dante")
    write_run(folder, "other", run_id="another")

    def page(*call: str) -> dict[str, Any]:
        assert "Saved x.html." in mypt(*call, "--out", "x.html").output
        found: dict[str, Any] = json.loads(Parts(Path("x.html").read_text(encoding="utf-8")).scripts[1])["page"]
        return found

    compared = page("compare", "dante", "other")
    assert flat(mypt("compare", "dante", "other").output).startswith(compared["verdict"])
    assert [section["title"] for section in compared["sections"]][-1] == "Results"
    assert page("logs", "plot", "dante", "other") == compared
    alone = page("logs", "plot", "dante")
    assert alone["verdict"] is None
    assert ["steps", "50 of 100, 1.6K tokens, 5 evaluations"] in alone["sections"][0]["rows"]
