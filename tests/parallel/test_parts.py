"""Bundles that the processes of a run save in parts, through the real command under torchrun."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mypt.checkpoint.files import read_config, read_state
from mypt.checkpoint.layout import MODEL_PARTS, OPTIMIZER_PARTS
from mypt.checkpoint.parts.heads import parts_of, read_part
from mypt.checkpoint.stored import load_moments, load_weights
from tests.conftest import Mypt
from tests.parallel.conftest import Torchrun, environment
from tests.parallel.test_sharded import FSDP, HSDP, MUON
from tests.parallel.test_torchrun import errors_of

pytestmark = pytest.mark.distributed
LARGE = "large:nothing:1:0"
"""No fault, but any model is taken for a large one."""


def same_bundle(a: str, b: str) -> bool:
    """Whether two bundles hold the same, to the bit, wherever it lies."""
    left, right = (Path("checkpoints", name) for name in (a, b))
    weights = [load_weights(bundle, read_config(bundle)) for bundle in (left, right)]
    moments = [load_moments(bundle, read_config(bundle))["optimizer"]["state"] for bundle in (left, right)]
    assert weights[0].keys() == weights[1].keys() and moments[0].keys() == moments[1].keys()
    return all(torch.equal(weights[0][n], weights[1][n]) for n in weights[0]) and all(
        torch.equal(moments[0][number][n], moments[1][number][n]) for number in moments[0] for n in moments[0][number]
    )


def test_a_run_in_parts_is_the_run_that_is_gathered(torchrun: Torchrun, mypt: Mypt) -> None:
    """4 processes in rows of 2, then 3, then 1; to the bit, and every command reads what they have saved.

    A model that is taken for a large one is saved in parts by itself, and a small one is gathered.
    """
    steady = [*MUON, "--warmup-iters", "2", "--lr-schedule", "constant", "--eval-interval", "2", "--max-iters", "2"]
    assert torchrun(4, "train", "parts", *HSDP, *steady, fault=LARGE).code == 0
    assert torchrun(4, "train", "whole", *HSDP, *steady).code == 0
    bundle = Path("checkpoints/parts")
    rows = [read_part(part)["blocks.0.attn.qkv.weight"] for part in parts_of(bundle, MODEL_PARTS)[:4]
            if "blocks.0.attn.qkv.weight" in read_part(part)]  # fmt: skip
    assert sorted(piece.start for piece in rows) == [0, 24], "each row of processes has all: one of them saves it"
    assert len(parts_of(bundle, OPTIMIZER_PARTS)) > 1 and parts_of(Path("checkpoints/whole"), MODEL_PARTS) == []
    assert same_bundle("parts", "whole") and same_bundle("parts_gold", "whole_gold")
    assert torchrun(3, "resume", "parts", "--max-iters", "4", "--parallel", "fsdp", fault=LARGE).code == 0
    assert torchrun(3, "resume", "whole", "--max-iters", "4", "--parallel", "fsdp").code == 0
    assert same_bundle("parts", "whole") and parts_of(bundle, MODEL_PARTS)
    assert "0 faults" in mypt("verify").output
    for verb in ("inspect", "generate", "export", "export-fp16"):
        mypt(verb, "parts")
    for name in ("parts", "whole"):
        mypt("resume", name, "--max-iters", "6")
    assert same_bundle("parts", "whole") and not parts_of(bundle, MODEL_PARTS)


def test_a_wrong_byte_in_the_part_of_another_process_is_found_by_all(torchrun: Torchrun) -> None:
    """Each process compares the hashes of some parts; nothing is trained on what one of them finds damaged."""
    assert torchrun(2, "train", "m", *FSDP, fault=LARGE).code == 0
    part = parts_of(Path("checkpoints/m"), OPTIMIZER_PARTS)[1]
    content = bytearray(part.read_bytes())
    content[-3] ^= 1
    part.write_bytes(content)
    told = torchrun(2, "resume", "m", "--max-iters", "12")
    assert told.code == 1 and errors_of(told) == 1, told
    assert "Process 1 on " in told.text and "its SHA-256 does not match the manifest" in told.text, told
    assert read_state(Path("checkpoints/m")).step == 8


def test_a_large_model_is_gathered_where_a_process_does_not_see_the_folder(torchrun: Torchrun) -> None:
    told = torchrun(2, "train", "m", *FSDP, fault="large:elsewhere:1:0")
    assert told.code == 0 and parts_of(Path("checkpoints/m"), MODEL_PARTS) == [], told
    assert "so process 0 gathers what it saves" in told.text
    assert read_state(Path("checkpoints/m")).training_config.save_in_parts == "auto"


def test_parts_are_refused_where_a_process_does_not_see_the_folder(torchrun: Torchrun) -> None:
    told = torchrun(2, "train", "m", *FSDP, "--save-in-parts", "on", fault="elsewhere:1:0")
    assert told.code == 1 and errors_of(told) == 1, told
    assert "Not every process sees the folder of the bundles" in told.text and "--out-dir" in told.text
    assert not Path("checkpoints/m").exists()


def test_torchs_own_tools_save_and_load_the_network_in_parts(folder: Path) -> None:
    """Beside training, and from 4 processes to 2 and 3, to the bit."""
    script = str(Path(__file__).with_name("torchs_own.py"))
    for processes, verb in [(4, "save"), (2, "load"), (3, "load")]:
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        done = subprocess.run(
            [*torchrun, script, verb], cwd=folder, env=environment(), capture_output=True, timeout=180
        )
        assert done.returncode == 0, done.stderr
        assert verb == "save" or Path("same").exists()
        Path("same").unlink(missing_ok=True)
