"""Memory that is not enough: told by what to set, wherever a session meets it; the record and the bundles are whole."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mypt.checkpoint.manager import CheckpointManager
from mypt.errors import ShortOfMemoryError
from mypt.schema.settings.config import GPTConfig
from mypt.schema.settings.training import TrainingConfig
from mypt.train.device.memory import memory_told
from mypt.train.step import Stepper
from tests.conftest import TINY, Mypt, flat
from tests.run.test_resume import assert_same_run

RUN = ["--input-file", "input.txt", *TINY, "--max-iters", "8", "--eval-interval", "4", "--eval-iters", "1"]
SHORTAGES: dict[str, Callable[[], BaseException]] = {
    "a GPU": lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "the host": lambda: RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
    "Python": MemoryError,
}


def short_at(monkeypatch: pytest.MonkeyPatch, step: int, shortage: Callable[[], BaseException]) -> None:
    """Let the forward pass of a step find no memory, after the steps before it and the timed one."""
    micro_step: Callable[..., torch.Tensor] = Stepper.micro_step

    def short(self: Stepper, at: int, *rest: Any) -> torch.Tensor:
        if at == step:
            raise shortage()
        return micro_step(self, at, *rest)

    monkeypatch.setattr(Stepper, "micro_step", short)


@pytest.mark.parametrize("kind", SHORTAGES)
def test_a_run_that_finds_no_memory_keeps_its_record_and_goes_on_with_what_is_advised(
    kind: str, mypt: Mypt, monkeypatch: pytest.MonkeyPatch
) -> None:
    mypt("train", "a", *RUN)
    with monkeypatch.context() as patch:
        short_at(patch, 5, SHORTAGES[kind])
        told = mypt("train", "b", *RUN, ok=False)
    assert told.exit_code == 1
    assert "The memory of the host is not enough to train this model." in told.stderr
    assert "--use-checkpoint, which computes the same in more time" in flat(told.stderr)
    last = json.loads(Path("logs/train/b_eval.jsonl").read_text("utf-8").splitlines()[-1])
    assert (last["event"], last["reason"], last["iter"]) == ("training_stopped", "out_of_memory", 5)
    assert CheckpointManager("b").load().state.step == 4
    mypt("train", "b", *RUN, "--use-checkpoint")
    assert_same_run("a", "b")


@pytest.mark.parametrize("kind", SHORTAGES)
def test_a_timed_step_that_finds_no_memory_leaves_nothing(
    kind: str, mypt: Mypt, monkeypatch: pytest.MonkeyPatch
) -> None:
    short_at(monkeypatch, 0, SHORTAGES[kind])
    told = mypt("train", "a", *RUN, ok=False)
    assert told.exit_code == 1 and "is not enough to train this model" in told.stderr
    assert not Path("checkpoints/a").exists()


@pytest.mark.parametrize("kind", SHORTAGES)
def test_what_takes_less_memory_is_said_as_far_as_there_is_something(kind: str) -> None:
    config = GPTConfig(batch_size=16, block_size=8, device="cuda:1")

    def told(**settings: Any) -> str:
        shortage = pytest.raises(ShortOfMemoryError, match="The memory of the device cuda:1")
        with shortage as caught, memory_told(config, TrainingConfig(**settings)):
            raise SHORTAGES[kind]()
        return caught.value.todo

    assert "--use-checkpoint" in told() and "--rows-at-once 8," in told()
    assert "--use-checkpoint" not in told(use_checkpoint=True) and "--rows-at-once 2," in told(rows_at_once=4)
    assert "smaller model" in told(use_checkpoint=True, rows_at_once=1)


def test_errors_of_another_kind_pass() -> None:
    with pytest.raises(RuntimeError, match="mat1 and mat2"), memory_told(GPTConfig(), TrainingConfig()):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")


@pytest.mark.parametrize("part", ["forward", "backward"])
def test_what_cannot_be_compiled_forward_or_backward_runs_as_it_is_and_says_so(
    part: str, mypt: Mypt, monkeypatch: pytest.MonkeyPatch
) -> None:
    mypt("train", "plain", *RUN, "--torch-compile", "off")

    def fail(_: torch.Tensor) -> None:
        raise RuntimeError("no backward code here")

    def compiled(loss: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        def call(*batch: torch.Tensor) -> torch.Tensor:
            if part == "forward":
                raise RuntimeError("no forward code here")
            result = loss(*batch)
            result.register_hook(fail)  # type: ignore[no-untyped-call]
            return result

        return call

    monkeypatch.setattr(torch, "compile", compiled)
    told = flat(mypt("train", "failed", *RUN, "--torch-compile", "on").output)
    assert f"torch.compile failed, so the model runs in eager mode: no {part} code here" in told
    start = json.loads(Path("logs/train/failed_eval.jsonl").read_text("utf-8").splitlines()[0])
    assert start["config"]["torch_compile"] == "off" and "no " in start["config"]["torch_compile_reason"]
    assert_same_run("plain", "failed")


def test_memory_that_is_not_enough_to_compile_is_told_as_that(mypt: Mypt, monkeypatch: pytest.MonkeyPatch) -> None:
    def compiled(_: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        def call(*_: torch.Tensor) -> torch.Tensor:
            raise SHORTAGES["a GPU"]()

        return call

    monkeypatch.setattr(torch, "compile", compiled)
    told = mypt("train", "a", *RUN, "--torch-compile", "on", ok=False)
    assert told.exit_code == 1 and "is not enough to train this model" in told.stderr
    assert "torch.compile failed" not in told.output
