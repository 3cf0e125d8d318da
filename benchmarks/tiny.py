"""`mypt train --preset tiny` beside nanoGPT's recipe for a CPU: seconds of the whole command, and the loss at its end.

python benchmarks/tiny.py --text tinyshakespeare.txt --nanogpt ../nanoGPT
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from peers import RECIPE, copy_of, machine, score_of_mypt, score_of_nanogpt


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--text", type=Path, required=True)
    options.add_argument("--nanogpt", type=Path, required=True)
    options.add_argument("--rounds", type=int, default=1)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        copy = copy_of(given.nanogpt, folder, given.text)
        calls = {
            "nanoGPT": ([sys.executable, "train.py", *RECIPE, "--dataset=text"], copy),
            "mypt": ([sys.executable, "-m", "mypt", "train", "tiny", "--preset", "tiny", "--fresh",
                      "--input-file", str(given.text.absolute())], folder),
        }  # fmt: skip
        taken: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(given.rounds):
            for name, (call, where) in calls.items():
                began = time.perf_counter()
                subprocess.run(call, cwd=where, check=True, capture_output=True)
                taken[name].append(time.perf_counter() - began)
        theirs, ours = median(taken["nanoGPT"]), median(taken["mypt"])
        print(machine())
        print(f"{given.text.name}, characters; loss on the whole validation split in windows of 64")
        print(f"  nanoGPT  {theirs:6.1f} s  val {score_of_nanogpt(copy):.4f}")
        print(f"  mypt     {ours:6.1f} s  val {score_of_mypt(folder / 'checkpoints' / 'tiny', copy):.4f}")
        print(f"  {theirs / ours:.2f} times as fast (goal 4, aim 6)")


if __name__ == "__main__":
    main()
