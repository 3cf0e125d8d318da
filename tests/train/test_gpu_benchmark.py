"""The benchmark of GPUs works without one, on the smallest shape, so that it works where a GPU is lent for an hour."""

import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import gpu
from benchmarks.gpu import Line

PEER = """
import torch
from dataclasses import dataclass

@dataclass
class GPTConfig:
    n_layer: int
    n_head: int
    n_embd: int
    block_size: int
    vocab_size: int
    dropout: float
    bias: bool

class GPT(torch.nn.Module):
    def __init__(self, config):
        super().__init__()
        self.out = torch.nn.Embedding(config.vocab_size, config.n_embd)

    def configure_optimizers(self, weight_decay, learning_rate, betas, device):
        return torch.optim.SGD(self.parameters(), lr=learning_rate)

    def forward(self, x, y):
        logits = self.out(x) @ self.out.weight.T
        return logits, torch.nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten())
"""


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in the place of a checkout of nanoGPT."""
    (tmp_path / "peer").mkdir()
    (tmp_path / "peer" / "model.py").write_text(PEER, encoding="utf-8")
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "model", raising=False)
    monkeypatch.setattr(gpu, "write_ids", few_ids)
    return tmp_path / "peer"


def few_ids(folder: Path, ids: int) -> None:
    import numpy as np

    folder.mkdir()
    for name in ("train", "val"):
        np.random.default_rng(ids).integers(0, ids, 500, dtype=np.uint16).tofile(folder / f"{name}.bin")


def here(line: Line, shape: str, ids: Path, given: Namespace) -> dict[str, Any]:
    """What `measured` has a process do, done in this one."""
    return gpu.WORK[line.of](line, Namespace(**{**vars(given), "shape": shape, "ids": ids / str(line.ids)}))


def test_every_line_is_measured_and_set_beside_the_first(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu, "measured", here)
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--device", "cpu", "--tiny", "--nanogpt", str(checkout)])
    gpu.main()
    sys.modules.pop("model", None)
    _, shape, *lines = capsys.readouterr().out.splitlines()
    ways = [
        "nanogpt, eager, tied, 50,257 ids", "nanogpt, eager, tied, 26 ids", "mypt, eager, tied, 50,257 ids",
        "mypt, eager, tied, 26 ids", "mypt, eager, untied, 50,257 ids", "mypt, eager, tied, 50,257 ids, fixed order",
    ]  # fmt: skip
    assert shape.startswith("tiny: ") and [line.split("  ")[1] for line in lines[:6]] == ways
    assert " 1.00 x " in lines[0] and all(" x  peak" in line and "tokens/s" in line for line in lines[:6])
    assert lines[6:] == [
        "  MFU is unknown here; the goal is 50%",
        "  mypt, eager, tied, 50,257 ids, fixed order, again: the same weights to the bit",
    ]


def test_a_process_of_its_own_measures_a_line_and_the_goal_is_told_where_the_peak_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    few_ids(tmp_path / "50257", 50257)
    monkeypatch.setattr(gpu, "hardware", lambda _: "NVIDIA A100")
    given = Namespace(device="cpu", tiny=True, nanogpt=None)
    gpu.table("tiny", [Line("mypt", compiled=False)], tmp_path, given)
    line, goal = capsys.readouterr().out.splitlines()
    assert "mypt, eager, tied, 50,257 ids" in line and "unknown" not in line
    assert goal.startswith("  best MFU 0.0%, goal 50%")
