"""A run that takes long says so, with calls that take less and work; a text that is seen too often is told of."""

import math
import re
import shlex
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from mypt.cli import shorter
from mypt.cli.render.progress import ConsoleObserver
from mypt.cli.shorter import fitting_steps, shorter_calls, tiny_seconds
from mypt.train import benchmark_step, plan, planning
from mypt.train.benchmark_step import Timing
from mypt.train.evaluation.evaluate import losses_of
from mypt.train.step import Stepper
from tests.conftest import SHORT, TINY, Mypt, flat

RUN = ["--input-file", "input.txt", *TINY, "--max-iters", "1000"]


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Lets a step take as long as wanted, by the plan."""

    def takes(step_s: float) -> None:
        monkeypatch.setattr(planning, "time_step", lambda _: Timing(step_s, 0.0, None))

    return takes


def calls_of(output: str) -> list[str]:
    return [" ".join(line.split()) for line in output.splitlines() if line.startswith("    mypt ")]


@pytest.fixture
def wide(mypt: Mypt, monkeypatch: pytest.MonkeyPatch) -> Mypt:
    """Runs `mypt` on a wide terminal, with its words where a process has them."""
    monkeypatch.setattr(Console, "width", 300)

    def run(*words: str) -> Any:
        monkeypatch.setattr(sys, "argv", ["mypt", *words])
        return mypt(*words)

    return run


@pytest.mark.parametrize(("step_s", "steps"), [(0.5, None), (1.0, 300), (3.0, 100), (5.0, 60), (9.0, 0)])
def test_only_a_run_of_more_than_ten_minutes_says_so(step_s: float, steps: int | None, wide: Mypt, slow: Any) -> None:
    slow(step_s)
    output = wide("train", "m", *RUN, "--dry-run").output
    assert ("This run takes about" in output) == (steps is not None)
    fewer = [re.search(r"--max-iters (\d+)", call) for call in calls_of(output)]
    assert [int(m[1]) for m in fewer if m] == ([steps] if steps else [])


@pytest.mark.parametrize("dry", [True, False])
def test_every_call_works_as_it_stands(dry: bool, wide: Mypt, slow: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a dry run, which has left nothing, and after the long run, which has saved."""
    slow(3.0)
    monkeypatch.setattr(shorter, "tiny_seconds", lambda _: 60.0)  # as by a model that is larger
    calls = calls_of(wide("train", "m", *RUN, "--max-iters", "210", *(["--dry-run"] if dry else [])).output)
    assert len(calls) == (2 if dry else 3) and sum("--fresh" in call for call in calls) == (not dry)
    for call in reversed(calls):
        words = shlex.split(call)
        wide(*words[1:], *(["--max-iters", "2", "--eval-iters", "1"] if dry or "--fresh" in words else []))
        assert Path("checkpoints/m").is_dir()
        if dry:
            shutil.rmtree("checkpoints")


def test_what_the_call_named_is_in_the_shorter_ones(
    wide: Mypt, slow: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shorter, "tiny_seconds", lambda _: 60.0)
    (folder / "my text.txt").write_bytes((folder / "input.txt").read_bytes())
    slow(3.0)
    output = wide("train", "m", *RUN[2:], "--input-file", "my text.txt", "--out-dir=deep/er", "--dry-run").output
    tiny, fewer = calls_of(output)
    assert tiny == "mypt train m --input-file 'my text.txt' --out-dir deep/er --preset tiny"
    assert "'my text.txt'" in fewer and fewer.endswith("--max-iters 100") and fewer.count("--max-iters") == 1


def test_a_small_model_is_offered_only_where_it_takes_less(wide: Mypt, slow: Any) -> None:
    """Not to a run of many steps of a model that is smaller still, by whose speed it would take hours."""
    slow(0.003)
    output = wide("train", "m", *RUN, "--max-iters", "1000000", "--dry-run").output
    assert "This run takes about" in output and "--preset tiny" not in output and "--max-iters 100000" in output


def test_a_resume_is_offered_fewer_steps_alone(wide: Mypt, slow: Any) -> None:
    wide("train", "m", *RUN, "--max-iters", "2")
    slow(3.0)
    output = wide("resume", "m", "--max-iters", "1000", "--dry-run").output
    assert calls_of(output) == ["mypt resume m --max-iters 102"]


def test_estimates_follow_from_the_measured_step(mypt: Mypt, monkeypatch: pytest.MonkeyPatch) -> None:
    plans: list[plan.Plan] = []
    monkeypatch.setattr(ConsoleObserver, "planned", lambda _, planned: plans.append(planned))
    mypt("train", "m", *RUN, "--dry-run")
    [planned] = plans
    slower = [replace(planned, step_s=s) for s in (0.5, 1.0, 2.0)]
    assert math.isclose(tiny_seconds(slower[2]), 2 * tiny_seconds(slower[1]))
    for one in slower:
        assert 250 < fitting_steps(one) * one.step_s <= 300
    assert not shorter_calls(slower[0]) and shorter_calls(slower[2])
    assert shorter.LONG_S == 600


@pytest.mark.parametrize(
    ("steps", "more", "told"),
    [
        (100, [], None),  # 6,400 of 1,800 tokens
        (200, [], ["fewer steps (--max-iters ", "or --patience 5"]),
        (200, ["--patience", "3"], ["fewer steps"]),
    ],
)
def test_a_text_that_is_seen_often_is_told_of(steps: int, more: list[str], told: list[str] | None, mypt: Mypt) -> None:
    output = flat(mypt("train", "m", *RUN, "--max-iters", str(steps), *more, "--dry-run").output)
    assert ("learn it by heart" in output) == (told is not None)
    assert all(part in output for part in told or []) and ("--patience 5" in output) == (told is not None and not more)


def test_a_part_of_a_long_step_is_timed_and_undone_to_the_bit(mypt: Mypt, monkeypatch: pytest.MonkeyPatch) -> None:
    call = [*SHORT, "--rows-at-once", "1", "--dropout", "0.2", "--grad-accum-steps", "2"]
    mypt("train", "whole", *call)
    seen: list[int] = []

    def counted(model: Any, x: Any, *rest: Any) -> Any:
        seen.append(len(x))
        return losses_of(model, x, *rest)

    monkeypatch.setattr(benchmark_step, "losses_of", counted)
    monkeypatch.setattr(benchmark_step, "LONG_S", 0.0)
    mypt("train", "part", *call)
    assert seen == [1]
    for file in ("model.pt", "optimizer.pt"):
        assert Path("checkpoints/whole", file).read_bytes() == Path("checkpoints/part", file).read_bytes()


def test_a_part_stands_for_the_whole(mypt: Mypt, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that counts the windows that go through the model."""
    passed = [0]

    def counting(step: Any) -> Any:
        def micro_step(self: Any, step_: int, micro: int, batch: Any, counted: int) -> Any:
            passed[0] += len(batch[0])
            return step(self, step_, micro, batch, counted)

        return micro_step

    def seconds(_: Any, work: Any) -> float:
        before = passed[0]
        work()
        return float(passed[0] - before)

    plans: list[plan.Plan] = []
    monkeypatch.setattr(ConsoleObserver, "planned", lambda _, planned: plans.append(planned))
    monkeypatch.setattr(Stepper, "micro_step", counting(Stepper.micro_step))
    monkeypatch.setattr(benchmark_step, "_seconds", seconds)
    for limit in (math.inf, 0.0):
        monkeypatch.setattr(benchmark_step, "LONG_S", limit)
        mypt("train", "m", *SHORT, "--rows-at-once", "1", "--grad-accum-steps", "2", "--dry-run")
    assert plans[0].step_s == plans[1].step_s == 8
