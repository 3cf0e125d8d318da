"""Training steps on a GPU: tokens/s, MFU and peak memory of GPT-2 124M and of the 750M shape, beside nanoGPT's model.

python benchmarks/gpu.py [--nanogpt ../nanoGPT]
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from mypt import GPT, GPTConfig, GPTDataLoader, Tokenizer
from mypt.schema.state import TrainingState
from mypt.schema.training import TrainingConfig
from mypt.train.curriculum import RunData
from mypt.train.devices import Precision, hardware
from mypt.train.loop import Trainer
from mypt.train.observer import Observer
from mypt.train.optimizer import build_optimizer
from mypt.train.pace import pace

SHAPES: dict[str, dict[str, Any]] = {
    "gpt2-124m": {"n_layer": 12, "n_head": 12, "n_embd": 768, "block_size": 1024, "batch_size": 16},
    "750m": {"n_layer": 24, "n_head": 24, "n_embd": 1536, "block_size": 1024, "batch_size": 4},
}
STEPS = 20


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--nanogpt", type=Path)
    options.add_argument("--shape", choices=SHAPES)
    options.add_argument("--worker", choices=("mypt", "nanogpt"))
    given = options.parse_args()
    if given.worker:
        print(json.dumps(WORK[given.worker](SHAPES[given.shape], given.nanogpt)))
        return
    if not torch.cuda.is_available():
        sys.exit("There is no CUDA device here.")
    print(f"{hardware('cuda')}, torch {torch.__version__}, bf16, {STEPS} steps")
    for name, shape in SHAPES.items():
        for worker in ("nanogpt", "mypt") if given.nanogpt else ("mypt",):
            call = [sys.executable, __file__, "--shape", name, "--worker", worker]
            call += ["--nanogpt", str(given.nanogpt)] if given.nanogpt else []
            done = subprocess.run(call, check=True, capture_output=True, text=True)
            found = json.loads(done.stdout.splitlines()[-1])
            config = GPTConfig(**shape, vocab_size=50304)
            tokens = shape["batch_size"] * shape["block_size"]
            rate = pace(tokens, found["step_s"], config, hardware("cuda"))
            mfu = "unknown" if rate.mfu is None else f"{rate.mfu:.1%}"
            print(
                f"  {name:10} {worker:8} {rate.tokens_per_sec:10,.0f} tokens/s  {rate.tflops:6.1f} TFLOP/s  "
                f"MFU {mfu}  peak {found['memory'] / 1e9:.1f} GB"
            )


def timed(step: Any) -> dict[str, float]:
    """Median seconds of a step, and the most memory held."""
    times = []
    for number in range(STEPS):
        torch.cuda.synchronize()
        began = time.perf_counter()
        step(number)
        torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return {"step_s": median(times[5:]), "memory": torch.cuda.max_memory_allocated()}


def mypt_steps(shape: dict[str, Any], _: Path | None) -> dict[str, float]:
    text = "".join(chr(97 + int(i)) for i in np.random.default_rng(0).integers(0, 26, 200_000))
    tokenizer = Tokenizer.char(text)
    config = GPTConfig(**shape, vocab_size=50304, dropout=0.0, device="cuda")
    training = TrainingConfig(max_iters=STEPS)
    model = GPT(config).to("cuda")
    trainer = Trainer(
        model, RunData(GPTDataLoader(config, tokenizer, text=text)), build_optimizer(model, training),
        TrainingState(step=0, training_config=training), Precision.of(training, "cuda"), Observer(),
    )  # fmt: skip
    return timed(trainer.train_step)


def nanogpt_steps(shape: dict[str, Any], checkout: Path | None) -> dict[str, float]:
    sys.path.insert(0, str(checkout))
    import model as peer  # type: ignore[import-not-found]

    B, T = shape["batch_size"], shape["block_size"]
    settings = {k: v for k, v in shape.items() if k != "batch_size"}
    model = torch.compile(peer.GPT(peer.GPTConfig(**settings, vocab_size=50304, dropout=0.0, bias=False)).to("cuda"))
    optimizer = model.configure_optimizers(0.1, 3e-4, (0.9, 0.99), "cuda")
    x = torch.randint(0, 26, (B, T), device="cuda")

    def step(_: int) -> None:
        with torch.autocast("cuda", torch.bfloat16):
            loss = model(x, x)[1]
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return timed(step)


WORK = {"mypt": mypt_steps, "nanogpt": nanogpt_steps}

if __name__ == "__main__":
    main()
