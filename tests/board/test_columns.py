"""The columns of a log, and what of them is drawn."""

import json
import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mypt.board import index
from mypt.board.decimate import buckets, chosen, smoothed
from mypt.board.index import Columns, LogIndex
from mypt.board.series import View, marks_of, series_of
from mypt.log.run_record import read_run
from mypt.schema.settings.training import TrainingConfig
from mypt.train.optim.schedule import learning_rate_at
from tests.board.runs import course, evaluation, grow, start, step, write_log

VALUES = st.lists(st.floats(-1e6, 1e6) | st.sampled_from([math.nan, math.inf, -math.inf]), min_size=1, max_size=300)


def read_all(path: Path, run_id: str | None = None) -> LogIndex:
    found = LogIndex(path, run_id)
    found.read(60)
    assert found.share == 1.0
    return found


@given(VALUES, st.integers(1, 40))
def test_of_each_part_both_extremes_both_ends_and_a_gap_are_kept(values: list[float], count: int) -> None:
    borders = buckets(float, 0, len(values), count)
    kept = chosen(values, borders)
    assert kept == sorted(set(kept)) and len(kept) <= 5 * count
    assert borders[0] == 0 and borders[-1] == len(values) and borders == sorted(borders)
    for low, high in pairwise(borders):
        part, of_it = values[low:high], [values[i] for i in kept if low <= i < high]
        if not part:
            assert not of_it
            continue
        known = [value for value in part if math.isfinite(value)]
        if known:
            assert {min(known), max(known)} <= set(of_it)
        assert {low, high - 1} <= set(kept)
        assert any(not math.isfinite(v) for v in of_it) == (len(known) < len(part))


@given(VALUES)
def test_parts_no_fuller_than_what_is_kept_of_them_lose_nothing(values: list[float]) -> None:
    assert chosen(values, buckets(float, 0, len(values), len(values))) == list(range(len(values)))


@given(st.lists(st.floats(-1e3, 1e3) | st.just(math.nan), max_size=50), st.floats(0, 0.99))
def test_a_moving_average_is_the_weighted_mean_of_what_came_so_far(values: list[float], weight: float) -> None:
    for end, mean in enumerate(smoothed(values, weight), 1):
        known = [value for value in values[:end] if not math.isnan(value)]
        if math.isnan(values[end - 1]):
            assert math.isnan(mean)
            continue
        weights = [weight ** (len(known) - 1 - i) for i in range(len(known))]
        expected = sum(w * v for w, v in zip(weights, known, strict=True)) / sum(weights)
        assert mean == pytest.approx(expected, rel=1e-6, abs=1e-6)


@st.composite
def sessions(draw: st.DrawFn) -> list[dict[str, Any]]:
    """A log of several sessions, of which later ones may start before what earlier ones reached."""
    events: list[dict[str, Any]] = []
    at = highest = 0
    for attempt in range(1, draw(st.integers(1, 4)) + 1):
        at = draw(st.integers(0, highest)) if attempt > 1 else 0
        events.append(start(at, attempt))
        session = at
        for number in range(at + 1, at + draw(st.integers(1, 30))):
            at = number
            if draw(st.booleans()):
                events.append(step(number, draw(st.floats(0, 9))))
            if number % 5 == 0:
                made = evaluation(number, draw(st.floats(0, 9)), eval_poems=1.0 if draw(st.booleans()) else None)
                events.append({**made, "elapsed_s": (number - session) / 2})
                if draw(st.booleans()):
                    mark = {"event": "gold_checkpoint", "iter": number, "timestamp": "2026-03-14T09:15:18.1"}
                    events.append({**mark, "val_loss": 1.0, "prev_best": None, "run_id": made["run_id"], "attempt": 1})
        highest = max(at, session)
    return events


@given(sessions())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_columns_hold_what_every_other_reader_calls_live(tmp_path: Path, events: list[dict[str, Any]]) -> None:
    log = write_log(tmp_path / "a_eval.jsonl", events)
    columns, run = read_all(log).columns, read_run(str(log), tmp_path)
    evals = columns.evals
    assert list(evals["step"]) == [p.step for p in run.curve]
    assert list(evals["seconds"]) == [p.seconds for p in run.curve]
    if run.curve:
        assert list(evals["val_loss"]) == [p.val_loss for p in run.curve]
        drawn = {s["name"]: s for s in series_of(columns, View("tokens"))}
        assert (drawn["loss"]["step"] if "loss" in drawn else []) == [p.step for p in run.steps]
        for axis in ("tokens", "time"):
            told = {s["name"]: s for s in series_of(columns, View(axis))}
            placed = [p.tokens if axis == "tokens" else p.seconds for p in run.steps]
            assert told.get("loss", {"x": []})["x"] == pytest.approx(placed)
        assert [m["step"] for m in marks_of(columns, View()) if m["kind"] == "gold"] == run.gold
    assert all(len(column) == len(evals["step"]) for column in evals.values())


@given(sessions(), st.lists(st.integers(1, 4000), max_size=8))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_log_that_is_followed_is_read_as_one_that_is_read_at_once(
    tmp_path: Path, events: list[dict[str, Any]], cuts: list[int]
) -> None:
    whole = write_log(tmp_path / "whole.jsonl", events).read_bytes()
    log = tmp_path / "growing.jsonl"
    log.write_bytes(b"")
    first = whole.index(b"\n") + 1
    with log.open("ab") as file:
        file.write(whole[:first])
    followed, done = LogIndex(log), first
    for cut in [*cuts, len(whole)]:  # in the middle of lines too
        with log.open("ab") as file:
            file.write(whole[done : done + cut])
        done += cut
        followed.read(60)
    at_once = read_all(tmp_path / "whole.jsonl").columns
    assert followed.share == 1.0
    assert json.dumps([followed.columns.marks, *_listed(followed.columns)]) == json.dumps(
        [at_once.marks, *_listed(at_once)]
    )


def _listed(columns: Columns) -> Sequence[dict[str, list[float]]]:
    return [{name: list(c) for name, c in held.items()} for held in (columns.evals, columns.steps)]


@pytest.mark.parametrize("evals", [1, 5, 9])
def test_a_log_in_the_place_of_another_is_read_anew(tmp_path: Path, evals: int) -> None:
    log = write_log(tmp_path / "a_eval.jsonl", course(5))
    found = read_all(log)
    log.unlink()
    write_log(log, [{**event, "timestamp": "2026-04-01T00:00:00.1"} for event in course(evals, run_id="another")])
    found.read(60)
    assert found.run_id == "another" and found.columns.reached == 10 * evals and found.share == 1
    write_log(log, course(1, run_id="another"))
    found.read(60)
    assert found.columns.reached == 10 and found.share == 1


def test_of_a_long_log_a_sample_of_all_is_drawn_until_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "SAMPLED", 50)
    log = write_log(tmp_path / "a_eval.jsonl", [start(), *(step(i, 3 - i / 2000) for i in range(1, 4001))])
    found = LogIndex(log)
    found.read(0)
    assert found.share < 0.2
    coarse = found.shown()
    assert 40 <= len(coarse.steps["step"]) <= 51 and coarse.steps["step"][-1] > 3800
    assert list(coarse.steps["step"]) == sorted(coarse.steps["step"])
    while found.share < 1:
        found.read(0.01)
    assert found.shown() is found.columns and len(found.columns.steps["step"]) == 4000


def test_a_range_that_fits_is_drawn_with_all_its_points(tmp_path: Path) -> None:
    losses = [round(math.sin(i), 6) for i in range(20_000)]
    log = write_log(tmp_path / "a_eval.jsonl", [start(), *(step(i, losses[i]) for i in range(1, 20_000))])
    columns = read_all(log).columns
    (whole,) = (s for s in series_of(columns, View("steps", points=400)) if s["name"] == "loss")
    assert not whole["exact"] and len(whole["x"]) <= 500
    assert min(whole["y"]) == min(losses[1:]) and max(whole["y"]) == max(losses[1:])
    (part,) = (s for s in series_of(columns, View("steps", 5000, 5100, points=400)) if s["name"] == "loss")
    assert part["exact"] and part["x"] == list(range(4999, 5102))
    assert part["y"] == losses[4999:5102]


def by_settings(lr: float, warmup: int, at: int = 0, attempt: int = 1, schedule: str = "cosine") -> dict[str, Any]:
    """The beginning of a session that tells how its learning rate moves."""
    event = start(at, attempt)
    told = {"max_iters": 400, "learning_rate": lr, "warmup_iters": warmup, "lr_schedule": schedule, "min_lr": None}
    return {**event, "config": {**event["config"], **told}}


def rates(events: list[dict[str, Any]], path: Path, view: View = View("steps")) -> dict[str, Any]:  # noqa: B008 - frozen
    columns = read_all(write_log(path / "a_eval.jsonl", events)).columns
    found: dict[str, Any] = next(s for s in series_of(columns, view) if s["name"] == "lr")
    return found


def test_the_learning_rate_is_that_of_every_step_by_the_settings_of_its_session(tmp_path: Path) -> None:
    first, second = (TrainingConfig(max_iters=400, learning_rate=lr, warmup_iters=20) for lr in (1e-2, 1e-3))
    expected = [learning_rate_at(i, first if i < 100 else second) for i in range(200)]
    events = [
        by_settings(1e-2, 20), {**evaluation(100, 2.0), "lr": expected[99]}, {**evaluation(150, 2.0), "lr": 9.0},
        by_settings(1e-3, 20, 100, 2), {**evaluation(200, 1.9), "lr": expected[199]},
    ]  # fmt: skip
    drawn = rates(events, tmp_path)
    assert drawn["step"] == list(range(1, 201)) and drawn["y"] == expected and drawn["exact"]
    part = rates(events, tmp_path, View("tokens", 32 * 90, 32 * 110))
    assert part["step"] == list(range(89, 112)) and part["y"] == expected[88:111]
    thin = rates(events, tmp_path, View("steps", points=50))
    assert not thin["exact"] and len(thin["step"]) < 60 and {1, 21, 100, 101, 200} <= set(thin["step"])
    assert max(thin["y"]) == max(expected)


def test_a_log_that_claims_to_begin_before_its_beginning_is_drawn(tmp_path: Path) -> None:
    log = write_log(tmp_path / "a_eval.jsonl", [start(-5), evaluation(0, 3.0), evaluation(10, 2.0)])
    (val,) = (s for s in series_of(read_all(log).columns, View("tokens")) if s["name"] == "val_loss")
    assert val["x"] == [0, 320]


@pytest.mark.parametrize("schedule", ["constant", None, "a word of another program"])
def test_rates_that_the_settings_do_not_give_are_those_of_the_log(tmp_path: Path, schedule: str) -> None:
    events = [by_settings(1e-2, 20, schedule=schedule), *({**evaluation(n, 2.0), "lr": n / 1e4} for n in (100, 200))]
    assert rates(events, tmp_path)["y"] == [0.01, 0.02]


def test_marks_say_what_happened_and_where(tmp_path: Path) -> None:
    more = {"timestamp": "2026-03-14T09:20:00.1", "run_id": start()["run_id"], "attempt": 1}
    switch = {"event": "phase_switch", "iter": 20, "elapsed_s": 10.0, "tokens_processed": 640, "new_phase": "late"}
    block = {"event": "gold_blocked", "iter": 30, "val_loss": 2.0, "best_val_loss": 2.5, "reason": "trend: 3 rises"}
    stop = {"event": "training_stopped", "iter": 50, "elapsed_s": 26.0, "tokens_processed": 1600, "reason": "SIGINT"}
    log = write_log(tmp_path / "a_eval.jsonl", course(5))
    grow(log, {**stop, **more}, start(50, 2), evaluation(60, 2.0), start(20, 3), {**switch, **more})
    grow(log, evaluation(30, 2.0), {**block, **more})
    marks = marks_of(read_all(log).columns, View("steps"))
    assert [(m["kind"], m["step"], m["text"]) for m in marks] == [
        ("phase", 0, "phase main from step 0"),
        ("phase", 20, "phase late from step 20"),
        ("gold", 10, "gold at step 10: val 2.9000"),
        ("gold", 20, "gold at step 20: val 2.8000"),
        ("rewind", 20, "rewound from step 60 to step 20"),
        ("blocked", 30, "gold blocked at step 30: trend: 3 rises"),
    ]
    assert [m["y"] for m in marks] == [2.9, 2.8, 2.9, 2.8, 2.8, 2.0]
