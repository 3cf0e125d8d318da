"""What an earlier version wrote is read, verified, resumed and reproduced as it was then."""

import json
import os
import platform
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from mypt import GPT
from mypt.checkpoint.manager import weights_sha256
from tests.conftest import Mypt, reseal

ARCHIVE = Path(__file__).parent / "fixtures" / "version_0_1.tar.xz"
RECORDED_FOLDER = "/tmp/fixture"
LAST_STEP = {"gpt2ish": 30, "llamaish": 20, "shardish": 15, "child": 10}
IN_FP32 = [name for name in LAST_STEP if name != "llamaish"]

AS_IT_WAS_MADE = {"OMP_NUM_THREADS": "1", "MKL_CBWR": "COMPATIBLE", "ATEN_CPU_CAPABILITY": "default"}
"""One thread and no instructions that some processors lack, so that fp32 gives the same bits on all of them."""
SAME_BITS = sys.platform == "linux" and platform.machine() == "x86_64" and torch.__version__.startswith("2.13.")
"""Whether the bits of the archive can be expected here; another build of torch adds in another order."""
CLOSE = 1e-3

RESUMED_TO_36 = "d4ea07a1eae28e64e4e783901ae102562ab852ed3046204c8d44080210f58396"
"""The weights that the earlier version itself came to by `mypt resume gpt2ish --max-iters 36`."""

pytestmark = pytest.mark.usefixtures("earlier")


@pytest.fixture
def earlier(folder: Path) -> Iterator[Path]:
    """The unpacked folder, its absolute paths rewritten to where it is now."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extraction_filter = getattr(tarfile, "data_filter", None)  # unknown to the first releases of 3.11
        archive.extractall(folder)
    for state in folder.glob("checkpoints/*/training_state.json"):
        text = state.read_text(encoding="utf-8")
        state.write_text(text.replace(RECORDED_FOLDER, folder.as_posix()), encoding="utf-8", newline="\n")
        reseal(state.parent, json.loads(text)["step"])
    yield folder


def as_it_was_made(*words: str) -> "subprocess.CompletedProcess[str]":
    """A call in a process of its own: torch reads these variables once, as it is loaded."""
    environment = {**os.environ, **AS_IT_WAS_MADE, "PYTHONUTF8": "1", "COLUMNS": "100"}
    call = [sys.executable, "-m", "mypt", *words]
    return subprocess.run(call, env=environment, capture_output=True, encoding="utf-8", check=False)


def state_of(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path("checkpoints", name, "training_state.json").read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("name", LAST_STEP)
def test_its_records_are_read(name: str, mypt: Mypt) -> None:
    recorded = state_of(name)
    recorded["progress"]["gold"] |= {"provisional": [], "measures": {}}  # which came later
    recorded["progress"]["evaluations_since_best"] = 0
    shown = json.loads(mypt("inspect", name, "--json").output)["training_state"]
    assert shown["step"] == LAST_STEP[name] and shown["progress"] == recorded["progress"]
    page = mypt("inspect", name).output
    assert f"Last recorded training step: {LAST_STEP[name]}" in page and " NO " not in page

    summary = json.loads(mypt("logs", "summarize", name, "--json").output)
    assert (summary["state"], summary["step"], summary["runs"]) == ("complete", LAST_STEP[name], 1)
    assert summary["val_loss"]["last"] == round(recorded["progress"]["last_val_loss"], 6)
    assert len(summary["attempts"]) == len(recorded["sessions"])
    assert not any(summary["passed_over"].values()), "lines of its log were passed over"

    result = json.loads(mypt("compare", name, "gpt2ish", "--json").output)["runs"][0]
    assert result["results"]["best_val_loss"] == recorded["progress"]["best_val_loss"]
    assert len(result["curve"]) == summary["evaluations"]


def test_its_bundles_pass_every_check(mypt: Mypt) -> None:
    checks = json.loads(mypt("verify", "--json").output)
    assert {c["bundle"] for c in checks} == {*LAST_STEP, *(f"{name}_gold" for name in LAST_STEP), "gpt2ish_fp16"}
    assert not [c for c in checks if c["ok"] is False]
    left_out = [c for c in checks if c["ok"] is not True]
    assert {c["bundle"] for c in left_out} == {"gpt2ish_fp16"}, "only an export has nothing to check some things by"


def test_its_weights_are_those_that_it_saved() -> None:
    parent = state_of("child")["parent"]
    assert weights_sha256(GPT.load(parent["name"], device="cpu")) == parent["weights_sha256"]
    half = GPT.load("gpt2ish_fp16", device="cpu")
    assert half.tokenizer is not None and half.tokenizer.decode([0, 1, 2])


def test_a_setting_by_its_earlier_name_is_kept(mypt: Mypt) -> None:
    assert state_of("shardish")["training_config"]["on_spike"] == "skip"
    shown = json.loads(mypt("inspect", "shardish", "--json").output)["training_state"]["training_config"]
    assert shown["on_nonfinite"] == "skip" and "on_spike" not in shown
    said = mypt("resume", "shardish", "--max-iters", "16").output
    assert "on_nonfinite" not in said, "a new name is no change"
    assert state_of("shardish")["training_config"]["on_nonfinite"] == "skip"


@pytest.mark.parametrize("name", IN_FP32)
def test_its_runs_reproduce(name: str) -> None:
    made = as_it_was_made("reproduce", name)
    rows = re.findall(r"^ +\d+ +([\d.]+) +([\d.]+) +([\d.]+) +([\d.]+)  (?:yes|NO)$", made.stdout, re.M)
    assert len(rows) == LAST_STEP[name] // 5, made.stdout + made.stderr
    for row in rows:
        val, val_now, train, train_now = map(float, row)
        assert val == pytest.approx(val_now, abs=CLOSE) and train == pytest.approx(train_now, abs=CLOSE)
    if SAME_BITS:
        assert made.returncode == 0, made.stdout
        assert f"identical: all {LAST_STEP[name]} steps and the weights" in made.stdout


def test_its_run_goes_on_to_the_weights_that_it_would_have_come_to() -> None:
    made = as_it_was_made("resume", "gpt2ish", "--max-iters", "36")
    assert made.returncode == 0 and "Resuming gpt2ish from step 30." in made.stdout, made.stdout + made.stderr
    state = state_of("gpt2ish")
    assert (state["step"], [s["start_step"] for s in state["sessions"]]) == (36, [0, 20, 30])
    if SAME_BITS:
        assert weights_sha256(GPT.load("gpt2ish", device="cpu")) == RESUMED_TO_36


def test_half_precision_stays_as_recorded(mypt: Mypt) -> None:
    """The earlier version recorded the decision without a reason; no measurement may overrule it."""
    mypt("resume", "llamaish", "--max-iters", "22")
    state = state_of("llamaish")
    assert state["step"] == 22
    assert all(s["training_config"]["use_amp"] is True for s in [state, *state["sessions"]])
    *_, start = (
        event
        for line in Path("logs/train/llamaish_eval.jsonl").read_text(encoding="utf-8").splitlines()
        if (event := json.loads(line))["event"] == "training_start"
    )
    assert start["config"]["amp_dtype"] == "bf16" and start["config"]["optimizer"] == "muon"
