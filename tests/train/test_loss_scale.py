"""fp16's loss scale, which adapts to gradients that overflow: on a CPU, with scales that a GPU would find too large."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mypt.schema.settings.training import TrainingConfig
from mypt.train import benchmark_step
from mypt.train.device.precision import Precision
from mypt.train.step import Stepper
from tests.conftest import TINY, Mypt, flat, stopping_at
from tests.run.test_resume import assert_same_run

RUN = ["--input-file", "input.txt", *TINY, "--max-iters", "40", "--eval-interval", "20", "--eval-iters", "1"]


def with_scale(monkeypatch: pytest.MonkeyPatch, scale: float) -> None:
    """Compute in fp16 with a loss scale, as on a GPU without bf16."""

    def of(_: TrainingConfig, device: str) -> Precision:
        scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=10)
        return Precision(device, True, torch.float16, scaler)

    monkeypatch.setattr(Precision, "of", of)


def events(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(f"logs/train/{name}_eval.jsonl").read_text("utf-8").splitlines()]


@pytest.mark.parametrize("scale", [2.0**16, 2.0**40])
def test_a_scale_that_overflows_is_lowered_and_each_step_left_out_is_logged(
    scale: float, mypt: Mypt, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_scale(monkeypatch, scale)
    monkeypatch.setattr(benchmark_step, "REPEATS", 3)
    mypt("train", "a", *RUN)
    skipped = [event["iter"] for event in events("a") if event["event"] == "batch_skipped"]
    assert (len(skipped) > 5) == (scale > 2**30)
    with stopping_at(7):
        mypt("train", "b", *RUN)
    mypt("resume", "b")
    assert_same_run("a", "b")


def test_gradients_that_overflow_by_themselves_end_the_run(mypt: Mypt, monkeypatch: pytest.MonkeyPatch) -> None:
    """With no scale left to lower it is the run that diverges, and it is told as without a scale; `skip` goes on."""
    with_scale(monkeypatch, 8.0)
    monkeypatch.setattr(Stepper, "gradient_norm", overflowing(Stepper.gradient_norm))
    told = flat(mypt("train", "a", *RUN, ok=False).stderr)
    assert "Step 4 has a loss of" in told and "nothing was saved" in told
    skipped = [event["iter"] for event in events("a") if event["event"] == "batch_skipped"]
    assert skipped == [1, 2, 3]
    mypt("train", "b", *RUN, "--on-nonfinite", "skip")
    assert len([event for event in events("b") if event["event"] == "batch_skipped"]) == 40


def overflowing(measure: Callable[[Stepper], torch.Tensor]) -> Callable[[Stepper], torch.Tensor]:
    """The norm of gradients one of which is infinite, whatever the scale."""

    def norm(stepper: Stepper) -> torch.Tensor:
        weight = next(p for p in stepper.model.parameters() if p.grad is not None)
        assert weight.grad is not None
        weight.grad.view(-1)[0] = torch.inf
        return measure(stepper)

    return norm
