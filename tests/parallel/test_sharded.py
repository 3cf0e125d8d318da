"""Weights in parts (FSDP2, HSDP) through the real command under torchrun: the same model, record and end as without."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from mypt.checkpoint.files import read_state
from mypt.launch import Launch
from mypt.model.cost import training_memory
from mypt.schema.settings.training import TrainingConfig
from mypt.train.parallel import layout
from tests.conftest import Mypt, flat
from tests.model.test_documents import documents
from tests.parallel.conftest import SHARED, Torchrun, Whole, environment
from tests.parallel.test_torchrun import errors_of, events, furthest, same_moments, same_weights, val_losses, weights
from tests.train.test_training import config_of as model_config

FSDP = [*SHARED, "--parallel", "fsdp"]
HSDP = [*SHARED, "--parallel", "hsdp", "--shard-size", "2"]
MUON = ["--optimizer", "muon", "--muon-dtype", "fp32", "--tie-weights", "--grad-accum-steps", "5"]
"""With tied weights, and a number of micro-batches that neither 2 nor 4 processes can share evenly."""


def same_bundle(a: str, b: str) -> bool:
    return same_weights(a, b) and same_moments(a, b) and val_losses(a)[-1] == val_losses(b)[-1]


def config_of(name: str) -> dict[str, Any]:
    found: dict[str, Any] = events(name, "training_start")[-1]["config"]
    return found


@pytest.mark.distributed
@pytest.mark.parametrize("more", [[], MUON], ids=["adamw", "muon"])
def test_a_model_in_parts_learns_what_a_whole_one_learns(
    torchrun: Torchrun, whole: Whole, mypt: Mypt, more: list[str]
) -> None:
    """To the bit on the same number of processes, and every verb reads its bundle in one process."""
    mypt("train", "alone", *SHARED, *more)
    whole(*FSDP, *more)
    for name, processes, call in [("again", 2, FSDP), ("rows", 4, HSDP)]:
        ended = torchrun(processes, "train", name, *call, *more)
        assert ended.code == 0 and ended.text.count("Training finished!") == 1, ended
        assert furthest("alone", name) <= 4.8e-7
    assert same_bundle("whole", "again") and val_losses("whole") == val_losses("again")
    assert not same_weights("alone", "rows") or not more  # they were summed in another order
    assert config_of("again")["parallel"] == "fsdp" and config_of("rows")["shard_size"] == 2
    assert read_state(Path("checkpoints/rows")).training_config.parallel == "hsdp"
    assert "of which each 2 hold the model in parts (hsdp)" in ended.text
    for verb in ("verify", "inspect", "export-fp16", "generate"):
        mypt(verb, "rows")
    reproduced = flat(mypt("reproduce", "rows", ok=False).output)
    assert "processes 4 1 trajectory within rounding" in reproduced
    assert "identical" in torchrun(4, "reproduce", "rows").text


@pytest.mark.distributed
@pytest.mark.parametrize("positions", ["rope", "learned"])
def test_parts_of_every_kind_of_weight_begin_as_those_of_one_process(
    torchrun: Torchrun, mypt: Mypt, positions: str
) -> None:
    """Tied, frozen, of positions, of a convolution, in odd rows, from a parent; with documents that see no other."""
    documents(Path("data"))
    mypt("prepare", "texts.txt", "--out", "data", "--tokenization", "char", "--val-share", "0.2")
    call = ["--dataset-dir", "data", *SHARED[4:], *MUON, "--n-layer", "3", "--n-embd", "20", "--token-conv", "3"]
    mypt("train", "parent", *call, "--pos-encoding", positions, "--mlp-type", "swiglu", "--max-iters", "1")
    frozen = ["--freeze-layers", "1", *(["--freeze-embeddings"] if positions == "learned" else [])]
    steady = ["--warmup-iters", "2", "--lr-schedule", "constant"]
    call = [*call, *steady, "--init-from-model", "parent", "--mask-documents", *frozen]
    mypt("train", "alone", *call)
    assert torchrun(2, "train", "two", *call, "--parallel", "fsdp", "--max-iters", "4").code == 0
    assert torchrun(2, "resume", "two", "--max-iters", "8").code == 0
    assert furthest("alone", "two") <= 4.8e-7
    before, after = weights("parent"), weights("two")
    unmoved = {name for name in after if torch.equal(before[name], after[name])}
    embeddings = ("token_emb", "position_emb", "lm_head") if positions == "learned" else ()
    assert unmoved == {name for name in after if name.startswith(("blocks.0.", *embeddings))}


@pytest.mark.distributed
def test_parts_are_made_anew_for_each_number_of_processes(torchrun: Torchrun, mypt: Mypt) -> None:
    """4 -> 2 -> 3 processes, and from parts to whole weights and back; each goes on from whole bundles."""
    steady = [*SHARED, *MUON, "--warmup-iters", "2", "--lr-schedule", "constant", "--eval-interval", "2"]
    mypt("train", "alone", *steady)
    assert torchrun(4, "train", "m", *steady, "--parallel", "fsdp", "--max-iters", "2").code == 0
    told = torchrun(2, "resume", "m", "--max-iters", "4")
    assert told.code == 0 and "processes 4 2 trajectory within rounding" in told.text
    told = torchrun(3, "resume", "m", "--max-iters", "6")
    assert told.code == 0 and "hold the model in parts (fsdp)" in told.text
    for name in ("whole", "one"):
        shutil.copytree("checkpoints/m", f"checkpoints/{name}")
    assert torchrun(3, "resume", "m", "--max-iters", "8").code == 0
    told = torchrun(2, "resume", "whole", "--max-iters", "8", "--parallel", "ddp")
    assert told.code == 0 and "parallel fsdp ddp trajectory within rounding" in told.text
    mypt("resume", "one", "--max-iters", "8")
    for name in ("m", "whole", "one"):
        assert furthest("alone", name) <= 4.8e-7 and read_state(Path("checkpoints", name)).step == 8
    again = torchrun(2, "reproduce", "whole").text  # each session in its own parts, and the last one without
    assert "processes 4 2 trajectory within rounding" in again and "mypt failed unexpectedly" not in again
    assert len(re.findall(r"\d\.\d{6} (?:yes|no)", again)) == 4, again


@pytest.mark.distributed
def test_gold_is_measured_anew_in_parts(torchrun: Torchrun, mypt: Mypt) -> None:
    """As where one process has all of it, where a resume evaluates otherwise."""
    otherwise = ["--max-iters", "12", "--eval-iters", "3"]
    assert torchrun(2, "train", "parts", *FSDP).code == 0
    assert torchrun(2, "resume", "parts", *otherwise).code == 0
    mypt("train", "whole", *SHARED)
    mypt("resume", "whole", *otherwise)
    (parts,), (whole,) = (events(name, "gold_remeasured") for name in ("parts", "whole"))
    assert parts["val_loss"] != parts["old_val_loss"] and abs(parts["val_loss"] - whole["val_loss"]) <= 1.5e-6


@pytest.mark.distributed
def test_layers_in_parts_can_be_recomputed_and_compiled(torchrun: Torchrun, whole: Whole) -> None:
    """Recomputed they give the same bits, compiled the same within rounding."""
    whole(*FSDP)
    assert torchrun(2, "train", "again", *FSDP, "--use-checkpoint").code == 0
    assert same_bundle("whole", "again")
    ended = torchrun(2, "train", "compiled", *FSDP, "--torch-compile", "on")
    assert ended.code == 0 and config_of("compiled")["torch_compile"] == "on", ended
    assert furthest("whole", "compiled") <= 4.8e-7


@pytest.mark.distributed
@pytest.mark.parametrize("processes", [3, 4])
def test_muon_in_parts_is_muon_to_the_bit(processes: int) -> None:
    script = Path(__file__).with_name("muon_in_parts.py")
    call = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        str(processes),
        str(script),
    ]
    done = subprocess.run(call, env=environment(), capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr


@pytest.mark.distributed
def test_a_signal_stops_all_saved_and_a_killed_process_is_replaced(torchrun: Torchrun, whole: Whole) -> None:
    """What is gone on with is what would have been, to the bit."""
    whole(*FSDP)
    ended = torchrun(2, "train", "stopped", *FSDP, fault="twice:1:5")
    assert ended.code == 0, ended
    assert ended.text.count("SIGTERM came to process 1 on ") == ended.text.count("Stopped after step 5") == 1
    assert read_state(Path("checkpoints/stopped")).step == 5
    assert torchrun(2, "resume", "stopped").code == 0 and same_bundle("stopped", "whole")
    ended = torchrun(2, "train", "killed", *FSDP, fault="kill:1:5", options=("--max-restarts", "2"))
    assert ended.code == 0 and re.search(r"Process 1 on \S+ is lost\.", ended.text), ended
    assert same_bundle("killed", "whole")


FAULTS = {
    "nan:1:5": r"Error: Step 6 has a loss of nan",
    "data:1:5": r"Error: Process 1 on \S+: The shard train_0.npy cannot be read any more",
    "bug:1:5": r"Error: Process 1 on \S+ ended with RuntimeError: a shape that nobody expected",
    "bug:0:5": r"RuntimeError: a shape that nobody expected",
    "hang:1:5": r"Error: Process 1 on \S+ hangs",
}
"""What happens in the middle of step 6, in a pass that all are in, and the message."""


@pytest.mark.distributed
@pytest.mark.parametrize("fault", FAULTS)
def test_what_goes_wrong_in_a_pass_ends_all_at_the_last_save(torchrun: Torchrun, fault: str) -> None:
    waits = ["--collective-timeout", "15"]  # long enough for a busy machine
    ended = torchrun(2, "train", "m", *FSDP, *waits, fault=fault)
    assert ended.code == 1 and len(re.findall(FAULTS[fault], ended.text)) == errors_of(ended) == 1, ended
    assert read_state(Path("checkpoints/m")).step == 4


def test_what_cannot_be_is_refused_and_one_process_has_no_parts(mypt: Mypt) -> None:
    refused = mypt("train", "m", *FSDP, "--reduce", "exact", ok=False)
    assert refused.exit_code == 2 and "reduce exact needs parallel ddp" in flat(refused.output)
    mypt("train", "m", *FSDP)
    mypt("train", "plain", *SHARED)
    assert same_bundle("m", "plain")
    assert config_of("m")["processes"] == 1


@pytest.mark.distributed
def test_rows_that_do_not_come_out_even_are_refused(torchrun: Torchrun) -> None:
    ended = torchrun(3, "train", "m", *HSDP)
    assert errors_of(ended) == 1 and "3 processes cannot be parted into rows of 2 (--shard-size)." in ended.text
    assert not Path("checkpoints/m").exists()


def test_memory_decides_where_nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    config = model_config()
    needed = training_memory(config, TrainingConfig(), processes=2)
    cases: list[tuple[int, dict[str, Any], str]] = [
        (2 * needed, {}, "ddp"), (2 * needed - 1, {}, "fsdp"), (9, {"reduce": "exact"}, "ddp"),
    ]  # fmt: skip
    for there, given, expected in cases:
        monkeypatch.setattr(layout, "physical_memory", lambda there=there: there)
        training = TrainingConfig(use_amp=False, **given)
        assert layout.settle_parallel(config, training, Launch(size=2)).parallel == expected
        assert layout.settle_parallel(config, training, Launch()) == training
