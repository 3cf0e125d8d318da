"""A whole run on very many processes: one of them writes and shows, and what comes of it is what one alone makes."""

from pathlib import Path
from typing import Any

import pytest
import torch

from mypt import CheckpointManager
from mypt.log.reader import read_events
from mypt.run.train import Call, train
from mypt.schema.resolve import resolve_settings
from mypt.train.observer import Observer
from tests.run.crowd import Crowd


def a_run(name: str, ranks: int, reduction: str) -> None:
    """Two steps with an evaluation after each, of as many micro-batches as there are processes."""
    given = {
        "input_file": "input.txt", "tokenization": "char", "n_layer": 1, "n_head": 1, "n_embd": 4, "block_size": 8,
        "batch_size": 1, "grad_accum_steps": ranks, "eval_iters": ranks + 1, "max_iters": 2, "eval_interval": 1,
        "dropout": 0.0, "use_amp": False, "learning_rate": 1e-2, "device": "cpu", "reduce": reduction,
    }  # fmt: skip
    train(Call(name, resolve_settings(given)), Observer())


def weights(name: str) -> dict[str, torch.Tensor]:
    return CheckpointManager(name, "checkpoints").load().model.state_dict()


def events(name: str) -> list[dict[str, Any]]:
    return [*read_events(Path("logs/train") / f"{name}_eval.jsonl")]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(("ranks", "reduction"), [(128, "sum"), (128, "exact"), (1024, "exact")])
def test_one_of_many_writes_what_one_alone_would(ranks: int, reduction: str, monkeypatch: pytest.MonkeyPatch) -> None:
    a_run("alone", ranks, reduction)
    crowd = Crowd(ranks)
    crowd.run(lambda: a_run("many", ranks, reduction), monkeypatch)
    assert crowd.wrote.keys() == {0} and "logs/train/many_eval.jsonl" in crowd.wrote[0]
    alone, many = events("alone"), events("many")
    assert [e["event"] for e in many] == [e["event"] for e in alone] and len(many) >= 4
    apart = [abs(a["val_loss"] - b["val_loss"]) for a, b in zip(alone, many, strict=True) if a["event"] == "eval"]
    drift = max(
        float((a - b).abs().max()) for a, b in zip(weights("alone").values(), weights("many").values(), strict=True)
    )
    assert max(*apart, drift) <= (0.0 if reduction == "exact" else 1e-6) and len(apart) == 2
