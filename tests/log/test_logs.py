"""`mypt logs`: figures of logs by hand and by strangers, pages, following, exports."""

import csv
import io
import json
import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, get_args

import pyarrow.parquet as parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]
from tensorboard.util.tensor_util import make_ndarray  # type: ignore[import-untyped]

from mypt.board.report import _run
from mypt.checkpoint.lock import locked
from mypt.cli.draw import terminal
from mypt.cli.draw.runs import Course
from mypt.cli.render.events import CRASHED, Follower, events_table
from mypt.cli.render.summary import sparkline, summary_page
from mypt.errors import InputError
from mypt.log.export import event_table
from mypt.log.figures import LossPoint, Summary
from mypt.log.locate import FoundLog
from mypt.log.reader import LineParser, SkippedLines, read_events
from mypt.log.replay import Replay
from mypt.log.run_record import read_run
from mypt.log.summary import EVALUATE_GOLD, HEALTHY, summarize
from mypt.log.writer import RunLog
from mypt.schema.base import to_json_text
from mypt.schema.files.events import EVENTS, Eval, GoldCheckpoint
from mypt.schema.files.log_line import Event
from mypt.schema.settings.output import Axis
from tests.board.runs import columns_of
from tests.conftest import Mypt, flat
from tests.strategies import WORDS, built
from tests.test_structure import HEAVY, run_python

SUMMARY = TypeAdapter(Summary)
EXAMPLES = """\
{"event": "training_start", "timestamp": "2026-02-09T14:30:00.123456", "config": {"max_iters": 75000, "start_step": 0, \
"learning_rate": 0.00015, "warmup_iters": 3750, "grad_clip": 1.0, "grad_accum_steps": 8, "batch_size": 12, \
"block_size": 1024, "tokens_per_step": 98304, "eval_interval": 350, "eval_iters": 200, "use_amp": true, \
"amp_dtype": "bf16", "config_file": "configs/base/750M_unified_v1.json", "dataset_dir": "data/unified_phase1_circuit"}\
, "model": {"total_params": 699000000, "n_layer": 32, "n_head": 20, "n_embd": 1280, "pos_encoding": "rope", \
"mlp_type": "swiglu", "norm_type": "rmsnorm"}}
{"event": "eval", "iter": 350, "timestamp": "2026-02-09T14:45:12.654321", "elapsed_s": 912.5, \
"tokens_processed": 34406400, "progress_pct": 0.47, "lr": 0.000014, "phase": "circuit_formation", \
"val_loss": 4.123456, "eval_general": 4.234567, "eval_domain": 4.345678, "eval_code": 3.987654, \
"eval_retrieval": 4.56789, "eval_duration_s": 12.3}
{"event": "eval", "iter": 1000, "timestamp": "2026-02-09T15:22:04", "elapsed_s": 1680.0, \
"tokens_processed": 98304000, "progress_pct": 1.33, "lr": 4e-5, "phase": "balanced", "val_loss": 2.45, \
"eval_general": 2.89, "eval_domain": 3.12, "eval_duration_s": 8.5}
{"event": "gold_checkpoint", "iter": 1050, "timestamp": "2026-02-09T15:12:44.333444", "val_loss": 3.876543, \
"prev_best": 3.912345}
{"event": "phase_switch", "iter": 9125, "timestamp": "2026-02-09T18:22:33.111222", "elapsed_s": 13953.0, \
"tokens_processed": 897024000, "new_phase": "balanced"}
{"event": "gold_blocked", "iter": 50000, "timestamp": "2026-02-10T02:15:55.666777", "val_loss": 3.654321, \
"best_val_loss": 3.7, "reason": "overfit: val/train=6.2x, threshold=5.0x"}
{"event": "training_complete", "timestamp": "2026-02-10T08:30:00.999888", "started_at": "2026-02-09T14:30:00.123456", \
"total_elapsed_s": 64800.0, "total_elapsed_h": 18.0, "total_steps": 75000, "total_tokens": 7372800000, \
"steps_per_sec": 1.16, "tokens_per_sec": 113778, "final_train_loss": 2.987654, "final_val_loss": 3.123456, \
"best_val_loss": 3.1, "gold_step": 72000, "config_file": "configs/base/750M_unified_v1.json", \
"dataset_dir": "data/unified_phase1_circuit"}
"""
"""The example events of the file format, one a line."""
START: dict[str, Any] = json.loads(EXAMPLES.splitlines()[0])


def clock(step: int) -> str:
    return f"2026-01-01T{step // 3600:02d}:{step // 60 % 60:02d}:{step % 60:02d}.000000"


def start(step: int = 0, run: str | None = "r", attempt: int = 1) -> str:
    config = {**START["config"], "start_step": step, "max_iters": 100}
    return json.dumps({**START, "config": config, "run_id": run, "attempt": attempt})


def evaluation(step: int, loss: float, run: str | None = "r", **more: object) -> str:
    figures = {"elapsed_s": float(step), "tokens_processed": 100 * step, "progress_pct": 1.0, "lr": 0.001}
    content = {"event": "eval", "iter": step, "timestamp": clock(step), **figures, "phase": "main", "val_loss": loss}
    return json.dumps({**content, "eval_duration_s": 0.5, "run_id": run, "attempt": 1, **more})


def event(name: str, step: int, run: str | None = "r", **more: object) -> str:
    return json.dumps({"event": name, "iter": step, "timestamp": clock(step), "run_id": run, **more})


def written(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def eventful(path: Path) -> Path:
    """A run with a bit of everything."""
    lines = [start()]
    for step in range(10, 110, 10):
        loss = 4 - step / 30 if step <= 60 else 2 + (step - 50) / 20
        late = step + (500 if step > 80 else 0)
        sets: dict[str, Any] = {"eval_general": 3 + step / 100, "train_loss": 4 - step / 40, "val_se": 0.01}
        lines.append(evaluation(step, round(loss, 4), elapsed_s=float(late), **sets))
        if step <= 60:
            lines.append(event("gold_checkpoint", step, val_loss=round(loss, 4), prev_best=None))
    reason = "overfit: val/train=6.2x, threshold=5.0x"
    lines += [event("gold_blocked", s, val_loss=1.9, best_val_loss=2.0, reason=reason) for s in range(80, 90)]
    lines += [event("output_lost", 98, reason="Broken pipe")]
    lines += [event("batch_skipped", 99, loss="nan", windows=[[0]]), "srun: aborted", '{"event": "eva']
    lines.append(event("training_stopped", 100, elapsed_s=601.0, tokens_processed=10_000, reason="SIGTERM"))
    return written(path, *lines)


def test_the_example_events_of_the_format_come_to_the_right_figures(tmp_path: Path) -> None:
    s = summarize(written(tmp_path / "examples.jsonl", *EXAMPLES.splitlines()))
    assert (s.state, s.run_id, s.step, s.max_iters, s.tokens) == ("complete", None, 75000, 75000, 7372800000)
    assert (s.val_loss.start, s.val_loss.best, s.val_loss.best_step, s.val_loss.se) == (4.123456, 2.45, 1000, None)
    assert s.train_loss is None and list(s.eval_sets) == ["general", "domain", "code", "retrieval"]
    assert s.eval_sets["general"].change_pct == round(100 * (2.89 / 4.234567 - 1), 2)
    assert (s.time.elapsed_s, s.time.evaluating_s, s.time.training_s) == (64800.0, 20.8, None)
    assert s.tokens_per_s.overall == round(98304000 / 1680, 1)
    assert s.gold.count == 1 and s.gold.blocked_by == {"overfit": 1} and s.advice == [EVALUATE_GOLD]
    assert [(p.name, p.after_step) for p in s.phases] == [("circuit_formation", 0), ("balanced", 350)]
    assert asdict(s.passed_over) == {"torn": 0, "foreign": 0, "binary": 0}


def test_every_sign_is_found(tmp_path: Path) -> None:
    s = summarize(eventful(tmp_path / "x.jsonl"))
    assert s.state == "stopped" and (s.attempts[0].end_step, s.attempts[0].reason) == (100, "SIGTERM")
    assert (s.val_loss.best_step, s.signs.overfit_after, s.signs.rising) == (60, 60, 4)
    assert (s.signs.spikes.first[0].step, s.signs.spikes.first[0].before) == (70, 2.0)
    assert [(x.step, x.gap_s, x.usual_s) for x in s.signs.stalls.first] == [(90, 510.0, 10.0)]
    assert s.signs.batches_skipped == 1 and s.gold.count == 6
    assert s.gold.blocked.count == 10
    assert [b.step for b in [*s.gold.blocked.first, *s.gold.blocked.last]] == list(range(80, 90))
    assert (s.passed_over.torn, s.passed_over.foreign) == (1, 1)


def test_a_healthy_run_and_an_early_block_get_the_advice_of_the_docs(tmp_path: Path) -> None:
    gold = event("gold_checkpoint", 10, val_loss=3.0, prev_best=None)
    healthy = summarize(written(tmp_path / "a.jsonl", start(), evaluation(10, 3.0), gold))
    assert healthy.advice == [HEALTHY]
    block = event("gold_blocked", 20, val_loss=2.0, best_val_loss=3.0, reason="trend: 2 consecutive val rises")
    early = summarize(written(tmp_path / "b.jsonl", start(), evaluation(10, 3.0), gold, evaluation(20, 2.0), block))
    assert "at step 20: LR is too high or dataset coverage is too high" in early.advice[0]


def test_sessions_supersede_and_runs_stay_apart(tmp_path: Path) -> None:
    switch: dict[str, Any] = {"elapsed_s": 1.0, "tokens_processed": 1, "new_phase": "late"}
    lines = [
        *(start(), evaluation(10, 3.0), event("phase_switch", 10, **switch), evaluation(20, 9.0), evaluation(30, 9.5)),
        *(start(run="other"), evaluation(10, 1.0, run="other")),
        *(start(10, attempt=2), evaluation(20, 2.5, elapsed_s=10.0, phase="late"), evaluation(30, 2.25)),
    ]
    path = written(tmp_path / "x.jsonl", *lines)
    s = summarize(path)
    assert (s.run_id, s.runs, s.rewinds, s.evaluations) == ("r", 2, 1, 3)
    assert [a.start_step for a in s.attempts] == [0, 10]
    assert [p.loss for p in s.curve] == [3.0, 2.5, 2.25]
    assert summarize(path, "other").val_loss.best == 1.0
    live = [(e["event"], e.get("iter")) for e in Replay(path).live()]
    assert live == [
        *(("training_start", None), ("eval", 10), ("training_start", None), ("eval", 20), ("eval", 30)),
    ]


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(junk=st.lists(st.tuples(st.integers(0, 40), st.binary(max_size=30) | st.text(max_size=30)), max_size=12))
def test_foreign_lines_never_change_a_figure(junk: list[tuple[int, bytes | str]], tmp_path: Path) -> None:
    clean = eventful(tmp_path / "clean.jsonl")
    expected = summarize(clean)
    lines = clean.read_bytes().splitlines()
    for place, content in junk:
        raw = content.encode("utf-8", "replace") if isinstance(content, str) else content
        lines.insert(place, raw.replace(b"\n", b" "))
    spoilt = tmp_path / "spoilt.jsonl"
    spoilt.write_bytes(b"\n".join(lines) + b"\n")
    found = summarize(spoilt)
    assert replace(found, log=expected.log, passed_over=expected.passed_over) == expected


def refused(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


ANY_EVENT = st.one_of([built(model) for model in EVENTS.values()])


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(event=ANY_EVENT, extra=st.floats() | st.none(), word=WORDS)
def test_every_event_that_is_written_is_read(event: Event, extra: float | None, word: str, tmp_path: Path) -> None:
    path, skipped = tmp_path / "x.jsonl", SkippedLines()
    path.unlink(missing_ok=True)
    event = type(event).model_validate({**dict(event), "eval_general": extra, "general_se": extra, "note": word})
    RunLog(path, "r", 2).append(event)
    (found,) = read_events(path, skipped)
    line = json.loads(path.read_bytes(), parse_constant=refused)
    assert skipped.total == 0 and list(line.items())[-2:] == [("run_id", "r"), ("attempt", 2)]
    assert repr(found) == repr({**event.model_dump(), "run_id": "r", "attempt": 2})  # as words: no nan equals another
    assert ("nonfinite" in line) == any(isinstance(v, float) and not math.isfinite(v) for v in found.values())
    read_back = type(event).model_validate(found, strict=True)
    assert {name: type(value) for name, value in read_back} == {name: type(value) for name, value in event} | {
        "run_id": str, "attempt": int,
    }  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=st.lists(ANY_EVENT, min_size=1, max_size=6))
def test_whatever_is_logged_can_be_told(events: list[Event], tmp_path: Path) -> None:
    lines = [json.dumps({**e.model_dump(), "run_id": "r", "attempt": 1}) for e in events]
    path = written(tmp_path / "x.jsonl", *lines)
    console = Console(width=80, file=io.StringIO())
    summary, run = summarize(path), read_run(str(path), tmp_path)
    console.print(summary_page(summary, 80), events_table(Replay(path).live()))
    assert json.loads(to_json_text(summary))["evaluations"] == len(run.curve)
    course = Course("x", columns_of(path))
    for axis in get_args(Axis):
        assert terminal.plot([course], axis, 80, colour=False)
        assert json.dumps(_run(0, "x", course.columns, axis, 100), allow_nan=False)
    assert list(Follower(FoundLog(path), 5).lines(on=False)) is not None


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3), st.just(10**30), st.just(-(2**63)),
    st.just(2**63), st.just([]), st.just({}), st.just([[1, 10**30]]),
)  # fmt: skip
KEYS = st.sampled_from(
    ["run_id", "attempt", "eval_general", "eval_duration_s", "train_loss", "lr", "iter", "x", "event"]
)


@settings(max_examples=500)
@given(
    lines=st.lists(
        st.tuples(
            st.sampled_from(EXAMPLES.splitlines()),
            st.dictionaries(KEYS, SCALARS, max_size=3),
            st.lists(KEYS, max_size=1),
        ),
        max_size=8,
    )
)
def test_the_reader_takes_what_the_models_take(lines: list[tuple[str, dict[str, Any], list[str]]]) -> None:
    parser = LineParser(SkippedLines())
    for example, changes, left_out in lines * 2:
        content = {k: v for k, v in (json.loads(example) | changes).items() if k not in left_out}
        line = json.dumps(content).encode()
        try:
            EVENTS[content["event"]].model_validate(from_json(line), strict=True)
            fits = True
        except (KeyError, TypeError, ValidationError):
            fits = False
        assert (parser.parse(line) is not None) == fits, line


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (b'{"event": "eval", "iter": 1', "torn"),
        (b"null", "foreign"),
        (b"[1, 2]", "foreign"),
        (b'{"event": ["eval"]}', "foreign"),
        (b'{"event": "eval", "iter": "1"}', "foreign"),
        (evaluation(1, 2.0).replace('"r"', "{}").encode(), "foreign"),
        (EXAMPLES.splitlines()[1].replace("4.123456", '"low"').encode(), "foreign"),
        (evaluation(1, 2.0, nonfinite={"val_loss": "nan"}).encode(), "foreign"),
        (evaluation(1, 2.0, train_loss=None, nonfinite={"train_loss": "big"}).encode(), "foreign"),
        (evaluation(1, 2.0, train_loss=None, nonfinite=["train_loss"]).encode(), "foreign"),
        (EXAMPLES.splitlines()[0].replace('"start_step": 0', '"start_step": null').encode(), "foreign"),
        (evaluation(1, 2.0).replace('"r"', '"r", "attempt": true').replace(', "attempt": 1', "").encode(), "foreign"),
        (evaluation(1, 2.0, eval_general="low").encode(), "foreign"),
        (evaluation(10**30, 2.0).encode(), "foreign"),
        (evaluation(1, 10**400).encode(), "foreign"),
        (b'{"event": "eval", "iter": ' + b"1" * 10_000 + b"}", "torn"),
        (b'{"event": ' + b"[" * 100_000, "torn"),
        (b"[" * 100_000, "foreign"),
        (b'{"event": "\\ud800"}', "foreign"),
        (b"\xff\xfe", "binary"),
        (b"\x00" * 100, "binary"),
    ],
)  # fmt: skip
def test_lines_that_are_no_events_are_told_apart(line: bytes, kind: str, tmp_path: Path) -> None:
    path, passed = tmp_path / "x.jsonl", SkippedLines()
    path.write_bytes(line + b"\n\n" + evaluation(1, 2.0).encode())
    assert [e["iter"] for e in read_events(path, passed)] == [1]
    assert passed == SkippedLines(**{kind: 1})


def test_a_val_loss_that_an_earlier_version_wrote_as_null_is_no_number(tmp_path: Path) -> None:
    lines = [evaluation(1, 2.0), evaluation(2, 3.5).replace("3.5", "null"), evaluation(3, 3.5).replace("3.5", "NaN")]
    path, passed = written(tmp_path / "x.jsonl", *lines), SkippedLines()
    assert [math.isnan(e["val_loss"]) for e in read_events(path, passed)] == [False, True, True]
    assert passed.total == 0 and summarize(path).signs.losses_not_finite == 2


NAMED = {"val_loss": "val", "train_loss": "train", "eval_poems": "poems"}


@pytest.mark.parametrize("broken", [*NAMED])
@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_number_is_shown_by_every_reader(broken: str, number: float, mypt: Mypt) -> None:
    log = RunLog(Path("logs/train/x_eval.jsonl"), "r")
    for step, loss in ((1, 2.0), (2, 1.5), (3, number)):
        losses = {"val_loss": 2.0 / step, "train_loss": 2.0, "eval_poems": 2.0, broken: loss}
        log.append(Eval.model_validate(json.loads(evaluation(step, 2.0, attempt=None)) | losses))
        best = GoldCheckpoint(iter=step, timestamp="2026-02-09T14:45:12", val_loss=2.0 / step, prev_best=None)
        log.append(best)
    summary = json.loads(mypt("logs", "summarize", "x", "--json").output)
    assert summary["passed_over"] == {"torn": 0, "foreign": 0, "binary": 0} and summary["evaluations"] == 3
    assert summary["signs"]["losses_not_finite"] == 1
    page = flat(mypt("logs", "summarize", "x").output)
    assert (
        f"no number once a loss was not finite: {NAMED[broken]} at step 3" in page
        and "Losses are not finite from step 3 on" in page
    )
    assert "healthy" not in page
    shown = mypt("logs", "show", "x", "--event", "eval").output
    heads, *_, last = [line.split() for line in shown.splitlines() if line.strip()]
    assert last[heads.index(NAMED[broken])] == f"{number}"
    line = json.loads(mypt("logs", "show", "x", "--event", "eval", "--json").output.splitlines()[-1])
    assert line[broken] is None and line["nonfinite"] == {broken: str(number)} and [*line][-2:] == ["run_id", "attempt"]
    told = mypt("logs", "tail", "x", "--no-follow").output.splitlines()
    assert any(f"{number}" in line for line in told)
    mypt("logs", "export", "x", "--csv", "x.csv", "--parquet", "x.parquet", "--tensorboard", "tb")
    assert repr(
        float(list(csv.DictReader(Path("x.csv").read_text(encoding="utf-8").splitlines()))[-1][broken])
    ) == repr(number)
    assert repr(parquet.read_table("x.parquet")[broken].to_pylist()[-1]) == repr(number)
    assert "x: A loss was not finite at step 3." in mypt("logs", "plot", "x").output
    assert "x: A loss was not finite at step 3." in mypt("logs", "plot", "x", "--out", "x.svg").output
    compared = json.loads(mypt("compare", "x", "x", "--json").output)
    assert compared["runs"][0]["missing"][-1] == "A loss was not finite at step 3."


def logged_step(step: int, run: str | None = "r", **more: object) -> str:
    figures = {"loss": 5.0 - step / 100, "lr": 0.001, "grad_norm": 1.0 + step, "tokens_per_sec": 1000}
    return event("step", step, run, **{**figures, **more})


@st.composite
def histories(draw: st.DrawFn) -> list[str]:
    """The log of a run in sessions, each of which starts anywhere up to where the one before ended; and of another."""
    lines, reached = [], 0
    for attempt in range(1, draw(st.integers(1, 4)) + 1):
        first = draw(st.integers(0, reached))
        lines.append(start(first, attempt=attempt))
        reached = first + draw(st.integers(0, 12))
        for step in range(first, reached + 1):
            if step > first:
                lines += [logged_step(step)] if draw(st.booleans()) else []
                lines += [event("batch_skipped", step, loss="nan", windows=[[0]])] if draw(st.booleans()) else []
                lines += [event("output_lost", step, reason="Broken pipe")] if draw(st.booleans()) else []
            if step > first and step % 3 == 0:
                lines.append(evaluation(step, 4.0 - step / 10, attempt=attempt, phase=draw(st.sampled_from("ab"))))
                lines += [event("gold_checkpoint", step, val_loss=1.0, prev_best=None)] if draw(st.booleans()) else []
            if draw(st.integers(0, 5)) == 0:
                switch: dict[str, Any] = {
                    "elapsed_s": float(step),
                    "tokens_processed": 1,
                    "new_phase": draw(st.sampled_from("ab")),
                }
                lines.append(event("phase_switch", step, **switch))
            if draw(st.integers(0, 9)) == 0:
                lines += [evaluation(step, 1.0, run="other"), "torn"]
        if draw(st.booleans()):
            ends: dict[str, Any] = {"elapsed_s": 1.0, "tokens_processed": 1, "reason": "SIGTERM"}
            lines.append(event("training_stopped", reached, **ends))
    return lines


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=histories())
def test_all_readers_agree_on_what_is_live(lines: list[str], tmp_path: Path) -> None:
    path = written(tmp_path / "x.jsonl", *lines)
    events = [e for e in read_events(path) if e["run_id"] == "r"]
    live = []
    for number, e in enumerate(events):
        step = e.get("iter", 0) + (e["event"] == "phase_switch")
        later = [x["config"]["start_step"] for x in events[number + 1 :] if x["event"] == "training_start"]
        live += [e] if all(step <= first for first in later) else []
    assert list(Replay(path).live()) == live

    def steps(name: str) -> list[int]:
        return [e["iter"] for e in live if e["event"] == name]

    summary, run, evals = summarize(path), read_run(str(path), tmp_path), steps("eval")
    assert (summary.evaluations, [p.step for p in summary.curve]) == (len(evals), evals)
    assert (summary.steps.count if summary.steps else 0) == len(steps("step"))
    counted = (summary.signs.batches_skipped, summary.signs.outputs_lost, summary.gold.count)
    assert counted == tuple(len(steps(name)) for name in ("batch_skipped", "output_lost", "gold_checkpoint"))
    assert [p.step for p in run.curve] == evals
    assert run.gold == (steps("gold_checkpoint") if evals else [])
    assert run.phases == ([(e["new_phase"], e["iter"]) for e in live if e["event"] == "phase_switch"] if evals else [])
    assert [p.step for p in run.steps] == (steps("step") if evals else [])
    assert evals == sorted(set(evals)) and steps("step") == sorted(set(steps("step")))
    for name in ("eval", "step"):
        assert not steps(name) or [row["iter"] for row in event_table(path, None, name).rows()] == steps(name)
    shown = [line for line in Follower(FoundLog(path), 1000).lines(on=False) if line.startswith("step ")]
    assert [int(line.split("/")[0].removeprefix("step ")) for line in shown] == evals


def stepped(path: Path, *, wild: bool = False) -> Path:
    """A run with an evaluation every ten steps and every second step logged."""
    lines = [start()]
    for step in range(1, 31):
        more: dict[str, Any] = {"grad_norm": float("inf"), "loss": float("nan")} if wild and step == 30 else {}
        lines += [logged_step(step, **more)] if step % 2 == 0 else []
        lines += [evaluation(step, 4 - step / 10, train_loss=3 - step / 10)] if step % 10 == 0 else []
    return written(path, *lines)


def test_a_log_without_an_event_of_that_name_says_so(mypt: Mypt) -> None:
    eventful(Path("logs/train/a_eval.jsonl"))
    assert mypt("logs", "show", "a", "--event", "sample").output == "The log has no such event.\n"
    assert mypt("logs", "show", "a", "--event", "sample", "--json").output == ""


def test_logged_steps_are_summarized_and_shown(mypt: Mypt) -> None:
    path = str(stepped(Path("x.jsonl")))
    steps = json.loads(mypt("logs", "summarize", path, "--json").output)["steps"]
    assert steps == {"count": 15, "last_loss": 4.7, "largest_grad_norm": 31.0, "largest_grad_norm_step": 30}
    page = flat(mypt("logs", "summarize", path).output)
    assert "logged steps 15, the last loss 4.7000, largest gradient norm 31 at step 30" in page
    shown = mypt("logs", "show", path, "--event", "step", "--last", "1").output
    assert "step time train lr norm tokens/s" in flat(shown)
    assert "4.7000 1.00e-03 31.0000 1,000" in flat(shown)
    wild = mypt("logs", "summarize", str(stepped(Path("wild.jsonl"), wild=True))).output
    assert "15, the last loss no number, largest gradient norm 29 at step 28" in flat(wild)
    assert "logged steps" not in mypt("logs", "summarize", str(eventful(Path("y.jsonl")))).output


def test_steps_lie_between_the_evaluations_around_them(tmp_path: Path) -> None:
    run = read_run(str(stepped(tmp_path / "x.jsonl")), tmp_path)
    assert [(p.step, p.tokens, p.seconds) for p in run.steps] == [(s, 100.0 * s, float(s)) for s in range(2, 31, 2)]
    late = written(tmp_path / "y.jsonl", start(20), evaluation(30, 3.0), logged_step(25), logged_step(35))
    placed = read_run(str(late), tmp_path).steps
    assert [(p.step, p.tokens, p.seconds, p.loss) for p in placed] == [(25, 2500, 15.0, 4.75), (35, 3500, 45.0, 4.65)]


def test_step_losses_are_drawn_and_exported(mypt: Mypt) -> None:
    path = str(stepped(Path("x.jsonl"), wild=True))
    assert "x steps" in mypt("logs", "plot", path).output
    assert "x steps" not in mypt("logs", "plot", path, path).output
    mypt("logs", "plot", path, "--out", "x.svg")
    assert "steps" not in mypt("logs", "plot", str(eventful(Path("y.jsonl"))), "--over", "time").output
    out = mypt(
        "logs", "export", path, "--event", "step", "--csv", "x.csv", "--parquet", "x.parquet", "--tensorboard", "tb"
    )
    assert "Wrote 15 steps to x.csv." in out.output
    with Path("x.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["iter", "timestamp", "loss", "lr", "grad_norm", "tokens_per_sec", "run_id"]
    assert [int(r["iter"]) for r in rows] == list(range(2, 31, 2)) and rows[-1]["grad_norm"] == "inf"
    assert parquet.read_table("x.parquet").column("grad_norm").to_pylist()[:2] == [3.0, 5.0]
    found = EventAccumulator("tb", {"tensors": 0})  # all of them
    found.Reload()
    assert [e.step for e in found.Tensors("loss/step")] == list(range(2, 31, 2))
    missing = mypt("logs", "export", str(eventful(Path("y.jsonl"))), "--event", "step", "--csv", "y.csv", ok=False)
    assert missing.exit_code == 2 and "--log-interval" in flat(missing.stderr)


def test_losses_that_are_no_numbers_are_left_out_of_a_drawing(mypt: Mypt) -> None:
    path = str(
        written(Path("x.jsonl"), start(), evaluation(10, 3.0), evaluation(20, float("nan")), evaluation(30, 2.0))
    )
    assert "x val" in mypt("logs", "plot", path).output
    none = str(written(Path("y.jsonl"), start(), evaluation(10, float("inf"))))
    assert "training tokens" in mypt("logs", "plot", none).output


def test_a_table_holds_whatever_a_stranger_logged(mypt: Mypt) -> None:
    strange = evaluation(10, 3.0, timestamp="noon", note=["a", {"b": 1}], flag=True)
    path = str(written(Path("x.jsonl"), start(), strange, evaluation(20, 2.0, note="late")))
    mypt("logs", "export", path, "--parquet", "x.parquet", "--tensorboard", "tb", "--csv", "x.csv")
    table = parquet.read_table("x.parquet")
    assert table.column("note").to_pylist() == ['["a", {"b": 1}]', "late"]
    assert table.column("flag").to_pylist() == [True, None]


def test_what_is_appended_while_a_log_is_read_is_not_of_that_reading(tmp_path: Path) -> None:
    lines = [start(), *(evaluation(step, 3.0) for step in range(1, 30_000))]
    path = written(tmp_path / "x.jsonl", *lines)
    with path.open("a", encoding="utf-8") as log:
        log.write(evaluation(30_000, 3.0)[:50])  # a line that is just being written
    replay = Replay(path)
    found = replay.live()
    first = [next(found) for _ in range(10)]
    with path.open("a", encoding="utf-8") as log:
        log.write(evaluation(30_000, 3.0)[50:] + "\n" + start(5, attempt=2) + "\n" + evaluation(6, 2.0) + "\n")
    assert [e.get("iter", 0) for e in [*first, *found]] == list(range(30_000)) and replay.skipped.torn == 1
    assert [e.get("iter", 0) for e in Replay(path).live()] == [*range(6), 0, 6]


def test_a_session_that_was_superseded_did_not_complete_its_run(tmp_path: Path) -> None:
    complete = json.loads(EXAMPLES.splitlines()[-1]) | {"total_steps": 20, "run_id": "r"}
    lines = [start(), evaluation(10, 3.0), evaluation(20, 2.0), json.dumps(complete), start(10, attempt=2)]
    path = written(tmp_path / "x.jsonl", *lines)
    assert [e["event"] for e in Replay(path).live()] == ["training_start", "eval", "training_start"]
    assert (summarize(path).state, read_run(str(path), tmp_path).results["tokens_per_sec"]) == ("unfinished", None)


def test_a_log_without_a_start_is_of_the_run_of_its_first_event(tmp_path: Path) -> None:
    path = written(tmp_path / "x.jsonl", evaluation(1, 3.0), evaluation(2, 2.0, run="other"), evaluation(3, 1.0))
    assert [e["iter"] for e in Replay(path).live()] == [1, 3]
    assert [e["iter"] for e in Replay(path, "other").live()] == [2] and summarize(path, "other").runs == 2
    with pytest.raises(InputError, match="no event of the run nobody"):
        Replay(path, "nobody")


def test_losses_that_are_no_numbers_are_counted(tmp_path: Path) -> None:
    lines = [start(), evaluation(1, 2.0), evaluation(2, float("nan")), evaluation(3, float("inf"))]
    s = summarize(written(tmp_path / "x.jsonl", *lines))
    assert (s.evaluations, s.signs.losses_not_finite, s.val_loss.best, s.val_loss.last) == (3, 2, 2.0, None)
    assert SUMMARY.validate_json(to_json_text(s)) == s


def test_a_run_is_running_while_its_folder_is_held_and_crashed_when_its_process_died(mypt: Mypt) -> None:
    written(Path("logs/train/dante_eval.jsonl"), start(), evaluation(10, 3.0))
    assert json.loads(mypt("logs", "summarize", "dante", "--json").output)["state"] == "unfinished"
    with locked(Path("checkpoints/dante"), print):
        assert json.loads(mypt("logs", "summarize", "dante", "--json").output)["state"] == "running"
        owner = Path("checkpoints/.dante.owner.json").read_text(encoding="utf-8")
    Path("checkpoints").mkdir()
    Path("checkpoints/.dante.owner.json").write_text(owner, encoding="utf-8")  # as a kill would have left it
    assert "crashed, the last word at step 10" in mypt("logs", "summarize", "dante").output
    assert "mypt resume" not in mypt("logs", "summarize", "dante").output  # nothing was saved
    Path("checkpoints/dante").mkdir()
    assert "Go on with it: mypt resume dante" in mypt("logs", "summarize", "dante").output


@pytest.mark.parametrize("width", [80, 140])
def test_the_page_is_the_one_expected(width: int, folder: Path) -> None:
    eventful(Path("dante_eval.jsonl"))
    console = Console(width=width, color_system=None, highlight=False)
    with console.capture() as shown:
        console.print(summary_page(summarize(Path("dante_eval.jsonl")), 80))
    page = "".join(f"{line.rstrip()}\n" for line in shown.get().splitlines())
    assert folder == Path.cwd() and max(map(len, page.splitlines())) <= width
    stored = Path(__file__).parent / "snapshots" / f"summary_{width}.txt"
    if os.environ.get("UPDATE_SNAPSHOTS"):
        stored.parent.mkdir(exist_ok=True)
        stored.write_text(page, encoding="utf-8", newline="\n")
    assert page == stored.read_text(encoding="utf-8")


def test_the_page_in_the_docs_is_one_that_is_printed() -> None:
    here = Path(__file__).parent
    stored = (here / "snapshots" / "summary_80.txt").read_text(encoding="utf-8").rstrip()
    assert f"```text\n{stored}\n```" in (here.parents[1] / "docs" / "logs.md").read_text(encoding="utf-8")


def test_a_sparkline_spans_its_losses() -> None:
    points = [LossPoint(step=i, loss=float(i)) for i in range(800)]
    assert sparkline(points, 8) == "▁▂▃▄▅▆▇█"
    assert sparkline(points[:1]) == "▁" and sparkline([]) == ""


def test_summaries_of_every_log_as_json(mypt: Mypt) -> None:
    eventful(Path("logs/train/a_eval.jsonl"))
    eventful(Path("logs/train/b_eval.jsonl"))
    lines = mypt("logs", "summarize", "--json").output.splitlines()
    assert [SUMMARY.validate_json(line).log[-12:] for line in lines] == ["a_eval.jsonl", "b_eval.jsonl"]
    assert "Always evaluate gold" in flat(mypt("logs", "summarize", "a").output)


def test_show_filters_and_leaves_out_what_was_superseded(mypt: Mypt) -> None:
    path = written(Path("x.jsonl"), start(), evaluation(10, 3.0), evaluation(20, 9.0), start(10), evaluation(20, 2.0))

    def losses(*args: str) -> list[float]:
        lines = mypt("logs", "show", str(path), "--event", "eval", "--json", *args).output.splitlines()
        return [json.loads(line)["val_loss"] for line in lines]

    assert losses() == [3.0, 2.0] and losses("--all") == [3.0, 9.0, 2.0] and losses("--last", "1") == [2.0]
    assert "training_start" in mypt("logs", "show", str(path)).output
    wrong = mypt("logs", "show", str(path), "--event", "evals", ok=False)
    assert wrong.exit_code == 2 and "did you mean eval?" in flat(wrong.stderr)


def test_tail_prints_the_lines_of_the_run(mypt: Mypt) -> None:
    path = written(Path("examples.jsonl"), *EXAMPLES.splitlines())
    lines = mypt("logs", "tail", str(path)).output.splitlines()
    assert lines[0].startswith("step 350/75000 (0.5%) | 14:45:12 | 15m | ETA ") and lines[0].endswith("| 34M tokens")
    assert lines[1].startswith("  val 4.1235 | lr 1.40e-05 | phase: circuit_formation | general 4.2346")
    assert lines[-3].endswith("New GOLD checkpoint! val_loss=3.8765 at step 1050")
    assert lines[-2].endswith("GOLD blocked: val 3.6543 < best 3.7000 but overfit (val/train=6.2x, threshold=5x)")
    assert len(mypt("logs", "tail", str(eventful(Path("x.jsonl"))), "--no-follow").output.splitlines()) == 22


def test_tail_follows_a_log_that_grows(tmp_path: Path) -> None:
    path = written(tmp_path / "x.jsonl", start(), evaluation(10, 3.0))
    stop = event("training_stopped", 20, elapsed_s=20.0, tokens_processed=1, reason="SIGINT")
    more = (evaluation(20, 2.0) + "\n" + evaluation(20, 1.0, run="other") + "\n" + stop + "\n").encode()

    def grow() -> None:
        for i in range(0, len(more), 150):  # lines arrive in pieces
            with path.open("ab") as log:
                log.write(more[i : i + 150])
            time.sleep(0.05)

    writer = threading.Thread(target=grow)
    writer.start()
    lines = list(Follower(FoundLog(path), 5).lines(on=True))
    writer.join()
    assert [line.split(" |")[0] for line in lines] == [
        "step 10/100 (10.0%)", "  val 3.0000", "step 20/100 (20.0%)", "  val 2.0000",
        "Training stopped at step 20 (SIGINT).",
    ]  # fmt: skip


def test_tail_does_not_wait_for_a_run_that_crashed(mypt: Mypt, monkeypatch: pytest.MonkeyPatch) -> None:
    def wait(_: float) -> None:
        raise AssertionError("it waits")

    monkeypatch.setattr("mypt.log.tail.time.sleep", wait)
    written(Path("logs/train/dante_eval.jsonl"), start(), evaluation(10, 3.0))
    Path("checkpoints/dante").mkdir(parents=True)
    lines = mypt("logs", "tail", "dante").output.splitlines()
    assert [line.split(" |")[0] for line in lines] == ["step 10/100 (10.0%)", "  val 3.0000", CRASHED]


@pytest.mark.skipif(os.name != "posix", reason="signals of posix")
def test_ctrl_c_ends_tail_without_a_complaint(tmp_path: Path) -> None:
    path = written(tmp_path / "x.jsonl", start(), evaluation(10, 3.0))
    call = [sys.executable, "-m", "mypt", "logs", "tail", str(path)]
    with subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        assert run.stdout is not None and run.stdout.readline().startswith(b"step 10/100")
        run.send_signal(signal.SIGINT)
        assert run.wait(20) == 0 and run.stderr is not None and not run.stderr.read()


def test_a_log_of_many_sets_and_times_with_zones_reads(tmp_path: Path) -> None:
    lines = [evaluation(i, 2.0, run=None, timestamp="2026-01-01T00:00:00+01:00", eval_a=None) for i in range(1, 4)]
    s = summarize(written(tmp_path / "x.jsonl", *lines))
    assert (s.evaluations, s.state, s.max_iters, s.eval_sets, len(s.attempts)) == (3, "unfinished", None, {}, 1)


def test_exports_hold_the_live_evaluations(mypt: Mypt) -> None:
    lines = [start(), evaluation(10, 3.0, eval_general=4.0), evaluation(20, 9.0), start(10), evaluation(20, 2.0)]
    path = str(written(Path("x.jsonl"), *lines))
    mypt("logs", "export", path, "--csv", "x.csv", "--parquet", "x.parquet")
    with Path("x.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[6:9] == ["phase", "val_loss", "eval_general"]
    assert [(r["iter"], r["val_loss"], r["eval_general"]) for r in rows] == [("10", "3.0", "4.0"), ("20", "2.0", "")]
    table = parquet.read_table("x.parquet").to_pylist()
    assert [(r["iter"], r["val_loss"], r["eval_general"]) for r in table] == [(10, 3.0, 4.0), (20, 2.0, None)]
    assert list(table[0]) == list(rows[0])
    refused = mypt("logs", "export", path, "--csv", path, ok=False)
    assert refused.exit_code == 2 and len(Path(path).read_text(encoding="utf-8").splitlines()) == 5
    assert mypt("logs", "export", path, ok=False).exit_code == 2


def test_tensorboard_shows_the_live_evaluations(mypt: Mypt) -> None:
    lines = [start(), evaluation(10, 3.0, eval_general=4.0), evaluation(20, 9.0), start(10), evaluation(20, 2.0)]
    path = str(written(Path("x.jsonl"), *lines))
    mypt("logs", "export", path, "--tensorboard", "tb")
    found = EventAccumulator("tb")
    found.Reload()

    def curve(name: str) -> list[tuple[int, float]]:
        return [(e.step, float(make_ndarray(e.tensor_proto))) for e in found.Tensors(name)]

    assert curve("loss/val") == [(10, 3.0), (20, 2.0)] and curve("loss/general") == [(10, 4.0)]
    assert {"run/lr", "run/tokens_processed"} <= set(found.Tags()["tensors"])
    again = mypt("logs", "export", path, "--tensorboard", "tb", ok=False)
    assert again.exit_code == 2 and "already holds" in flat(again.stderr)


def test_what_is_not_there_is_named(mypt: Mypt) -> None:
    assert "`mypt train` writes one" in flat(mypt("logs", "summarize", ok=False).stderr)
    written(Path("logs/train/dante_eval.jsonl"), "nothing")
    wrong = mypt("logs", "tail", "dant", ok=False)
    assert wrong.exit_code == 2 and "did you mean dante?" in flat(wrong.stderr)
    for call in (["summarize"], ["show"], ["tail"], ["export", "--csv", "x.csv"]):
        empty = mypt("logs", call[0], "dante", *call[1:], ok=False)
        assert empty.exit_code == 2 and re.search(r"There is no event in .*dante_eval", flat(empty.stderr))


@pytest.mark.parametrize("call", [["summarize"], ["show"], ["tail"], ["export", "--csv", "x.csv"]], ids=" ".join)
def test_the_verbs_import_nothing_heavy(call: list[str], folder: Path) -> None:
    path = eventful(folder / "x.jsonl")
    code = f"""
import sys
sys.argv = ["mypt", "logs", {call[0]!r}, {str(path)!r}, *{call[1:]!r}]
from mypt.cli.app import main
try:
    main()
except SystemExit as leave:
    assert not leave.code, leave.code
print("LOADED", sorted({HEAVY!r} & sys.modules.keys()))
"""
    assert run_python(code, folder).splitlines()[-1] == "LOADED []"
