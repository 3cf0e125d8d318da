"""What verbs show fits terminals from narrow to wide: nothing is cut, and only whole sentences are left to fold."""

import io
import json
import re
from pathlib import Path

import pytest
from rich.cells import cell_len

from mypt.cli.console import ShownConsole
from mypt.cli.render.progress import ConsoleObserver, ReproduceConsole
from mypt.run.reproduce import Compared
from tests.conftest import SHORT, Mypt, Once

LONG = "a_run_with_a_rather_long_name"
PAGES = [
    ["compare", "a", LONG], ["compare", "a", LONG, "--all"], ["compare", "a", "a_gold"], ["inspect"],
    ["inspect", "--all"], ["inspect", "a", "--tensors"], ["inspect", f"{LONG}_fp16"], ["logs", "summarize"],
    ["logs", "show", LONG], ["logs", "show", "a", "--event", "eval"], ["logs", "show", "a", "--event", "evaluation"],
    ["logs", "show", "a", "--event", "sample"], ["verify"], ["verify", "--all"], ["config", "check", "c.json"],
    ["presets"], ["du"], ["tag"], ["data", "inspect", "d"], ["evaluate", "a", "--input-file", "input.txt"],
    ["train", "new", "--dry-run", *SHORT], ["resume", "a", "--dry-run", "--max-iters", "9", "--lr", "1e-4"],
    ["train", "a", *SHORT], ["fork", "a", "a"], ["export-fp16", "a"], ["reproduce", "a"], ["prune"],
    ["rm", "nobody"],
]  # fmt: skip
ABBREVIATED = re.compile(r"[0-9a-f]{12,16}…|\w+ …|…\.")
"""Where `…` stands for something else than what a table had no room for."""

NUMBER = re.compile(r"\d[\d.,:]*")
"""Times and speeds differ from call to call."""


@pytest.fixture
def runs(once: Once) -> None:
    """Two runs, one of them resumed with another rate, a data set, a config file."""
    once("train", "a", *SHORT, "--sample-prompt", "nel", "--tag", "good")
    once("train", LONG, *SHORT, "--eval-set", "poems=input.txt", "--log-interval", "1")
    once("resume", LONG, "--max-iters", "6", "--lr", "1e-3")
    once("train", "a", *SHORT, "--fresh")
    once("evaluate", "a", "--input-file", "input.txt")
    Path("val.txt").write_text("nel mezzo", encoding="utf-8")
    once("prepare", "input.txt", "--out", "d", "--tokenization", "char", "--val-input", "val.txt")
    phases = [{"name": "one", "dataset_dir": "d", "until_iter": 5}, {"name": "two", "dataset_dir": "d"}]
    Path("c.json").write_text(json.dumps({"curriculum": {"phases": phases}, "n_embd": 12}), encoding="utf-8")


@pytest.mark.parametrize("width", [30, 60, 80, 140])
@pytest.mark.usefixtures("runs")
def test_pages_fit(width: int, mypt: Mypt) -> None:
    for words in PAGES:
        wide, shown = (mypt(*words, "--width", str(columns), ok=False) for columns in (400, width))
        sentences = {NUMBER.sub("#", line).rstrip() for line in wide.output.splitlines()}
        for line in shown.output.splitlines():
            assert cell_len(line.rstrip()) <= width or NUMBER.sub("#", line).rstrip() in sentences, (words, line)
            assert "…" not in ABBREVIATED.sub("", line), (words, line)


@pytest.mark.parametrize("max_iters", [10, 1000, 75_000, 1_000_000])
@pytest.mark.parametrize("width", [30, 45, 60, 80, 100, 140])
def test_the_bar_shows_what_there_is_room_for(width: int, max_iters: int) -> None:
    shown = ShownConsole(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    observer = ConsoleObserver(shown, "m")
    observer.started(0, max_iters, 1000)
    observer.evaluating(200, 200)
    observer.stepped(max_iters - 1, 10.1234)
    assert observer._bar is not None
    row = "".join(segment.text for segment in shown.render(observer._bar.get_renderable()))
    observer.close()
    assert "…" not in row and all(cell_len(line) <= width for line in row.splitlines())
    assert f"{max_iters - 1}/{max_iters}" in row and "loss 10.1234" in row
    assert ("left" in row or width < 60) and ("tok/s" in row or width < 80)


@pytest.mark.parametrize("width", [30, 77, 78])
def test_a_reproduction_that_has_no_room_for_a_line_has_one_for_each_figure(width: int) -> None:
    shown = ShownConsole(file=io.StringIO(), width=width)
    observer = ReproduceConsole(shown, "m")
    observer.compared(Compared(300, 1.5, 1.5, 1.25, 1.25))
    assert isinstance(shown.file, io.StringIO)
    lines = shown.file.getvalue().splitlines()
    assert max(map(len, lines)) <= width and len(lines) == (2 if width == 78 else 6)
