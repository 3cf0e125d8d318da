"""Pace and memory of summarising a log of a million events, and the same figures when it is full of foreign lines.

python benchmarks/logs.py
"""

import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

EVENTS = 1_000_000
FAULTS = 1_000
GOAL_MB_S, GOAL_MB = 100.0, 300.0
SUMMARIZE = """
import resource, sys, time
from pathlib import Path
from mypt.log.summary import summarize
from mypt.schema.plain import plain_json
began = time.perf_counter()
summary = summarize(Path(sys.argv[1]))
taken = time.perf_counter() - began
unit = 1 if sys.platform == "darwin" else 1024
print(taken, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6)
print(plain_json(summary))
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
        figures = measure("clean", clean)
        written = spoil(clean, spoilt)
        found = measure(f"{FAULTS} faults", spoilt)
        passed = found.pop("passed_over")
        del figures["passed_over"], figures["log"], found["log"]
        print(f"same figures: {figures == found}; inserted {written}, counted {passed}")


def measure(name: str, log: Path) -> dict[str, object]:
    """Summarise a log in a process of its own and print what it took."""
    done = subprocess.run([sys.executable, "-c", SUMMARIZE, str(log)], capture_output=True, text=True, check=True)
    first, summary = done.stdout.splitlines()
    seconds, memory = map(float, first.split())
    size = log.stat().st_size / 1e6
    print(
        f"{name}: {size:.0f} MB in {seconds:.2f} s, {size / seconds:.0f} MB/s (goal {GOAL_MB_S:.0f}), "
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
