"""Computing the same each time on a GPU: decided by its cost, in effect throughout, recorded; a CPU stands in."""

import json
import os
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mypt.checkpoint.files import read_state
from mypt.schema.files.state import TrainingState
from mypt.schema.settings.training import TrainingConfig
from mypt.train import benchmark_step
from mypt.train.device import compile as compiling
from mypt.train.device import deterministic, devices
from mypt.train.device.choices import ASKED
from mypt.train.device.deterministic import in_order, refusal, settled, unavailable, ways_to_compute
from mypt.train.device.devices import WORKSPACE
from mypt.train.evaluation import evaluate as evaluation
from mypt.train.step import Stepper
from tests.conftest import TINY, Mypt, flat, stopping_at
from tests.run.test_resume import assert_same_run

RUN = ["--input-file", "input.txt", *TINY, "--max-iters", "6", "--eval-interval", "3", "--torch-compile", "off"]
Seen = dict[str, list[bool]]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Seen]:
    """A CPU that counts as a GPU, and whether the mode was on in each micro-step and each evaluated batch."""
    found: Seen = {"micro_step": [], "losses_of": []}

    def noting(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            found[name].append(torch.are_deterministic_algorithms_enabled())
            return real(*args)

        return call

    monkeypatch.delenv(WORKSPACE, raising=False)
    monkeypatch.setattr(deterministic, "can_order", lambda _: True)
    monkeypatch.setattr(devices, "hardware", lambda _: "a GPU")
    monkeypatch.setattr(Stepper, "micro_step", noting("micro_step", Stepper.micro_step))
    monkeypatch.setattr(evaluation, "losses_of", noting("losses_of", evaluation.losses_of))
    before = flags()
    yield found
    assert flags() == before


def flags() -> tuple[object, ...]:
    cudnn = torch.backends.cudnn
    filled = torch._C._get_deterministic_fill_uninitialized_memory()
    return torch.get_deterministic_debug_mode(), filled, cudnn.deterministic, cudnn.benchmark


def costing(monkeypatch: pytest.MonkeyPatch, share: float) -> None:
    """Let each timed micro-step take a second, and `share` of one with the mode on."""
    clock = SimpleNamespace(now=0.0)
    clock.perf_counter = lambda: clock.now
    monkeypatch.setattr(benchmark_step, "time", clock)
    micro_step = Stepper.micro_step

    def slow(self: Stepper, *args: Any) -> torch.Tensor:
        clock.now += share if torch.are_deterministic_algorithms_enabled() else 1.0
        return micro_step(self, *args)

    monkeypatch.setattr(Stepper, "micro_step", slow)


def recorded(name: str) -> tuple[TrainingState, dict[str, Any]]:
    lines = Path(f"logs/train/{name}_eval.jsonl").read_text("utf-8").splitlines()
    return read_state(Path("checkpoints") / name), json.loads(lines[0])["config"]


@pytest.mark.parametrize(("share", "on"), [(0.9, True), (1.04, True), (1.06, False), (3.0, False)])
def test_the_cost_decides_and_the_decision_is_recorded_and_in_effect(
    share: float, on: bool, seen: Seen, mypt: Mypt, monkeypatch: pytest.MonkeyPatch
) -> None:
    costing(monkeypatch, share)
    mypt("train", "a", *RUN)
    state, start = recorded("a")
    reason = f"measured: a step takes {share * 1000:,.1f} ms so, 1,000.0 as it comes"
    assert (state.training_config.deterministic, state.training_config.deterministic_reason) == (on, reason)
    assert (start["deterministic"], start["deterministic_reason"]) == (on, reason)
    assert seen["micro_step"] == [False, True] + [on] * 6
    assert seen["losses_of"][:8] == [on] * 8  # those after them are of the fp16 bundle
    assert os.environ[WORKSPACE] == ":4096:8"
    assert state.exact_resume is on
    told = flat(mypt("inspect", "a").output)
    assert f"deterministic: {str(on).lower()}" in told or f"deterministic {str(on).lower()}" in told
    assert f"Resume: {'exact' if on else 'not exact: a GPU computed in an order left to chance'}" in told


def test_a_resume_keeps_the_decision_and_is_the_run_that_never_stopped(
    seen: Seen, mypt: Mypt, monkeypatch: pytest.MonkeyPatch
) -> None:
    costing(monkeypatch, 1.0)
    mypt("train", "whole", *RUN)
    with stopping_at(2):
        mypt("train", "parts", *RUN)
    seen["micro_step"].clear()
    costing(monkeypatch, 9.0)
    mypt("resume", "parts")
    assert seen["micro_step"] == [True] * 5
    assert_same_run("whole", "parts")
    seen["micro_step"].clear()
    assert "identical" in mypt("reproduce", "parts").output and seen["micro_step"] == [True] * 6
    assert recorded("parts")[0].exact_resume


@pytest.mark.parametrize("on", [True, False])
def test_who_asks_decides(on: bool, seen: Seen, mypt: Mypt, monkeypatch: pytest.MonkeyPatch) -> None:
    costing(monkeypatch, 9.0 if on else 0.1)
    mypt("train", "a", *RUN, "--deterministic" if on else "--no-deterministic")
    state, _ = recorded("a")
    assert seen["micro_step"] == [on] * 7
    assert (state.training_config.deterministic, state.training_config.deterministic_reason) == (on, ASKED)
    assert state.exact_resume is on
    told = flat(mypt("resume", "a", "--max-iters", "8", "--no-deterministic").output)
    assert ("changes the trajectory" in told.partition(" deterministic ")[2]) is on
    assert not recorded("a")[0].exact_resume


@pytest.mark.parametrize("asked", [True, False])
def test_what_has_no_deterministic_form_is_named_and_the_run_goes_on_without(
    asked: bool, seen: Seen, mypt: Mypt, monkeypatch: pytest.MonkeyPatch
) -> None:
    micro_step = Stepper.micro_step

    def unordered(self: Stepper, *args: Any) -> torch.Tensor:
        loss = micro_step(self, *args)
        torch.zeros(2).put_(torch.tensor([0]), torch.ones(1))
        return loss

    monkeypatch.setattr(Stepper, "micro_step", unordered)
    told = flat(mypt("train", "a", *RUN, *(["--deterministic"] if asked else [])).output)
    state, _ = recorded("a")
    reason = f"torch {torch.__version__} has no deterministic put_"
    assert (state.training_config.deterministic, state.training_config.deterministic_reason) == (False, reason)
    assert (f"This run is not deterministic, as it was set to be: {reason}." in told) is asked
    assert not state.exact_resume and set(seen["micro_step"][-6:]) == {False}


def test_a_process_that_used_cublas_too_early_is_told_what_to_set() -> None:
    error = RuntimeError(
        "Deterministic behavior was enabled with either `torch.use_deterministic_algorithms(True)` or "
        "`at::Context::setDeterministicAlgorithms(true)`, but this operation is not deterministic because it uses "
        "CuBLAS and you have CUDA >= 10.2."
    )
    assert "set it to :4096:8 before Python starts" in str(refusal(error))
    assert refusal(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) is None


@pytest.mark.parametrize("asked", [[], ["--deterministic"], ["--no-deterministic"]])
def test_a_cpu_is_left_as_it_is(asked: list[str], mypt: Mypt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(WORKSPACE, raising=False)
    monkeypatch.setattr(torch, "set_deterministic_debug_mode", lambda _: pytest.fail("the mode was changed"))
    mypt("train", "a", *RUN, *asked)
    state, start = recorded("a")
    given = None if not asked else asked == ["--deterministic"]
    assert state.training_config.deterministic == start["deterministic"] == given and state.exact_resume
    assert WORKSPACE not in os.environ


@pytest.mark.parametrize(
    ("device", "asked", "ways", "can"),
    [
        ("cpu", None, (False,), True), ("cpu", True, (False,), True), ("cuda", None, (False, True), True),
        ("cuda:1", True, (True,), True), ("cuda", False, (False,), True), ("mps", None, (False,), True),
        ("mps", True, (False,), False),
    ],
)  # fmt: skip
def test_a_step_is_timed_in_the_ways_that_may_be_chosen(
    device: str, asked: bool | None, ways: tuple[bool, ...], can: bool
) -> None:
    training = TrainingConfig(deterministic=asked)
    assert ways_to_compute(training, device) == ways and (unavailable(training, device) is None) is can


def test_one_session_in_an_order_left_to_chance_makes_the_run_inexact_for_good(mypt: Mypt) -> None:
    mypt("train", "a", *RUN)
    state = read_state(Path("checkpoints/a"))
    (session,) = state.sessions
    for device, on, exact in (
        ("cpu", None, True),
        ("a GPU", None, False),
        ("a GPU", True, True),
        ("mps", False, False),
    ):
        there = session.model_copy(
            update={
                "environment": session.environment.model_copy(update={"device": device}),
                "training_config": session.training_config.model_copy(update={"deterministic": on}),
            }
        )
        made = settled(state.model_copy(update={"sessions": (there, session)}), None)
        assert made.exact_resume is exact and (made.inexact is None) is exact


@pytest.mark.parametrize("on", [True, False])
def test_the_compiler_chooses_no_kernels_by_timing_where_order_counts(
    on: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[dict[str, Any]] = []

    def compiled(loss: Callable[[], None], **options: Any) -> Callable[[], None]:
        calls.append(options)
        return loss

    monkeypatch.setattr(torch, "compile", compiled)
    with in_order(on):
        compiling.compiled_loss(SimpleNamespace(rope=None, loss=lambda: None))  # type: ignore[arg-type]
    assert calls == [{"options": {"deterministic": True}} if on else {}]
    assert not on or "deterministic" in import_module("torch._inductor").list_options()
