"""Steps on one and two processes of one thread each: mypt's two sums, and nanoGPT's model in torch's DDP.

Every line is started by the same torchrun and takes the same global batch. They take turns, so that a busy machine
slows all of them alike, and the best of the rounds counts.

python benchmarks/parallel.py [--nanogpt ../nanoGPT] [--processes 1 2] [--rounds 3] [--steps 12]
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from statistics import median

import torch
import torch.distributed as dist

MICRO_BATCHES, B, T, V, LAYERS, HEADS, C = 4, 8, 128, 256, 4, 4, 256
LINES = ("mypt", "mypt exact", "nanogpt")


def main() -> None:
    """Measure, and print one table."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--nanogpt", type=Path, help="folder of a checkout")
    options.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--steps", type=int, default=12, help="of each process; the first two warm up")
    options.add_argument("--worker", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.worker:
        work(given.worker, given.nanogpt, given.steps)
        return
    lines = [line for line in LINES if line != "nanogpt" or given.nanogpt]
    best: dict[tuple[str, int], float] = {}
    for _ in range(given.rounds):
        for line in lines:
            for size in given.processes:
                best[line, size] = min(best.get((line, size), float("inf")), measured(line, size, given))
    tokens = MICRO_BATCHES * B * T
    print(f"{LAYERS} layers, {C} wide, context {T}, {tokens:,} tokens a step in {MICRO_BATCHES} micro-batches\n")
    print("| ms a step | " + " | ".join(f"N = {size}" for size in given.processes) + " |")
    print("|---" * (1 + len(given.processes)) + "|")
    for line in lines:
        print(f"| {line} | " + " | ".join(f"{best[line, size]:,.1f}" for size in given.processes) + " |")


def measured(line: str, size: int, given: argparse.Namespace) -> float:
    """Milliseconds a step of one line on so many processes."""
    call = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(size), __file__]
    call += ["--worker", line, "--steps", str(given.steps)]
    call += ["--nanogpt", str(given.nanogpt)] if given.nanogpt else []
    done = subprocess.run(call, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True)
    return float(json.loads(done.stdout.strip().splitlines()[-1]))


def work(line: str, nanogpt: Path | None, steps: int) -> None:
    """Be one of the processes; the first one prints the median of its steps."""
    torch.set_num_threads(1)
    step = nanogpt_step(nanogpt) if line == "nanogpt" and nanogpt else mypt_step(exact=line == "mypt exact")
    times = []
    for number in range(steps):
        began = time.perf_counter()
        step(number)
        times.append(1e3 * (time.perf_counter() - began))
    if os.environ["RANK"] == "0":
        print(json.dumps(median(times[2:])))
    if dist.is_initialized():
        dist.destroy_process_group()


def mypt_step(exact: bool) -> Callable[[int], object]:
    """A step of mypt, with AdamW and without dropout, as a session takes it."""
    from mypt import GPT, GPTConfig, GPTDataLoader, Tokenizer, TrainingConfig
    from mypt.launch import Launch
    from mypt.schema.files.state import TrainingState
    from mypt.train.observer import Observer
    from mypt.train.parallel.group import Group
    from mypt.train.parallel.meeting import Meeting
    from mypt.train.run_data import RunData
    from mypt.train.session import assemble

    text = "".join(chr(97 + (i * i) % 26) for i in range(100_000))
    config = GPTConfig(
        n_layer=LAYERS, n_head=HEADS, n_embd=C, block_size=T, batch_size=B, vocab_size=V, dropout=0.0, device="cpu"
    )
    training = TrainingConfig(grad_accum_steps=MICRO_BATCHES, use_amp=False, reduce="exact" if exact else "sum")
    data = RunData(GPTDataLoader(config, Tokenizer.char(text), text=text))
    stepper = assemble(GPT(config), data, TrainingState(step=0, training_config=training), Observer()).stepper
    if (launch := Launch.of()).size > 1:
        meeting = Meeting(launch)
        if launch.leads:
            meeting.call(600.0)
        else:
            meeting.come()
        stepper.group = Group(launch, meeting)
    return stepper.step


def nanogpt_step(folder: Path) -> Callable[[int], object]:
    """A step of nanoGPT's train.py: its model in DDP, gradients exchanged in the last of the micro-batches."""
    sys.path.insert(0, str(folder))
    from model import GPT, GPTConfig  # type: ignore[import-not-found]

    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    torch.manual_seed(1337)
    model = GPT(GPTConfig(n_layer=LAYERS, n_head=HEADS, n_embd=C, block_size=T, vocab_size=V, dropout=0.0, bias=False))
    optimizer = model.configure_optimizers(0.1, 3e-4, (0.9, 0.99), "cpu")
    own = MICRO_BATCHES // size
    if size > 1:
        dist.init_process_group("gloo")
        model = torch.nn.parallel.DistributedDataParallel(model)
    tokens = torch.randint(0, V, (MICRO_BATCHES, B, T + 1), generator=torch.Generator().manual_seed(1))
    mine = tokens[rank * own : (rank + 1) * own]

    def step(_: int) -> None:
        for number, batch in enumerate(mine):
            last = number == len(mine) - 1
            with nullcontext() if last or size == 1 else model.no_sync():
                _, loss = model(batch[:, :-1], batch[:, 1:].contiguous())
                (loss / own).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


if __name__ == "__main__":
    main()
