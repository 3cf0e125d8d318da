"""A GPU computes beside the host, and bundles are written beside both: the same on a CPU that is told to."""

import threading
import time
from pathlib import Path
from typing import Any
from weakref import ReferenceType, ref

import pytest
import torch

from mypt.checkpoint.manager import CheckpointManager, Content
from mypt.log.reader import read_events
from mypt.train import session
from mypt.train.device.async_check import AsyncCheck, StepResult
from mypt.train.device.async_save import AsyncSaver
from mypt.train.step import Stepper
from tests.conftest import TINY, Mypt, fill_the_disk
from tests.run.test_reliability import poison
from tests.run.test_resume import assert_same_run, tensors

RUN = ["--input-file", "input.txt", *TINY, "--max-iters", "12", "--eval-interval", "6", "--dropout", "0.1"]


def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Run ahead and save beside training; returns which thread writes each bundle from now on."""
    threads: dict[str, str] = {}
    write = CheckpointManager.write

    def writing(self: CheckpointManager, content: Content) -> None:
        threads[self.name] = threading.current_thread().name
        write(self, content)

    monkeypatch.setattr(CheckpointManager, "write", writing)
    monkeypatch.setattr(session, "may_run_ahead", lambda *_: True)
    monkeypatch.setattr(session, "AsyncSaver", lambda **_: AsyncSaver(beside=True))
    return threads


def test_running_ahead_and_saving_beside_change_no_bit(mypt: Mypt, monkeypatch: pytest.MonkeyPatch) -> None:
    mypt("train", "in_turn", *RUN)
    sent, send, threads = [], AsyncCheck.send, as_on_a_gpu(monkeypatch)

    def sending(self: AsyncCheck, at: int, *figures: torch.Tensor) -> list[StepResult]:
        sent.append(at)
        return send(self, at, *figures)

    monkeypatch.setattr(AsyncCheck, "send", sending)
    mypt("train", "beside", *RUN)
    assert sent == list(range(12)) and threads["beside"] == threads["beside_gold"] == "save_0"
    assert_same_run("in_turn", "beside")
    assert mypt("verify").exit_code == 0


def test_figures_arrive_in_order_and_so_many_steps_late() -> None:
    check = AsyncCheck(limit=2)
    arrived = [check.send(i, torch.tensor(float(i)), torch.tensor(0.5), torch.tensor(0.0)) for i in range(5)]
    assert arrived == [[], [], [StepResult(0, 0.0, 0.5)], [StepResult(1, 1.0, 0.5)], [StepResult(2, 2.0, 0.5)]]
    assert [r.step for r in check.rest()] == [3, 4] and check.rest() == []
    assert (
        not check.send(5, torch.tensor(torch.nan), torch.tensor(1.0), torch.tensor(0.0)) and not check.rest()[0].finite
    )


@pytest.mark.parametrize("at", [5, 8])  # just before an evaluation, and between two
def test_weights_of_a_step_that_was_not_finite_are_never_saved(
    mypt: Mypt, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    as_on_a_gpu(monkeypatch)
    poison(monkeypatch, at)
    result = mypt("train", "dante", *RUN, ok=False)
    assert result.exit_code == 1
    assert f"Step {at + 1} has a loss of" in result.stderr and "nothing was saved after it" in result.stderr
    if at < 6:
        assert "nothing was saved yet" in result.stderr and not Path("checkpoints/dante").exists()
    else:
        assert "the last good bundle is checkpoints/dante at step 6" in result.stderr
        assert all(torch.isfinite(w).all() for w in CheckpointManager("dante").load().model.parameters())


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_step_left_out_on_the_device_is_the_step_left_out_by_the_host(
    mypt: Mypt, monkeypatch: pytest.MonkeyPatch, optimizer: str
) -> None:
    """Weights, moments and losses are those of a run that waits for each result, and so is the log."""
    run = [*RUN, "--optimizer", optimizer, "--muon-dtype", "fp32", "--on-nonfinite", "skip"]
    poison(monkeypatch, 5)
    mypt("train", "in_turn", *run)
    as_on_a_gpu(monkeypatch)
    mypt("train", "beside", *run)
    assert_same_run("in_turn", "beside")
    skipped = [e["iter"] for e in read_events(Path("logs/train/beside_eval.jsonl")) if e["event"] == "batch_skipped"]
    assert skipped == [6]


def test_what_is_saved_is_what_was_there_when_the_save_began(mypt: Mypt, monkeypatch: pytest.MonkeyPatch) -> None:
    """The saves of step 6 get to the disk when step 9 is done."""
    moved_on, write, take_step = threading.Event(), CheckpointManager.write, Stepper.step

    def late(self: CheckpointManager, content: Content) -> None:
        if content.state.step == 6:
            assert not self.name.startswith("beside") or moved_on.wait(timeout=60)
            write(CheckpointManager(f"{self.name}_at_6", self.path.parent), content)
        write(self, content)

    def stepped(self: Stepper, at: int) -> list[StepResult]:
        if at == 9:
            moved_on.set()
        return take_step(self, at)

    monkeypatch.setattr(CheckpointManager, "write", late)
    monkeypatch.setattr(Stepper, "step", stepped)
    mypt("train", "in_turn", *RUN)
    moved_on.clear()
    as_on_a_gpu(monkeypatch)
    mypt("train", "beside", *RUN)
    for end in ("_at_6", "_gold_at_6"):
        ours, theirs = tensors(f"beside{end}"), tensors(f"in_turn{end}")
        assert ours.keys() == theirs.keys() and len(ours) > 20
        assert all(torch.equal(ours[n], theirs[n]) for n in ours)


def test_one_copy_of_all_states_is_in_memory_and_gold_and_the_last_step_share_it(
    mypt: Mypt, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies: list[ReferenceType[torch.Tensor]] = []
    alive: list[int] = []
    collect, write = Content.of, CheckpointManager.write

    def collecting(*args: Any, **options: Any) -> Content:
        content = collect(*args, **options)
        copies.append(ref(next(iter(content.weights.values()))))
        return content

    def slowly(self: CheckpointManager, content: Content) -> None:
        time.sleep(0.1)  # in which training goes on to its next save
        alive.append(sum(copy() is not None for copy in copies))
        write(self, content)

    monkeypatch.setattr(CheckpointManager, "write", slowly)
    threads = as_on_a_gpu(monkeypatch)
    monkeypatch.setattr(Content, "of", collecting)
    mypt("train", "dante", *RUN, "--save-interval", "1")
    assert threads.keys() >= {"dante", "dante_gold"} and len(alive) > len(copies) >= 12
    assert set(alive) == {1}
    assert mypt("verify").exit_code == 0


def test_a_disk_that_refuses_a_save_beside_training_ends_the_run(mypt: Mypt, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = as_on_a_gpu(monkeypatch)
    mypt("train", "dante", *RUN)
    before = {p: p.read_bytes() for p in Path("checkpoints/dante").iterdir()}
    with monkeypatch.context() as patch:
        fill_the_disk(patch)
        result = mypt("resume", "dante", "--max-iters", "24", ok=False)
    assert result.exit_code == 1 and "the disk is full" in result.stderr
    assert threads["dante"] == "save_0"
    assert {p: p.read_bytes() for p in before} == before
    assert "Training finished!" in mypt("resume", "dante", "--max-iters", "24").output
