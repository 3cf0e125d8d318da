"""Folders of runs for the board, written as training writes them, without training."""

import json
from pathlib import Path
from typing import Any

from mypt import GPT, CheckpointManager, GPTConfig, Tokenizer
from mypt.board.index import Columns, LogIndex
from mypt.checkpoint.layout import log_path
from mypt.schema.files.events import Eval, Step
from mypt.schema.files.state import Progress, TrainingState
from mypt.schema.settings.training import TrainingConfig

RUN_ID = "5d0c9be7a214"
STARTED: dict[str, Any] = {
    "event": "training_start", "timestamp": "2026-03-14T09:15:02.481516",
    "config": {
        "max_iters": 100, "start_step": 0, "learning_rate": 0.01, "warmup_iters": 3, "grad_clip": 1.0,
        "grad_accum_steps": 1, "batch_size": 4, "block_size": 8, "tokens_per_step": 32, "eval_interval": 10,
        "eval_iters": 2, "use_amp": False, "amp_dtype": "bf16", "config_file": None, "dataset_dir": None,
    },
    "model": {
        "total_params": 1000, "n_layer": 1, "n_head": 2, "n_embd": 16, "pos_encoding": "rope", "mlp_type": "swiglu",
        "norm_type": "layernorm",
    },
}  # fmt: skip
HOSTILE = "x <img src=x onerror=window.hacked=1> ${7*7} \"'&amp;"


def start(step: int = 0, attempt: int = 1, run_id: str = RUN_ID) -> dict[str, Any]:
    """The beginning of a session."""
    return {**STARTED, "config": {**STARTED["config"], "start_step": step}, "run_id": run_id, "attempt": attempt}


def evaluation(step: int, loss: float, run_id: str = RUN_ID, **more: Any) -> dict[str, Any]:
    """An evaluation, half a second and 32 tokens a step."""
    event = Eval(
        iter=step, timestamp="2026-03-14T09:15:16.902377", elapsed_s=step / 2, tokens_processed=32 * step,
        progress_pct=1.0, lr=0.01, phase="main", val_loss=loss, eval_duration_s=0.1, tokens_per_sec=64,
        train_loss=loss - 0.1, val_bpb=loss * 1.4, **more,
    )  # fmt: skip
    return {**event.model_dump(), "run_id": run_id, "attempt": 1}


def step(number: int, loss: float, norm: float = 1.0, run_id: str = RUN_ID) -> dict[str, Any]:
    """A logged step."""
    event = Step(iter=number, timestamp="2026-03-14T09:15:17.1", loss=loss, lr=0.01, grad_norm=norm, tokens_per_sec=64)
    return {**event.model_dump(), "run_id": run_id, "attempt": 1}


def course(evals: int = 5, run_id: str = RUN_ID) -> list[dict[str, Any]]:
    """A short run: every second step logged, an evaluation every ten, the last of them gold."""
    events = [start(run_id=run_id)]
    for number in range(1, 10 * evals + 1):
        if number % 2 == 0:
            events.append(step(number, 3 - number / 100, run_id=run_id))
        if number % 10 == 0:
            events.append(evaluation(number, 3 - number / 100, run_id, eval_poems=3.5))
            gold = {"event": "gold_checkpoint", "iter": number, "timestamp": "2026-03-14T09:15:18.1"}
            events.append({**gold, "val_loss": 3 - number / 100, "prev_best": None, "run_id": run_id, "attempt": 1})
    return events


def write_log(path: Path, events: list[dict[str, Any]]) -> Path:
    """A log of some events."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(event) + "\n" for event in events), encoding="utf-8")
    return path


def columns_of(log: Path) -> Columns:
    """All of a log, in columns."""
    index = LogIndex(log)
    index.read(60)
    assert index.share == 1.0
    return index.columns


def write_run(folder: Path, name: str, events: list[dict[str, Any]] | None = None, run_id: str = RUN_ID) -> Path:
    """A bundle with its log; the path of the log."""
    config = GPTConfig(n_embd=16, n_head=2, n_layer=1, block_size=8, vocab_size=300, device="cpu")
    progress = Progress(tokens_processed=1600, last_val_loss=2.5, best_val_loss=2.4, last_val_bpb=3.5)
    state = TrainingState(
        step=50, training_config=TrainingConfig(max_iters=100), progress=progress, run_id=run_id, name=name,
        log_file=log_path(name).as_posix(), folder="checkpoints",
    )  # fmt: skip
    made = folder / "checkpoints" / "made"
    CheckpointManager("made", made.parent).save(GPT(config), Tokenizer.char("abc"), state)
    made.rename(made.with_name(name))  # which training would refuse for some names
    return write_log(folder / log_path(name), course(run_id=run_id) if events is None else events)


def grow(log: Path, *events: dict[str, Any]) -> None:
    """Append events, each in one write as training does."""
    with log.open("a", encoding="utf-8") as file:
        for event in events:
            file.write(json.dumps(event) + "\n")
            file.flush()
