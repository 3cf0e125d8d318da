"""Training steps on a GPU: tokens/s, MFU and memory of GPT-2 124M and of a 750M shape, beside nanoGPT's model.

Every line is a process of its own, and one run holds them all, so that their ratios are of one machine in one state.
What differs from line to line: compiled or not, the output layer tied to the embedding or not, ids drawn from all of
GPT-2's vocabulary or from 26 as in a text of letters, and kernels that add up in a fixed order. nanoGPT's model has
learned positions, GELU and layer norm at the same width, depth and heads; its MFU counts its own operations.

python benchmarks/gpu.py [--nanogpt ../nanoGPT] [--shape gpt2-124m]
python benchmarks/gpu.py --device cpu --tiny      whether the script works, on a machine without a GPU
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mypt import GPT, GPTConfig, GPTDataLoader, Tokenizer
from mypt.checkpoint.manager import weights_sha256
from mypt.schema.files.state import TrainingState
from mypt.schema.settings.training import TrainingConfig
from mypt.train.device.compile import compiled_loss
from mypt.train.device.deterministic import in_order
from mypt.train.device.devices import hardware, peak_memory, reserve_workspace
from mypt.train.observer import Observer
from mypt.train.run_data import RunData
from mypt.train.session import assemble
from mypt.train.throughput import throughput

SHAPES: dict[str, dict[str, Any]] = {
    "gpt2-124m": {"n_layer": 12, "n_head": 12, "n_embd": 768, "block_size": 1024, "batch_size": 16},
    "750m": {"n_layer": 32, "n_head": 20, "n_embd": 1280, "block_size": 1024, "batch_size": 4},
    "tiny": {"n_layer": 1, "n_head": 2, "n_embd": 8, "block_size": 8, "batch_size": 2},
}
STYLE = {"750m": {"pos_encoding": "rope", "mlp_type": "swiglu", "norm_type": "rmsnorm"}}
"""Of mypt's model, where it is not GPT-2's."""
VOCAB, GPT2_IDS, LETTERS = 50304, 50257, 26
WARM_UP, STEPS = 5, 20
GOAL = 0.5
"""Of MFU, compiled."""


@dataclass(frozen=True)
class Line:
    """A line of the table.

    Attributes:
        of: `mypt` or `nanogpt`.
        compiled: by torch.compile.
        tied: whether the output layer is the embedding.
        ids: how many different ones the batches have.
        in_order: whether kernels add up in a fixed order.
    """

    of: str
    compiled: bool = True
    tied: bool = True
    ids: int = GPT2_IDS
    in_order: bool = False

    def __str__(self) -> str:
        ways = ("compiled" if self.compiled else "eager", "tied" if self.tied else "untied", f"{self.ids:,} ids")
        return ", ".join((self.of, *ways, *(["fixed order"] if self.in_order else [])))


LINES = (
    Line("nanogpt"), Line("nanogpt", ids=LETTERS), Line("nanogpt", compiled=False),
    Line("mypt"), Line("mypt", ids=LETTERS), Line("mypt", compiled=False), Line("mypt", tied=False),
    Line("mypt", in_order=True),
)  # fmt: skip


def main() -> None:
    given = arguments()
    if given.worker:
        line = Line(**json.loads(given.worker))
        print(json.dumps(WORK[line.of](line, given)))
        return
    if given.device == "cuda" and not torch.cuda.is_available():
        sys.exit("There is no CUDA device here. --device cpu --tiny shows whether the script works.")
    print(
        f"{hardware(given.device)}, torch {torch.__version__}, steps {given.warm_up} to {given.warm_up + given.steps}"
    )
    with tempfile.TemporaryDirectory() as folder:
        for ids in (GPT2_IDS, LETTERS):
            write_ids(Path(folder) / str(ids), ids)
        for shape in ["tiny"] if given.tiny else [given.shape] if given.shape else ["gpt2-124m", "750m"]:
            print(f"{shape}: {SHAPES[shape]}")
            table(shape, lines_for(given), Path(folder), given)


def arguments() -> argparse.Namespace:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--nanogpt", type=Path, help="folder of a checkout")
    options.add_argument("--shape", choices=SHAPES)
    options.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    options.add_argument("--tiny", action="store_true", help="the smallest shape, and few steps")
    options.add_argument("--worker", help=argparse.SUPPRESS)
    options.add_argument("--ids", type=Path, help=argparse.SUPPRESS)
    given = options.parse_args()
    given.warm_up, given.steps = (1, 2) if given.tiny else (WARM_UP, STEPS)
    return given


def lines_for(given: argparse.Namespace) -> list[Line]:
    """Those that can be measured: a CPU compiles nothing, and nanoGPT has to be there."""
    lines = [line for line in LINES if line.of == "mypt" or given.nanogpt]
    return lines if given.device == "cuda" else list(dict.fromkeys(replace(line, compiled=False) for line in lines))


def table(shape: str, lines: list[Line], ids: Path, given: argparse.Namespace) -> None:
    """Print the lines of a shape, as they are measured, and what they say about the goal and about exactness."""
    found: dict[Line, dict[str, Any]] = {}
    for line in lines:
        found[line] = measured(line, shape, ids, given)
        config = config_of(line, shape, given.device)
        rate = throughput(config.batch_size * config.block_size, found[line]["step_s"], config, hardware(given.device))
        found[line]["mfu"] = rate.mfu
        mfu = "unknown" if rate.mfu is None else f"{rate.mfu:.1%}"
        print(
            f"  {line!s:46} {1e3 * found[line]['step_s']:9.2f} ms  {rate.tokens_per_sec:10,.0f} tokens/s  "
            f"{rate.tflops:6.1f} TFLOP/s  MFU {mfu:8} {found[lines[0]]['step_s'] / found[line]['step_s']:5.2f} x  "
            f"peak {(found[line]['memory'] or 0) / 1e9:5.1f} GB",
            flush=True,
        )
    best = max((f["mfu"] or 0.0 for line, f in found.items() if line.of == "mypt"), default=0.0)
    print(f"  best MFU {best:.1%}, goal {GOAL:.0%}" if best else f"  MFU is unknown here; the goal is {GOAL:.0%}")
    for line in (line for line in lines if line.in_order):
        again = measured(line, shape, ids, given)
        same = again["weights"] == found[line]["weights"]
        print(f"  {line}, again: {'the same weights to the bit' if same else 'OTHER WEIGHTS'}")


def measured(line: Line, shape: str, ids: Path, given: argparse.Namespace) -> dict[str, Any]:
    """What a process of its own measures."""
    call = [sys.executable, __file__, "--shape", shape, "--device", given.device, "--worker", json.dumps(asdict(line))]
    call += ["--ids", str(ids / str(line.ids)), *(["--tiny"] if given.tiny else [])]
    call += ["--nanogpt", str(given.nanogpt)] if given.nanogpt else []
    done = subprocess.run(call, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def write_ids(folder: Path, ids: int) -> None:
    """A data set as nanoGPT's scripts leave it, of so many ids, all equally likely."""
    folder.mkdir()
    for name, tokens in (("train", 2_000_000), ("val", 10_000)):
        np.random.default_rng(ids).integers(0, ids, tokens, dtype=np.uint16).tofile(folder / f"{name}.bin")


def config_of(line: Line, shape: str, device: str) -> GPTConfig:
    """The architecture; nanoGPT's is GPT-2's."""
    style = STYLE.get(shape, {}) if line.of == "mypt" else {}
    return GPTConfig(**SHAPES[shape], **style, vocab_size=VOCAB, tie_weights=line.tied, dropout=0.0, device=device)


def timed(step: Callable[[int], object], given: argparse.Namespace) -> dict[str, Any]:
    """Mean seconds of steps launched one after another, as in a run, and the most memory held."""
    for number in range(given.warm_up):
        step(number)
    wait(given.device)
    began = time.perf_counter()
    for number in range(given.warm_up, given.warm_up + given.steps):
        step(number)
    wait(given.device)
    return {"step_s": (time.perf_counter() - began) / given.steps, "memory": peak_memory(given.device)}


def wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def mypt_steps(line: Line, given: argparse.Namespace) -> dict[str, Any]:
    """Steps of the trainer that `mypt train` runs."""
    reserve_workspace(given.device)
    config = config_of(line, given.shape, given.device)
    training = TrainingConfig(max_iters=given.warm_up + given.steps, use_amp=True)
    model = GPT(config).to(given.device)
    data = RunData(GPTDataLoader(config, Tokenizer.gpt2(), dataset_dir=given.ids))
    stepper = assemble(model, data, TrainingState(step=0, training_config=training), Observer()).stepper
    with in_order(line.in_order):
        stepper.loss = compiled_loss(model) if line.compiled else stepper.loss
        found = timed(stepper.step, given)
    return found | {"weights": weights_sha256(model)}


def nanogpt_steps(line: Line, given: argparse.Namespace) -> dict[str, Any]:
    """Steps as its train.py takes them, with its model, optimizer and batches."""
    sys.path.insert(0, str(given.nanogpt))
    import model as peer  # type: ignore[import-not-found]

    torch.backends.cuda.matmul.allow_tf32 = True
    shape = {k: v for k, v in SHAPES[given.shape].items() if k != "batch_size"}
    B, T = SHAPES[given.shape]["batch_size"], shape["block_size"]
    data = np.memmap(given.ids / "train.bin", dtype=np.uint16, mode="r")
    model = peer.GPT(peer.GPTConfig(**shape, vocab_size=VOCAB, dropout=0.0, bias=False)).to(given.device)
    optimizer = model.configure_optimizers(0.1, 3e-4, (0.9, 0.99), given.device)
    forward = torch.compile(model) if line.compiled else model

    def batch(shift: int, starts: np.ndarray) -> torch.Tensor:
        ids = torch.stack([torch.from_numpy(data[i + shift : i + shift + T].astype(np.int64)) for i in starts])
        return ids.pin_memory().to("cuda", non_blocking=True) if given.device == "cuda" else ids

    def step(number: int) -> None:
        starts = np.random.default_rng(number).integers(0, len(data) - T - 1, B)
        with torch.autocast(given.device, torch.bfloat16, enabled=given.device == "cuda"):
            loss = forward(batch(0, starts), batch(1, starts))[1]
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return timed(step, given)


WORK = {"mypt": mypt_steps, "nanogpt": nanogpt_steps}

if __name__ == "__main__":
    main()
