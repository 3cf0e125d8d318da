"""Pace and memory of summarizing a log of a million events, also one full of foreign lines, and what decoding takes.

python benchmarks/logs.py
"""

import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

from pydantic_core import from_json

EVENTS = 1_000_000
FAULTS = 1_000
GOAL_MB_S, GOAL_MB = 50.0, 300.0
DECODED = 100_000
"""Lines to decode by each decoder."""
SUMMARIZE = """
import resource, sys, time
from pathlib import Path
from mypt.log.summary import summarize
from mypt.schema.base import to_json_text
began = time.perf_counter(), time.process_time()
summary = summarize(Path(sys.argv[1]))
taken = time.perf_counter() - began[0], time.process_time() - began[1]
unit = 1 if sys.platform == "darwin" else 1024
print(*taken, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6)
print(to_json_text(summary))
"""
CONFIG = {
    "max_iters": EVENTS, "start_step": 0, "learning_rate": 1e-3, "warmup_iters": 1, "grad_clip": 1.0,
    "grad_accum_steps": 1, "batch_size": 12, "block_size": 64, "tokens_per_step": 768, "eval_interval": 1,
    "eval_iters": 1, "use_amp": False, "amp_dtype": "bf16", "config_file": None, "dataset_dir": None,
}  # fmt: skip
MODEL = {
    "total_params": 1, "n_layer": 1, "n_head": 1, "n_embd": 1, "pos_encoding": "rope", "mlp_type": "gelu",
    "norm_type": "rmsnorm",
}  # fmt: skip
WORDS = {"run_id": "0123456789ab", "attempt": 1}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        clean, spoilt = Path(folder) / "clean.jsonl", Path(folder) / "spoilt.jsonl"
        write_log(clean)
        compare_decoders(clean)
        figures = measure("clean", clean)
        written = spoil(clean, spoilt)
        found = measure(f"{FAULTS} faults", spoilt)
        passed = found.pop("passed_over")
        del figures["passed_over"], figures["log"], found["log"]
        print(f"same figures: {figures == found}; inserted {written}, counted {passed}")


def compare_decoders(log: Path) -> None:
    """Print what it takes to decode a line and do nothing else, by the decoder that mypt has and by Python's own."""
    with log.open("rb") as file:
        lines = [*islice(file, DECODED)]
    decoders: dict[str, Callable[[bytes], object]] = {"pydantic_core.from_json": from_json, "json.loads": json.loads}
    for name, decode in decoders.items():
        began = time.perf_counter()
        for line in lines:
            decode(line)
        seconds = time.perf_counter() - began
        print(f"{name}: {1e6 * seconds / len(lines):.1f} us a line, {sum(map(len, lines)) / 1e6 / seconds:.0f} MB/s")


def measure(name: str, log: Path) -> dict[str, object]:
    """Summarise a log in a process of its own and print what it took."""
    done = subprocess.run([sys.executable, "-c", SUMMARIZE, str(log)], capture_output=True, text=True, check=True)
    first, summary = done.stdout.splitlines()
    seconds, cpu, memory = map(float, first.split())
    size = log.stat().st_size / 1e6
    print(
        f"{name}: {size:.0f} MB in {seconds:.2f} s, {size / seconds:.0f} MB/s (goal {GOAL_MB_S:.0f}), "
        f"{size / cpu:.0f} MB a second of CPU time, "
        f"{memory:.0f} MB of memory (goal {GOAL_MB:.0f})"
    )
    found: dict[str, object] = json.loads(summary)
    return found


def write_log(path: Path) -> None:
    """A start, and evaluations with a noisy loss up to a million events."""
    chance = random.Random(1)
    with path.open("w", encoding="utf-8") as log:
        start = {
            "event": "training_start",
            "timestamp": "2026-01-01T00:00:00.000000",
            "config": CONFIG,
            "model": MODEL,
            **WORDS,
        }
        log.write(json.dumps(start) + "\n")
        for step in range(1, EVENTS):
            log.write(json.dumps(evaluation(step, chance)) + "\n")


def evaluation(step: int, chance: random.Random) -> dict[str, object]:
    """One eval event as a run writes it."""
    loss = round(2 + 3 * 0.999999**step + chance.gauss(0, 0.02), 6)
    day, second = divmod(step, 86400)
    return {
        "event": "eval",
        "iter": step,
        "timestamp": f"2026-01-{1 + day:02d}T{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}.000000",
        "elapsed_s": float(step),
        "tokens_processed": 768 * step,
        "progress_pct": round(100 * step / EVENTS, 2),
        "lr": 0.001,
        "phase": "main",
        "val_loss": loss,
        "eval_general": round(loss + 0.1, 6),
        "eval_duration_s": 0.25,
        "train_loss": round(loss - 0.1, 6),
        "val_se": 0.02,
        **WORDS,
    }


def spoil(clean: Path, spoilt: Path) -> dict[str, int]:
    """Copy a log with lines inserted that are no events; the number of each kind."""
    chance = random.Random(2)
    before = {chance.randrange(EVENTS): chance.choice(("torn", "foreign", "binary")) for _ in range(FAULTS)}
    lines = {
        "torn": b'{"event": "eval", "iter": 12, "times',
        "foreign": b"srun: job step aborted",
        "binary": b"\xff\xfe\x00\x01",
    }
    with clean.open("rb") as source, spoilt.open("wb") as target:
        for number, line in enumerate(source):
            if number in before:
                target.write(lines[before[number]] + b"\n")
            target.write(line)
    kinds = list(before.values())
    return {kind: kinds.count(kind) for kind in lines}


if __name__ == "__main__":
    main()
