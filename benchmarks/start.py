"""Time from the start of `mypt train --preset tiny` to its first step, beside `import torch` alone, in turn.

python benchmarks/start.py
"""

import subprocess
import sys
import tempfile
import time
from statistics import median

ROUNDS = 7
FIRST_STEP = """
import os, sys, time
from mypt.train.step import Stepper
def reached(self, step):
    print(time.time(), flush=True)
    os._exit(0)
Stepper.step = reached
sys.argv = ["mypt", "train", "start", "--preset", "tiny"]
from mypt.cli.app import main
main()
"""
TORCH = "import time, torch; print(time.time())"


def main() -> None:
    times: dict[str, list[float]] = {TORCH: [], FIRST_STEP: []}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(ROUNDS):
            for program, taken in times.items():
                began = time.time()
                done = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True)
                taken.append(float(done.stdout.split()[-1]) - began)
    torch_s, first_s = (median(t) for t in times.values())
    print(f"import torch {torch_s:.2f} s, first step {first_s:.2f} s, difference {first_s - torch_s:.2f} s (goal 1.00)")


if __name__ == "__main__":
    main()
