"""What `mypt logs show` has of each event."""

import re
from pathlib import Path
from typing import Any

import pytest

from mypt.schema.files.events import (
    EVENTS,
    BatchSkipped,
    Evaluation,
    GoldRemeasured,
    OutputLost,
    Sample,
    Step,
    TrainingStopped,
)
from mypt.schema.files.log_line import Event
from tests.conftest import Mypt, flat
from tests.log.test_logs import EXAMPLES, written

SHOWN = {
    "training_start": "step lr what 0 1.50e-04 to step 75,000, 98,304 tokens a step",
    "eval": "step val general domain code retrieval lr tokens what "
    "350 4.1235 4.2346 4.3457 3.9877 4.5679 1.40e-05 34M phase circuit_formation",
    "gold_checkpoint": "step val what 1,050 3.8765 before it 3.9123",
    "phase_switch": "step tokens what 9,125 897M balanced",
    "gold_blocked": "step val what 50,000 3.6543 overfit: val/train=6.2x, threshold=5.0x",
    "training_complete": "step val train tokens tokens/s what "
    "75,000 3.1235 2.9877 7.4B 113,778 in 18.0h, best val 3.1000, gold at step 72,000",
    "sample": "step what 5 nel mezzo del",
    "training_stopped": "step tokens what 7 64 SIGTERM",
    "batch_skipped": "step what 7 no token counts 8 loss nan",
    "output_lost": "step what 7 closed",
    "gold_remeasured": "step val what 7 2.0000 val, poems: other windows, gold was 2.5000",
    "evaluation": "step ± loss bpb perplexity what 7 0.1000 2.0000 2.9000 7.4000 m on dante.txt",
    "step": "step train lr norm tokens/s 7 2.0000 1.00e-03 0.5000 640",
}
"""What `mypt logs show` has of each event, without its time."""


@pytest.mark.parametrize("kind", [*EVENTS])
def test_every_event_has_its_figures_in_columns(kind: str, mypt: Mypt) -> None:
    at: dict[str, Any] = {"timestamp": "2026-02-09T14:45:12"}
    further: list[Event] = [
        Step(iter=7, loss=2.0, lr=1e-3, grad_norm=0.5, tokens_per_sec=640, **at),
        Sample(iter=5, duration_s=1.0, seed=1, prompt="nel", text=" mezzo\ndel", **at),
        TrainingStopped(iter=7, elapsed_s=1.0, tokens_processed=64, reason="SIGTERM", **at),
        BatchSkipped(iter=7, loss=None, windows=[[1]], **at), BatchSkipped(iter=8, loss="nan", windows=[[1]], **at),
        OutputLost(iter=7, reason="closed", **at),
        GoldRemeasured(iter=7, sets=["val", "poems"], gold_step=3, old_val_loss=2.5, val_loss=2.0, measures={},
                       reason="other windows", **at),
        Evaluation(iter=7, duration_s=1.0, bundle="m", weights_sha256="w", model_sha256="s", kind="text",
                   source="/x/dante.txt", loss=2.0, se=0.1, bpb=2.9, perplexity=7.4, **at),
    ]  # fmt: skip
    lines = [line for line in EXAMPLES.splitlines() if f'"{kind}"' in line][:1]
    lines += [e.model_dump_json() for e in further if e.event == kind]  # type: ignore[attr-defined]
    path = written(Path("x.jsonl"), *lines)
    shown = mypt("logs", "show", path, "--event", kind, "--width", "140").output
    told = re.sub(r"─+|\btime\b|\d\d:\d\d:\d\d", "", shown)
    assert flat(told) == SHOWN[kind]
