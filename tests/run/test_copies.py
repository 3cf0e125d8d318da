"""Copies of bundles: which part of a shared log is whose, and what a bundle's folder is to its run."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from mypt.checkpoint.files import read_state
from mypt.checkpoint.manager import CheckpointManager
from tests.conftest import TINY, Mypt, reseal

RUN = ["--input-file", "input.txt", *TINY, "--max-iters", "12", "--eval-interval", "4"]
OUT = Path("checkpoints")


def evaluations(mypt: Mypt, name: str) -> list[int]:
    """Steps of the evaluations that `logs show` has of a bundle."""
    lines = mypt("logs", "show", name, "--event", "eval", "--json").output.splitlines()
    return [json.loads(line)["iter"] for line in lines]


def summary(mypt: Mypt, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(mypt("logs", "summarize", name, "--json").output)
    return found


def checks(mypt: Mypt, *names: str) -> dict[str, tuple[bool | None, str]]:
    found = json.loads(mypt("verify", *names, "--json", ok=False).output)
    return {c["name"]: (c["ok"], c["found"]) for c in found}


def forget_names() -> None:
    """Let records be as an earlier version wrote them, without the name of their run."""
    for path in OUT.glob("*/training_state.json"):
        state = json.loads(path.read_text(encoding="utf-8"))
        del state["name"]
        path.write_text(json.dumps(state, indent=2), encoding="utf-8")
        reseal(path.parent, state["step"])


@pytest.mark.parametrize("named", [True, False], ids=["named", "of an earlier version"])
@pytest.mark.parametrize("bundle", ["a", "a_gold"])
def test_a_copy_knows_nothing_of_what_its_run_did_later(bundle: str, named: bool, mypt: Mypt) -> None:
    mypt("train", "a", *RUN)
    shutil.copytree(OUT / bundle, OUT / "b")
    if not named:
        forget_names()
    mypt("resume", "a", "--max-iters", "20", "--lr", "3e-2")
    last = read_state(OUT / "b").progress.last_val_loss
    step = read_state(OUT / "b").step
    steps = [s for s in (4, 8, 12) if s <= step]
    assert evaluations(mypt, "b") == steps and evaluations(mypt, "a") == [4, 8, 12, 16, 20]
    found = summary(mypt, "b")
    assert (found["step"], found["val_loss"]["last"], len(found["attempts"])) == (step, round(last or 0, 6), 1)
    assert found["state"] == "complete"
    for run in json.loads(mypt("compare", "b", "a", "--json").output)["runs"]:
        assert run["curve"][-1]["val_loss"] == pytest.approx(run["results"]["final_val_loss"], abs=1e-6)
    tail = mypt("logs", "tail", "b").output
    assert f"step {step}/12" in tail and "step 16" not in tail and "without a word" not in tail
    assert mypt("reproduce", "b").output.splitlines()[-1].startswith(f"identical: all {step} steps")
    assert not [c for c in checks(mypt, "b").items() if c[1][0] is False]


def test_a_gold_tells_of_the_run_up_to_itself(mypt: Mypt) -> None:
    mypt("train", "a", *RUN)
    mypt("resume", "a", "--max-iters", "20", "--lr", "30", "--lr-schedule", "constant")  # far from anything good
    assert evaluations(mypt, "a_gold") == [4, 8, 12] == evaluations(mypt, "a")[:3] and summary(mypt, "a")["step"] == 20
    found = summary(mypt, "a_gold")
    assert (found["step"], found["state"], found["max_iters"]) == (12, "complete", 12)
    mypt("train", "c", *RUN, "--max-iters", "9", "--lr", "30", "--lr-schedule", "constant")
    gold = read_state(OUT / "c_gold").step
    assert gold < 9 and summary(mypt, "c_gold")["state"] == "unfinished" and summary(mypt, "c_gold")["step"] == gold


def test_what_a_rewind_discarded_is_still_that_of_a_copy_from_before(mypt: Mypt) -> None:
    mypt("train", "a", *RUN)
    mypt("resume", "a", "--max-iters", "16", "--lr", "30", "--lr-schedule", "constant")
    shutil.copytree(OUT / "a", OUT / "b")
    mypt("resume", "a", "--from", "gold", "--max-iters", "20", "--lr", "1e-3", "--lr-schedule", "cosine")
    assert evaluations(mypt, "b") == [4, 8, 12, 16]
    assert summary(mypt, "b")["val_loss"]["last"] == round(read_state(OUT / "b").progress.last_val_loss or 0, 6)
    assert mypt("reproduce", "b").output.splitlines()[-1].startswith("identical: all 16 steps")


@pytest.mark.parametrize("name", ["a_gold", "a_fp16", "a_gold_fp16"])
def test_a_run_may_be_called_as_a_gold_or_an_export_is(name: str, mypt: Mypt) -> None:
    mypt("train", name, *RUN)
    found = json.loads(mypt("verify", "--json").output)
    assert {c["bundle"] for c in found} == {name, f"{name}_gold", f"{name}_fp16"}
    gold = {c["bundle"]: c["found"] for c in found if c["name"] == "gold fits record" and c["ok"]}
    assert gold.keys() == {name, f"{name}_gold"}
    assert evaluations(mypt, name) == [4, 8, 12] and summary(mypt, name)["state"] == "complete"


def test_a_gold_ahead_of_its_run_is_no_fault(mypt: Mypt, monkeypatch: pytest.MonkeyPatch) -> None:
    mypt("train", "a", *RUN, "--max-iters", "8")
    write = CheckpointManager.write

    def killed(self: CheckpointManager, content: Any) -> None:
        if self.name == "a":
            raise OSError("killed between the save of gold and that of the run")
        write(self, content)

    with monkeypatch.context() as patch:
        patch.setattr(CheckpointManager, "write", killed)
        assert mypt("resume", "a", "--max-iters", "12", ok=False).exit_code == 1
    assert (read_state(OUT / "a_gold").step, read_state(OUT / "a").step) == (12, 8)
    for name in ("a", "a_gold"):
        assert not [c for c in checks(mypt, name).items() if c[1][0] is False]
    assert "ahead of the run" in checks(mypt, "a")["gold fits record"][1]
    assert evaluations(mypt, "a_gold") == [4, 8, 12]
    mypt("resume", "a", "--max-iters", "12")
    assert checks(mypt, "a")["gold fits record"][1].startswith("step 12, val loss")
