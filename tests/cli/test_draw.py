"""Curves in the terminal and as pictures: ticks, keys, glyphs, and that nothing hides anything."""

import re
import sys
from collections.abc import Callable
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.console import Console

from mypt.board import assets
from mypt.cli.draw import picture, terminal
from mypt.cli.draw.runs import Course
from mypt.cli.draw.ticks import ticks
from mypt.schema.settings.output import Axis
from mypt.schema.settings.training import TrainingConfig
from mypt.train.optim.schedule import learning_rate_at
from tests.board.runs import RUN_ID, columns_of, course, evaluation, start, step, write_log
from tests.conftest import Mypt, flat

SIZES = {"": 1, "K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12, "s": 1, "m": 60, "h": 3600, "d": 86400}
TRAINING = TrainingConfig(max_iters=400, learning_rate=1e-2, warmup_iters=40)
LONG = "a_name_that_nobody_would_give_a_run_but_that_somebody_has_given_it_all_the_same_in_2026"


def meant(label: str) -> float:
    """What a label of an axis says, as a number."""
    return sum(float(number) * SIZES[unit] for number, unit in re.findall(r"([\d.]+)([A-Za-z]?)", label))


@given(
    st.sampled_from(["tokens", "steps", "time"]), st.just(0) | st.integers(0, 10**9), st.floats(1e-3, 1e12),
    st.integers(3, 12),
)  # fmt: skip
@example("time", 0, 140.0, 5)
@example("tokens", 100_000, 3000.0, 5)
def test_ticks_differ_and_say_where_they_stand(axis: Axis, low: int, span: float, most: int) -> None:
    span = span if axis == "time" else max(1, round(span))
    found = ticks(low, low + span, axis, most)
    assert 1 <= len(found) <= most and (len(found) > 1 or (low and most < 6))
    labels = [label for _, label in found]
    assert len(set(labels)) == len(labels)
    assert all(place < next_place for (place, _), (next_place, _) in pairwise(found))
    for place, label in found:
        assert low <= place <= low + span or len(found) == 1
        assert len(found) == 1 or meant(label) == pytest.approx(place, rel=1e-9, abs=1e-9)


def told(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A run whose starts tell its learning rate, and whose evaluations have it."""
    settings = {"max_iters": 400, "learning_rate": 1e-2, "warmup_iters": 40, "lr_schedule": "cosine", "min_lr": None}
    for event in events:
        if event["event"] == "training_start":
            event["config"] = {**event["config"], **settings}
        elif "lr" in event:
            event["lr"] = learning_rate_at(event["iter"] - 1, TRAINING)
    return events


def eventful(run_id: str = RUN_ID) -> list[dict[str, Any]]:
    """Phases that follow closely, a stop, a resume, a rewind, blocks, an eval set and logged steps."""
    more = {"timestamp": "2026-03-14T09:20:00.1", "run_id": run_id, "attempt": 1}
    reached = {"elapsed_s": 10.0, "tokens_processed": 640}
    events = course(20, run_id)
    block = {"event": "gold_blocked", "val_loss": 2.0, "best_val_loss": 2.5, "reason": "trend: 3 rises", **more}
    phases = [
        {"event": "phase_switch", "iter": at, "new_phase": name, **reached, **more}
        for at, name in ((10, "early poems"), (12, "more"), (190, "the last of the long phases"))
    ]
    stop = {"event": "training_stopped", "iter": 200, "elapsed_s": 100.0, "tokens_processed": 6400, "reason": "SIGINT"}
    late = [{**evaluation(n, 1.2, run_id, eval_poems=3.0), "attempt": 3, "phase": "late"} for n in (250, 260, 270)]
    return told([
        *events, *phases, {**stop, **more}, start(200, 2, run_id), evaluation(260, 1.2, run_id), start(240, 3, run_id),
        *late, {**block, "iter": 250}, {**block, "iter": 260},
    ])  # fmt: skip


def drawn(folder: Path, *runs: tuple[str, list[dict[str, Any]]]) -> list[Course]:
    logs = [write_log(folder / f"{i}.jsonl", events) for i, (_, events) in enumerate(runs)]
    return [Course(name, columns_of(log)) for log, (name, _) in zip(logs, runs, strict=True)]


@pytest.fixture
def figure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Any]:
    """Draws a picture, and gives the figure that it is made of."""
    from matplotlib.figure import Figure

    found: list[Any] = []
    saved = Figure.savefig

    def kept(self: Any, *given: Any, **how: Any) -> None:
        found.append(self)
        saved(self, *given, **how)

    monkeypatch.setattr(Figure, "savefig", kept)

    def made(runs: list[Course], axis: Axis = "tokens", verdict: str | None = None) -> Any:
        picture.draw(runs, axis, tmp_path / "x.png", verdict)
        return found[-1]

    return made


def texts(figure: Any) -> list[Any]:
    """The texts that are seen: not those of ticks beyond the frame."""
    from matplotlib.text import Text

    figure.canvas.draw()
    beyond = []
    for axis in (axis for plot in figure.axes for axis in (plot.xaxis, plot.yaxis)):
        low, high = axis.get_view_interval()
        beyond += [t.label1 for t in axis.get_major_ticks() if not low <= t.get_loc() <= high]
    return [t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip() and t not in beyond]


@pytest.mark.parametrize(("axis", "count"), [("tokens", 1), ("time", 1), ("time", 3), ("tokens", 30)])
def test_in_a_picture_nothing_lies_over_a_text_or_is_cut_off(
    axis: Axis, count: int, figure: Callable[..., Any], tmp_path: Path
) -> None:
    runs = drawn(tmp_path, *((f"{LONG}{i}" if i % 2 else f"_run_${i}$", eventful()) for i in range(count)))
    made = figure(runs, axis, "Comparable.")
    width, height = made.get_size_inches() * made.dpi
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts(made)]
    for text, box in boxes:
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height, text
    for (one, a), (other, b) in combinations(boxes, 2):
        assert min(a.x1, b.x1) - max(a.x0, b.x0) < 1 or min(a.y1, b.y1) - max(a.y0, b.y0) < 1, (one, other)
    if count == 1:
        above = made.axes[0]
        top = max(y for line in above.lines for y in line.get_ydata() if line.get_marker() in picture.SYMBOLS)
        for label in above.texts:
            frame, place = above.get_window_extent(), label.get_window_extent()
            assert frame.x0 <= place.x0 and place.x1 <= frame.x1 and place.y1 <= frame.y1 + 1
            assert place.y0 > above.transData.transform((0, top))[1]
        assert [label.get_text().strip() for label in above.texts] == [
            "main", "early poems", "more", "the last of the long…",
        ]  # fmt: skip


def test_a_picture_has_a_title_an_entry_a_run_and_a_key(figure: Callable[..., Any], tmp_path: Path) -> None:
    made = figure(drawn(tmp_path, ("a", eventful()), ("b", course(20))), verdict="Comparable.")
    assert made.axes[0].get_title(loc="left") == "a, b\nComparable."
    runs, key = ([text.get_text() for text in legend.get_texts()] for legend in made.legends)
    assert runs == ["a", "b"]
    assert key == [
        "val", "train", "steps", "poems", "gold", "gold blocked", "resumed", "rewound", "stopped", "phase",
    ]  # fmt: skip
    alone = figure(drawn(tmp_path, ("b", course(20))))
    assert [text.get_text() for text in alone.legends[1].get_texts()] == ["val", "train", "steps", "poems", "gold"]
    poems = [line for line in alone.axes[0].lines if list(line.get_ydata()) == [3.5] * 20]
    assert len(poems) == 1


def test_the_learning_rate_of_a_picture_is_that_of_every_step(figure: Callable[..., Any], tmp_path: Path) -> None:
    made = figure(drawn(tmp_path, ("a", told([start(), evaluation(200, 2.0)]))), "steps")
    (line,) = made.axes[1].lines
    assert list(line.get_xdata()) == list(range(1, 201))
    assert list(line.get_ydata()) == [learning_rate_at(i, TRAINING) for i in range(200)]


@pytest.mark.parametrize("width", [40, 60, 80, 140])
@pytest.mark.parametrize("axis", ["tokens", "steps", "time"])
def test_without_colour_curves_differ_by_glyph_and_nothing_is_wider_than_asked(
    width: int, axis: Axis, tmp_path: Path
) -> None:
    falling = [[start(), *(evaluation(n, at - n / 1000) for n in range(10, 500, 10))] for at in (9, 7, 5)]
    runs = drawn(tmp_path, *zip(("a", "b", LONG), falling, strict=True))
    text = terminal.plot(runs, axis, width, colour=False)
    assert "\x1b" not in text
    lines = text.splitlines()
    assert all(len(line) <= width for line in lines)
    canvas = "".join(line.partition("┤" if "┤" in line else "│")[2] for line in lines if "│" in line)
    signs = {name: re.search(rf"(\S)\1 {name}", text) for name in ("a", "b", LONG[:20])}
    glyphs = {sign[1] for sign in signs.values() if sign is not None}
    assert len(glyphs) == 3 and glyphs <= set(canvas)
    end = max(x for run in runs for x in run.series(axis, 100)["val_loss"]["x"])
    for _, label in ticks(0.0, end, axis, max(3, width // terminal.LABEL)):
        assert re.search(rf"(^| ){re.escape(label)}( |$)", text, re.MULTILINE), label
    coloured = terminal.plot(runs, axis, width, colour=True)
    assert "\x1b[" in coloured and re.search("[\u2801-\u28ff]", coloured)


def test_train_and_val_of_one_run_differ_by_glyph_too(tmp_path: Path) -> None:
    text = terminal.plot(drawn(tmp_path, ("a", course(20))), "steps", 80, colour=False)
    assert re.findall(r"(\S\S?) (a \w+|gold)", text.splitlines()[0]) == [
        ("''", "a steps"), ("..", "a train"), ("oo", "a val"), ("★", "gold"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("environment", "coloured"),
    [({"TERM": "xterm"}, True), ({"TERM": "xterm", "NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)],
)
def test_a_terminal_that_wants_no_colour_gets_none(environment: dict[str, str], *, coloured: bool) -> None:
    assert terminal.coloured(Console(force_terminal=True, _environ=environment)) == coloured
    assert not terminal.coloured(Console(force_terminal=False, _environ=environment))


@pytest.mark.parametrize(
    ("form", "package", "extra"),
    [("html", "plotly", "board"), ("png", "matplotlib", "plot"), (None, "plotext", "plot")],
)
@pytest.mark.parametrize("call", [("logs", "plot"), ("compare",)])
def test_what_is_not_installed_is_named_before_anything_is_read(
    form: str | None, package: str, extra: str, call: tuple[str, ...], mypt: Mypt, monkeypatch: pytest.MonkeyPatch
) -> None:
    if package == "plotly":
        monkeypatch.setattr(assets, "find_spec", lambda _: None)
    else:
        monkeypatch.setitem(sys.modules, package, None)
    how = ["--out", f"x.{form}"] if form else [] if call[0] == "logs" else ["--plot"]
    refused = mypt(*call, "nobody", "nowhere", *how, ok=False)  # which are not there
    assert refused.exit_code == 2 and f"needs {package}, which is not installed." in flat(refused.stderr)
    assert f"pip install 'mypt[{extra}]'" in flat(refused.stderr)


def test_a_run_that_has_logged_steps_alone_is_drawn(mypt: Mypt) -> None:
    path = str(write_log(Path("x.jsonl"), [start(), *(step(n, 3 - n / 100) for n in range(1, 40))]))
    assert "x steps" in mypt("logs", "plot", path).output
    for form in ("png", "html"):
        assert "Saved" in mypt("logs", "plot", path, "--out", f"x.{form}").output
    empty = str(write_log(Path("y.jsonl"), [start()]))
    assert "There is nothing to draw of y." in flat(mypt("logs", "plot", path, empty, ok=False).stderr)
