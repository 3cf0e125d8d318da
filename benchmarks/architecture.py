"""What a convolution over embeddings or another norm changes in the preset `small`: CPU time of a step, and val loss.

Steps are those of `small` with a batch of 4 windows, as many as a CPU takes at once, of one variant after the other.
Runs are of smaller siblings, all else as in the preset: few steps on a whole text, and as many passes through as many
characters for each parameter as `small` makes on tiny Shakespeare, measured on another part of the text. A seed stands
for the same batches in each variant, so that differences are paired.

python benchmarks/architecture.py --text tinyshakespeare.txt
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

from peers import machine

from mypt import GPT, GPTDataLoader, Tokenizer
from mypt.schema.files.state import TrainingState
from mypt.schema.resolve import resolve_settings
from mypt.train.device.choices import settle_choices
from mypt.train.device.devices import keep_freed_memory
from mypt.train.observer import Observer
from mypt.train.run_data import RunData
from mypt.train.session import assemble
from mypt.train.step import Stepper

VARIANTS: dict[str, dict[str, Any]] = {
    "small": {},
    "layernorm": {"norm_type": "layernorm"},
    "layernorm, token_conv 4": {"norm_type": "layernorm", "token_conv": 4},
    "dropout 0.1": {"dropout": 0.1},
    "rope_theta 100": {"rope_theta": 100.0},
    "n_head 8": {"n_head": 8},
    "learning_rate 0.02": {"learning_rate": 0.02},
}


@dataclass(frozen=True)
class Sibling:
    """Runs of a smaller model: its settings, the part of the text it is trained on, and that it is measured on."""

    settings: dict[str, Any]
    trained: slice
    measured: slice


SIBLINGS = {
    "500 steps, half a pass": Sibling(
        {"n_embd": 128, "n_head": 4, "n_layer": 4, "block_size": 128, "batch_size": 8, "max_iters": 500,
         "eval_interval": 250},
        slice(0, 1_003_854), slice(1_003_854, None),
    ),
    "1500 steps, 20 passes": Sibling(
        {"n_embd": 96, "n_head": 4, "n_layer": 4, "block_size": 64, "batch_size": 8, "max_iters": 1500,
         "eval_interval": 500},
        slice(0, 42_000), slice(600_000, 700_000),
    ),
}  # fmt: skip


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--text", type=Path, required=True)
    options.add_argument("--rounds", type=int, default=15, help="steps of each variant")
    options.add_argument("--seeds", type=int, default=3)
    given = options.parse_args()
    text = given.text.read_text(encoding="utf-8")
    print(f"{machine()}; each beside the first")
    for name, times in step_times(text, given.rounds).items():
        print(f"  {name:24} {median(times):.3f} times the CPU time of a step")
    for what, sibling in SIBLINGS.items():
        print(what)
        first: list[dict[int, float]] = []
        for name, settings in VARIANTS.items():
            found = [val_losses(text, sibling, {**settings, "seed": seed}) for seed in range(1, given.seeds + 1)]
            first = first or found
            for step in found[0]:
                apart = [a[step] - b[step] for a, b in zip(found, first, strict=True)]
                error = stdev(apart) / len(apart) ** 0.5 if len(apart) > 1 else float("nan")
                loss = mean(losses[step] for losses in found)
                print(f"  {name:24} step {step:4}  val {loss:.4f}  {mean(apart):+.4f} +- {error:.4f}")


def step_times(text: str, rounds: int) -> dict[str, list[float]]:
    """CPU time of each step over that of the first variant in the same round, without the first round."""
    keep_freed_memory()
    steppers = {name: stepper(text, settings) for name, settings in VARIANTS.items()}
    times: dict[str, list[float]] = {name: [] for name in steppers}
    for step in range(rounds + 1):
        for name in list(steppers)[:: -1 if step % 2 else 1]:
            began = time.process_time()
            list(steppers[name].step(step))
            times[name].append(time.process_time() - began)
    first = next(iter(times.values()))
    return {name: [a / b for a, b in zip(found, first, strict=True)][1:] for name, found in times.items()}


def stepper(text: str, settings: dict[str, Any]) -> Stepper:
    """The trainer of `small` with these settings."""
    run = resolve_settings({**settings, "batch_size": 4, "use_amp": False, "device": "cpu"}, preset="small")
    tokenizer = Tokenizer.char(text)
    config = run.model.model_copy(update={"vocab_size": tokenizer.vocab_size})
    model = GPT(config)
    training = settle_choices(model, run.training, [])
    data = RunData(GPTDataLoader(config, tokenizer, text=text, seed=0))
    return assemble(model, data, TrainingState(step=0, training_config=training), Observer()).stepper


def val_losses(text: str, sibling: Sibling, settings: dict[str, Any]) -> dict[int, float]:
    """Losses of a run of a sibling by step, on the text that it is measured on."""
    trained = text[sibling.trained]
    known = set(trained)
    measured = "".join(c for c in text[sibling.measured] if c in known)
    chosen = {**sibling.settings, **settings, "use_amp": False, "eval_iters": 200}
    chosen |= {"input_file": "trained.txt", "eval_sets": {"measured": "measured.txt"}}
    with tempfile.TemporaryDirectory() as place:
        for name, content in ("trained.txt", trained), ("measured.txt", measured), ("run.json", json.dumps(chosen)):
            (Path(place) / name).write_text(content, encoding="utf-8")
        call = [sys.executable, "-m", "mypt", "train", "run", "--preset", "small", "--config-file", "run.json"]
        subprocess.run(call, check=True, capture_output=True, cwd=place)
        lines = (Path(place) / "logs" / "train" / "run_eval.jsonl").read_text(encoding="utf-8").splitlines()
    events = [e for line in lines if (e := json.loads(line))["event"] == "eval" and e["iter"]]
    return {e["iter"]: e["eval_measured"] for e in events}


if __name__ == "__main__":
    main()
