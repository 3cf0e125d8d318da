"""Training steps on a GPU: tokens/s, MFU and peak memory of GPT-2 124M and of a 750M shape, beside nanoGPT's.

nanoGPT's model has learned positions, GELU and layer norm at the same width, depth and heads. Both are compiled, in
bf16, with AdamW.

python benchmarks/gpu.py [--nanogpt ../nanoGPT]
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mypt import GPT, GPTConfig, GPTDataLoader, Tokenizer
from mypt.schema.files.state import TrainingState
from mypt.schema.settings.training import TrainingConfig
from mypt.train.device.compile import CompiledLoss
from mypt.train.device.devices import hardware
from mypt.train.observer import Observer
from mypt.train.run_data import RunData
from mypt.train.session import assemble
from mypt.train.throughput import throughput

SHAPES: dict[str, dict[str, Any]] = {
    "gpt2-124m": {"n_layer": 12, "n_head": 12, "n_embd": 768, "block_size": 1024, "batch_size": 16},
    "750m": {"n_layer": 32, "n_head": 20, "n_embd": 1280, "block_size": 1024, "batch_size": 4},
}
STYLE: dict[str, dict[str, Any]] = {
    "gpt2-124m": {},
    "750m": {"pos_encoding": "rope", "mlp_type": "swiglu", "norm_type": "rmsnorm"},
}
WARM_UP, STEPS = 5, 20


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--nanogpt", type=Path)
    options.add_argument("--shape", choices=SHAPES)
    options.add_argument("--worker", choices=("mypt", "nanogpt"))
    given = options.parse_args()
    if given.worker:
        print(json.dumps(WORK[given.worker](given.shape, given.nanogpt)))
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
            config = GPTConfig(**shape, **STYLE[name], vocab_size=50304)
            tokens = shape["batch_size"] * shape["block_size"]
            rate = throughput(tokens, found["step_s"], config, hardware("cuda"))
            mfu = "unknown" if rate.mfu is None else f"{rate.mfu:.1%}"
            print(
                f"  {name:10} {worker:8} {rate.tokens_per_sec:10,.0f} tokens/s  {rate.tflops:6.1f} TFLOP/s  "
                f"MFU {mfu}  peak {found['memory'] / 1e9:.1f} GB"
            )


def timed(step: Any) -> dict[str, float]:
    """Mean seconds of steps launched one after another, as in a run, and the most memory held."""
    for number in range(WARM_UP):
        step(number)
    torch.cuda.synchronize()
    began = time.perf_counter()
    for number in range(WARM_UP, WARM_UP + STEPS):
        step(number)
    torch.cuda.synchronize()
    return {"step_s": (time.perf_counter() - began) / STEPS, "memory": torch.cuda.max_memory_allocated()}


def mypt_steps(name: str, _: Path | None) -> dict[str, float]:
    text = "".join(chr(97 + int(i)) for i in np.random.default_rng(0).integers(0, 26, 200_000))
    tokenizer = Tokenizer.char(text)
    config = GPTConfig(**SHAPES[name], **STYLE[name], vocab_size=50304, dropout=0.0, device="cuda")
    training = TrainingConfig(max_iters=WARM_UP + STEPS, use_amp=True)
    model = GPT(config).to("cuda")
    data = RunData(GPTDataLoader(config, tokenizer, text=text))
    stepper = assemble(model, data, TrainingState(step=0, training_config=training), Observer()).stepper
    stepper.loss = CompiledLoss(model, print)
    return timed(stepper.step)


def nanogpt_steps(name: str, checkout: Path | None) -> dict[str, float]:
    sys.path.insert(0, str(checkout))
    import model as peer  # type: ignore[import-not-found]

    shape = SHAPES[name]
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
