"""Runs mypt under torchrun, as users do."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

FAULTY = Path(__file__).with_name("faulty.py")
ROOT = FAULTY.parents[2]
SHARED = [
    "--input-file", "input.txt", "--tokenization", "char", "--n-layer", "2", "--n-head", "2", "--n-embd", "16",
    "--block-size", "16", "--batch-size", "4", "--grad-accum-steps", "4", "--eval-iters", "5", "--max-iters", "8",
    "--eval-interval", "4", "--learning-rate", "1e-2", "--no-use-amp",
]  # fmt: skip
"""A run of eight steps of four micro-batches, with dropout, whose evaluations have five batches."""


@dataclass(frozen=True)
class Ended:
    """How a call under torchrun ended: its exit code, and what all of its processes and torchrun itself printed."""

    code: int
    text: str

    def __str__(self) -> str:
        return self.text


Torchrun = Callable[..., Ended]
Whole = Callable[..., None]


@pytest.fixture
def torchrun(folder: Path) -> Torchrun:
    """Calls `mypt` with some words in so many processes; a fault may happen to one, torchrun may get options."""

    def run(processes: int, *words: object, fault: str | None = None, options: tuple[str, ...] = ()) -> Ended:
        done = subprocess.run(
            command(processes, *words, fault=fault, options=options),
            capture_output=True, text=True, encoding="utf-8", cwd=folder, env=environment(fault), timeout=180,
        )  # fmt: skip
        return Ended(done.returncode, " ".join((done.stdout + done.stderr).split()))

    return run


@pytest.fixture(scope="session")
def kept_runs() -> dict[tuple[str, ...], Path]:
    """By the words of a call, where the run that came of it is kept."""
    return {}


@pytest.fixture
def whole(
    torchrun: Torchrun, kept_runs: dict[tuple[str, ...], Path], tmp_path_factory: pytest.TempPathFactory
) -> Whole:
    """Lays the run `whole`, to which nothing happened on two processes: trained once a session for each call."""
    places = (Path("checkpoints/whole"), Path("logs/train/whole_eval.jsonl"))

    def lay(*words: str) -> None:
        if words in kept_runs:
            copy(kept_runs[words], Path.cwd())
            return
        assert torchrun(2, "train", "whole", *words).code == 0
        kept_runs[words] = tmp_path_factory.mktemp("whole")
        copy(Path.cwd(), kept_runs[words])

    def copy(source: Path, target: Path) -> None:
        for place in places:
            (target / place.parent).mkdir(parents=True, exist_ok=True)
            (shutil.copytree if (source / place).is_dir() else shutil.copy2)(source / place, target / place)

    return lay


def on_two_hosts(folders: tuple[Path, Path], *words: object) -> list[Ended]:
    """Calls `mypt` in two processes, each started by a torchrun of its own in a folder of its own, as on two hosts."""
    with socket.socket() as probing:
        probing.bind(("localhost", 0))
        port = probing.getsockname()[1]
    meeting = ["--nnodes", "2", "--rdzv-backend", "c10d", "--rdzv-endpoint", f"localhost:{port}", "--rdzv-id", "job"]
    call = command(1, *words, options=tuple(meeting), standalone=False)
    started = [
        subprocess.Popen(
            call, cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8"
        )
        for folder in folders
    ]
    texts = [process.communicate(timeout=180)[0] for process in started]
    return [Ended(p.returncode, " ".join(text.split())) for p, text in zip(started, texts, strict=True)]


def command(
    processes: int,
    *words: object,
    fault: str | None = None,
    options: tuple[str, ...] = (),
    standalone: bool = True,
) -> list[str]:
    """The words of a call under torchrun."""
    script = [str(FAULTY)] if fault else ["-m", "mypt"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes)]
    options = ("--standalone", *options) if standalone else options
    return [*torchrun, *options, *script, *map(str, words)]


def environment(fault: str | None = None) -> dict[str, str]:
    """Of a call under torchrun; one thread for each process, as torchrun itself has it."""
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", "")])
    wanted = {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    return {**os.environ, **wanted, **({"FAULT": fault} if fault else {})}
