"""The timed step: no more memory than a step of training takes, and nothing of a session is changed by it."""

import gc
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from mypt import GPT, GPTConfig, GPTDataLoader, Tokenizer
from mypt.schema.files.state import TrainingState
from mypt.schema.settings.training import TrainingConfig
from mypt.train import benchmark_step, session
from mypt.train.benchmark_step import time_step
from mypt.train.device.precision import Precision
from mypt.train.observer import Observer
from mypt.train.optim.muon import Muon
from mypt.train.run_data import RunData
from mypt.train.session import assemble
from mypt.train.step import Stepper
from tests.conftest import TINY, Mypt, stopping_at, tiny_text
from tests.run.test_resume import assert_same_run, untimed_plan

RUN = ["--input-file", "input.txt", *TINY, "--max-iters", "6", "--eval-interval", "3", "--muon-dtype", "fp32"]


def live_bytes() -> int:
    """Bytes of all tensors there are, of which several may share their memory."""
    gc.collect()
    storages = [t.untyped_storage() for t in gc.get_objects() if type(t) in (Tensor, torch.nn.Parameter)]
    return sum({s.data_ptr(): s.nbytes() for s in storages}.values())


def watched(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Live bytes beyond those of this moment after each timed update, when gradients are gone and moments are there."""
    found, before, update = [], live_bytes(), benchmark_step._update

    def watching(stepper: Stepper, ahead: bool) -> None:
        update(stepper, ahead)
        found.append(live_bytes() - before)

    monkeypatch.setattr(benchmark_step, "_update", watching)
    return found


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_resumed_step_is_timed_in_the_memory_of_a_fresh_one(
    optimizer: str, mypt: Mypt, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = [*RUN, "--optimizer", optimizer]
    found = watched(monkeypatch)
    with stopping_at(2):
        mypt("train", "a", *run)
    mypt("resume", "a")
    fresh, resumed = found
    assert 0 < resumed <= 1.01 * fresh


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_timing_a_resumed_step_changes_no_bit(optimizer: str, mypt: Mypt, monkeypatch: pytest.MonkeyPatch) -> None:
    run = [*RUN, "--optimizer", optimizer]
    for name in ("timed", "untimed"):
        with stopping_at(2):
            mypt("train", name, *run)
        mypt("resume", name)
        monkeypatch.setattr("mypt.run.train.plan_run", lambda *args: untimed_plan(*args))
    assert_same_run("timed", "untimed")


@pytest.mark.parametrize("ahead", [True, False])
def test_the_update_is_timed_as_the_session_makes_it(ahead: bool, mypt: Mypt, monkeypatch: pytest.MonkeyPatch) -> None:
    """Muon keeps what it may have to put back, where a device leaves a step out by itself."""
    clones: list[bool] = []
    step = Muon.step

    def stepping(self: Muon, lr: float, weight_decay: float, nonfinite: Tensor | None = None) -> None:
        clones.append(nonfinite is not None)
        step(self, lr, weight_decay, nonfinite)

    monkeypatch.setattr(Muon, "step", stepping)
    monkeypatch.setattr(session, "may_run_ahead", lambda *_: ahead)
    mypt("train", "a", *RUN, "--optimizer", "muon")
    assert clones == [ahead] * 7


OWN: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "AdamW": torch.optim.AdamW,
    "Rprop, whose steps know no learning rate": torch.optim.Rprop,
    "SGD": lambda weights: torch.optim.SGD(weights, lr=1e-3, momentum=0.9),
}


@pytest.mark.parametrize("kind", OWN)
@pytest.mark.parametrize("scale", [None, 2.0**40])
def test_an_optimizer_of_the_callers_own_and_the_loss_scale_stay_as_they_are(
    kind: str, scale: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, stepper = stepper_with(OWN[kind])
    stepper.step(0)
    if scale is not None:
        scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        stepper.precision = Precision("cpu", True, torch.float16, scaler)
    moments = sum(t.nbytes for s in stepper.optimizer.state_dict()["state"].values() for t in s.values() if t.dim())
    before, found = everything(stepper), watched(monkeypatch)
    time_step(stepper)
    after = everything(stepper)
    assert before.keys() == after.keys() and all(torch.equal(before[n], after[n]) for n in before)
    assert all(p.grad is None for p in model.parameters())
    assert moments and all(extra < moments / 4 for extra in found)


def stepper_with(optimizer: Callable[[Any], torch.optim.Optimizer]) -> tuple[GPT, Stepper]:
    config = GPTConfig(batch_size=4, block_size=8, n_embd=16, n_head=2, n_layer=4, vocab_size=64, device="cpu")
    model, text = GPT(config), tiny_text()
    data = RunData(GPTDataLoader(config, Tokenizer.char(text), text=text))
    state = TrainingState(step=0, training_config=TrainingConfig(max_iters=9, eval_iters=1))
    return model, assemble(model, data, state, Observer(), optimizer=optimizer(model.parameters())).stepper


def everything(stepper: Stepper) -> dict[str, Tensor]:
    """Copies of weights, moments, step counts, learning rates and the loss scale."""
    saved = stepper.optimizer.state_dict()
    found = {n: w.detach().clone() for n, w in stepper.model.named_parameters()}
    found |= {f"{i}.{k}": torch.as_tensor(v).clone() for i, s in saved["state"].items() for k, v in s.items()}
    found |= {f"lr{i}": torch.tensor(float(group["lr"])) for i, group in enumerate(saved["param_groups"])}
    return found | {k: torch.tensor(float(v)) for k, v in stepper.precision.scaler.state_dict().items()}
