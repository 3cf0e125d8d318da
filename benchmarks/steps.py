"""Training steps beside nanoGPT's: milliseconds a step, memory and mean loss, each in a process of its own, in turn.

Both start from the same weights and see the same batches, so that their losses differ by rounding and dropout alone.

python benchmarks/steps.py --text tinyshakespeare.txt --nanogpt ../nanoGPT --shape small
python benchmarks/steps.py --text tinyshakespeare.txt --nanogpt ../nanoGPT --shape default
python benchmarks/steps.py --text tinyshakespeare.txt --nanogpt ../nanoGPT --shape default --steps 25 --rounds 1 --curve
"""

import argparse
import json
import math
import pickle
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

import numpy as np
import torch
from peers import copy_of, machine


@dataclass(frozen=True)
class Shape:
    """A model, a batch, and how many steps of it to take."""

    settings: dict[str, Any]
    rounds: int
    steps: int


SHAPES = {
    "small": Shape(
        {"n_layer": 4, "n_head": 4, "n_embd": 128, "block_size": 64, "batch_size": 12, "dropout": 0.0}, 5, 150
    ),
    "default": Shape(
        {"n_layer": 6, "n_head": 6, "n_embd": 384, "block_size": 256, "batch_size": 32, "dropout": 0.2}, 2, 4
    ),
}
VOCAB = {"small": None, "default": 50304}
LEARNING_RATE = 1e-3


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--text", type=Path, required=True)
    options.add_argument("--nanogpt", type=Path, required=True)
    options.add_argument("--shape", choices=SHAPES, default="small")
    options.add_argument("--steps", type=int, help="of each process")
    options.add_argument("--rounds", type=int)
    options.add_argument("--curve", action="store_true", help="compare the losses step by step too")
    options.add_argument("--seed", type=int, default=0, help="of weights and batches; a round adds its number")
    options.add_argument("--worker", choices=("nanogpt", "fp32", "set"))
    given = options.parse_args()
    shape = SHAPES[given.shape]
    steps, rounds = given.steps or shape.steps, given.rounds or shape.rounds
    if given.worker:
        work = nanogpt_steps if given.worker == "nanogpt" else mypt_steps
        print(json.dumps(work(given, shape.settings, steps)))
        return
    names = {"nanogpt": "nanoGPT, fp32", "fp32": "mypt, fp32", "set": "mypt, as it sets itself"}
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as place:
        copy = copy_of(given.nanogpt, Path(place), given.text)
        for number in range(rounds):
            for worker, found in results.items():
                call = [sys.executable, __file__, "--text", str(given.text), "--nanogpt", str(copy)]
                call += ["--shape", given.shape, "--steps", str(steps), "--worker", worker]
                call += ["--seed", str(given.seed + number)]
                done = subprocess.run(call, check=True, capture_output=True, text=True)
                found.append(json.loads(done.stdout.splitlines()[-1]))
    print(machine())
    print(f"{shape.settings}, {steps} steps, {rounds} times in turn")
    print(f"  floor, the matrix products alone in fp32: {1e3 * floor(shape.settings, VOCAB[given.shape] or 65):.1f} ms")
    theirs = median(t for r in results["nanogpt"] for t in r["times"])
    for worker, name in names.items():
        ours = median(t for r in results[worker] for t in r["times"])
        losses = [x for r in results[worker] for x in r["losses"]]
        error = stdev(losses) / len(losses) ** 0.5
        memory = max(r["memory"] for r in results[worker]) / 1e9
        print(
            f"  {name:26} {1e3 * ours:8.1f} ms a step  {theirs / ours:5.2f} x  {memory:5.2f} GB  "
            f"mean loss {mean(losses):.3f} +- {error:.3f}  {results[worker][0].get('amp', '')}"
        )
    if given.curve:
        print("  loss of mypt less that of nanoGPT, mean and standard error: of each fifth of the steps, and of all")
        for worker in list(names)[1:]:
            pairs = zip(results[worker], results["nanogpt"], strict=True)
            apart = np.array([np.subtract(ours["losses"], theirs["losses"]) for ours, theirs in pairs])
            spans = [*np.array_split(apart, 5, axis=1), apart]
            print(
                f"  {names[worker]:26} " + "  ".join(f"{d.mean():+.4f} +- {d.std() / d.size**0.5:.4f}" for d in spans)
            )


def mypt_steps(given: argparse.Namespace, settings: dict[str, Any], steps: int) -> dict[str, Any]:
    """Steps of the trainer that `mypt train` runs, with output weights tied as nanoGPT ties them."""
    from mypt import GPT, GPTConfig, GPTDataLoader, Tokenizer
    from mypt.schema.files.state import TrainingState
    from mypt.schema.settings.training import TrainingConfig
    from mypt.train.device.choices import settle_choices
    from mypt.train.device.devices import keep_freed_memory
    from mypt.train.observer import Observer
    from mypt.train.run_data import RunData
    from mypt.train.session import assemble

    keep_freed_memory()
    text = given.text.read_text(encoding="utf-8")
    tokenizer = Tokenizer.char(text)
    vocab = VOCAB[given.shape] or tokenizer.vocab_size
    config = GPTConfig(**settings, vocab_size=vocab, tie_weights=True, device="cpu")
    training = TrainingConfig(
        max_iters=2000, learning_rate=LEARNING_RATE, warmup_iters=100, seed=given.seed,
        use_amp=False if given.worker == "fp32" else None,
    )  # fmt: skip
    model = GPT(config)
    model.load_weights(renamed(nanogpt_model(given, settings).state_dict()))
    training = settle_choices(model, training, [])
    data = RunData(GPTDataLoader(config, tokenizer, text=text, seed=given.seed))
    stepper = assemble(model, data, TrainingState(step=0, training_config=training), Observer()).stepper
    times, losses = [], []
    for step in range(steps):
        began = time.perf_counter()
        (result,) = stepper.step(step)
        times.append(time.perf_counter() - began)
        losses.append(result.loss)
    return report(times, losses) | {"amp": training.amp_reason or ""}


def nanogpt_steps(given: argparse.Namespace, settings: dict[str, Any], steps: int) -> dict[str, Any]:
    """Steps as its train.py takes them, with its model, optimizer and batches."""
    from mypt.data.sampling import random_starts

    B, T = settings["batch_size"], settings["block_size"]
    data = np.memmap(given.nanogpt / "data" / "text" / "train.bin", dtype=np.uint16, mode="r")
    model = nanogpt_model(given, settings)
    optimizer = model.configure_optimizers(0.1, LEARNING_RATE, (0.9, 0.99), "cpu")
    times, losses = [], []
    for step in range(steps):
        began = time.perf_counter()
        rate = LEARNING_RATE * (step + 1) / 101 if step < 100 else LEARNING_RATE * 0.5 * (1 + math.cos(step / 2000))
        for group in optimizer.param_groups:
            group["lr"] = rate
        starts = random_starts(given.seed, step, B, len(data), T)
        x = torch.stack([torch.from_numpy(data[i : i + T].astype(np.int64)) for i in starts])
        y = torch.stack([torch.from_numpy(data[i + 1 : i + 1 + T].astype(np.int64)) for i in starts])
        loss = model(x, y)[1]
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        times.append(time.perf_counter() - began)
        losses.append(loss.item())
    return report(times, losses)


def nanogpt_model(given: argparse.Namespace, settings: dict[str, Any]) -> torch.nn.Module:
    """Its model with the starting weights of a seed."""
    sys.path.insert(0, str(given.nanogpt))
    from model import GPT, GPTConfig  # type: ignore[import-not-found]

    shape = {k: v for k, v in settings.items() if k != "batch_size"}
    meta = pickle.loads((given.nanogpt / "data" / "text" / "meta.pkl").read_bytes())
    torch.manual_seed(given.seed)
    model: torch.nn.Module = GPT(GPTConfig(**shape, vocab_size=VOCAB[given.shape] or meta["vocab_size"], bias=False))
    return model


NAMES = {
    "transformer.wte": "token_embedding", "transformer.wpe": "position_embedding", "transformer.h": "blocks",
    "transformer.ln_f": "norm", "ln_1": "norm_1", "ln_2": "norm_2", "attn.c_attn": "attn.qkv",
    "attn.c_proj": "attn.proj", "mlp.c_fc": "mlp.up", "mlp.c_proj": "mlp.down",
}  # fmt: skip


def renamed(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """nanoGPT's weights by the names that mypt has for them; its buffers are left out."""
    found = {}
    for name, weight in weights.items():
        for theirs, ours in NAMES.items():
            name = name.replace(theirs + ".", ours + ".")
        if name.endswith("weight"):
            found[name] = weight
    return found


def report(times: list[float], losses: list[float]) -> dict[str, Any]:
    """The steps after the first, which warms up."""
    unit = 1 if sys.platform == "darwin" else 1024
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return {"times": times[1:], "losses": losses, "memory": memory}


def floor(settings: dict[str, Any], vocab: int) -> float:
    """Seconds that the matrix products of a step take alone, forward and backward, at these sizes."""
    C, tokens = settings["n_embd"], min(1024, settings["batch_size"] * settings["block_size"])
    parts = settings["batch_size"] * settings["block_size"] / tokens
    shapes = [(C, 3 * C), (C, C), (C, 4 * C), (4 * C, C)] * settings["n_layer"] + [(C, vocab)]
    total = 0.0
    for inner, outer in set(shapes):
        x, w, g = torch.randn(tokens, inner), torch.randn(outer, inner), torch.randn(tokens, outer)
        times = []
        for _ in range(8):
            began = time.perf_counter()
            x @ w.T, g @ w, g.T @ x
            times.append(time.perf_counter() - began)
        total += shapes.count((inner, outer)) * median(times)
    return parts * total


if __name__ == "__main__":
    main()
