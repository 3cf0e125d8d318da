"""How much runs on one machine slow each other: one run, then two at once, with threads that wait in different ways.

    python benchmarks/together.py --text FILE

Prints the tokens per second of each (the median of the steps), and how many times as long a run takes beside another.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from mypt.threads import SPINS

WAITS = {
    "as OpenMP has it": {"GOMP_SPINCOUNT": "300000"},
    "as mypt has it": {"GOMP_SPINCOUNT": SPINS},
    "without spinning": {"OMP_WAIT_POLICY": "passive"},
}
STEPS = 200


def tokens_per_sec(runs: int, text: Path, waits: dict[str, str], folder: Path) -> float:
    """The slowest of some runs at once, tokens per second."""
    call = [
        "--input-file", str(text), "--preset", "tiny", "--max-iters", str(STEPS), "--log-interval", "10",
        "--eval-interval", str(STEPS), "--eval-iters", "1", "--fresh",
    ]  # fmt: skip
    env = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))} | waits
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "mypt", "train", f"run{i}", *call], cwd=folder, env=env, stdout=subprocess.DEVNULL
        )
        for i in range(runs)
    ]
    assert [run.wait() for run in started] == [0] * runs
    return min(_speed(folder / f"logs/train/run{i}_eval.jsonl") for i in range(runs))


def _speed(log: Path) -> float:
    events = map(json.loads, log.read_text(encoding="utf-8").splitlines())
    return median(event["tokens_per_sec"] for event in events if event["event"] == "step")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, required=True, help="Text to train on.")
    text = parser.parse_args().text.absolute()
    print("| threads wait | one run | two at once, each | times as long |\n|---|---:|---:|---:|")
    for told, waits in WAITS.items():
        with tempfile.TemporaryDirectory() as folder:
            alone, beside = (tokens_per_sec(runs, text, waits, Path(folder)) for runs in (1, 2))
        print(f"| {told} | {alone:,.0f} tokens/s | {beside:,.0f} | {alone / beside:.2f} |", flush=True)


if __name__ == "__main__":
    main()
