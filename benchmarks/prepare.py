"""How fast `mypt prepare` is beside one plain tiktoken thread, and how much memory all its processes take.

python benchmarks/prepare.py --megabytes 2000 [--keep DIR]
"""

import argparse
import os
import platform
import random
import subprocess
import sys
import tempfile
import threading
import time
from importlib.metadata import version
from pathlib import Path
from pydoc_data.topics import topics

SAMPLE_MB = 50


def write_text(path: Path, megabytes: float) -> list[str]:
    """Documents of 3 to 30 paragraphs in a seeded order; returns those of the first 50 MB."""
    rng = random.Random(1)
    paragraphs = [p for key in sorted(topics) for p in topics[key].split("\n\n") if p.strip()]
    sample, size = [], 0
    with path.open("w", encoding="utf-8", newline="\n") as file:
        while size < megabytes * 1e6:
            document = "\n\n".join(rng.choices(paragraphs, k=rng.randint(3, 30)))
            if size < SAMPLE_MB * 1e6:
                sample.append(document)
            size += file.write(document + "\n<|endoftext|>\n")
    return sample


def thread_speed(documents: list[str]) -> float:
    """MB/s of tiktoken's `encode_ordinary` in one thread, with GPT-2's vocabulary already loaded."""
    from mypt.data.tokenizer import Tokenizer

    encoding = Tokenizer.gpt2()._encoding
    encoding.encode_ordinary("warm up")
    began = time.perf_counter()
    for document in documents:
        encoding.encode_ordinary(document)
    return sum(len(d.encode("utf-8")) for d in documents) / 1e6 / (time.perf_counter() - began)


def tree(pid: int) -> list[int]:
    """A process and all that descend from it (Linux)."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents.setdefault(int(stat.read_text().rpartition(")")[2].split()[1]), []).append(int(stat.parent.name))
        except OSError:
            continue
    found = [pid]
    for parent in found:
        found += parents.get(parent, [])
    return found


def memory_mb(pid: int) -> float:
    """Memory of a process tree; pages that are shared count once in all."""
    total = 0
    for member in tree(pid):
        try:
            lines = Path(f"/proc/{member}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total * 1024 / 1e6


def prepare_speed(text: Path, out: Path) -> tuple[float, float]:
    """MB/s of the whole command, from its start to its end, and its peak memory in MB."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", "from mypt.cli.app import main; main()", "prepare", text, "--out", out]
    )
    peak = 0.0

    def watch() -> None:
        nonlocal peak
        while process.poll() is None:
            peak = max(peak, memory_mb(process.pid))
            time.sleep(0.2)

    watcher = threading.Thread(target=watch)
    watcher.start()
    code = process.wait()
    seconds = time.perf_counter() - began
    watcher.join()
    if code:
        sys.exit(f"mypt prepare failed with exit code {code}")
    return text.stat().st_size / 1e6 / seconds, peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=float, default=2000)
    parser.add_argument("--keep", type=Path, help="where to leave the dataset")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "text.txt"
        sample = write_text(text, args.megabytes)
        one = thread_speed(sample)
        del sample
        whole, peak = prepare_speed(text, args.keep or Path(folder) / "dataset")
        size = text.stat().st_size / 1e6
    cores = os.cpu_count() or 1
    versions = ", ".join(f"{name} {version(name)}" for name in ("tiktoken", "numpy"))
    rows = {
        "machine": f"{platform.system()} {platform.machine()}, {cores} cores",
        "versions": f"Python {platform.python_version()}, {versions}",
        "text": f"{size:.0f} MB",
        "one thread": f"{one:.1f} MB/s",
        "mypt prepare": f"{whole:.1f} MB/s",
        "of cores x thread": f"{whole / (cores * one):.2f} (at least 0.8)",
        "peak memory": f"{peak:.0f} MB (at most 500)",
    }
    for name, value in rows.items():
        print(f"{name:<20}{value}")


if __name__ == "__main__":
    main()
