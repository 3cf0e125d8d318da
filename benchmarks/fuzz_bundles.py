"""Loads bundles with random damage and counts what happens.

    python benchmarks/fuzz_bundles.py --loads 10000

Half of the damaged bundles keep the manifest they were saved with: each of them has to be refused. The other half get
a manifest that fits their damage, so that the parsers behind it are reached: they may be refused or load, but with
no other error than the one meant for it. A load that takes over ten seconds counts as a hang.
"""

import argparse
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from mypt import GPT, CheckpointManager, GPTConfig, GPTDataLoader, Tokenizer
from mypt.checkpoint.describe import read_bundle
from mypt.checkpoint.manifest import write_manifest
from mypt.errors import BundleError
from mypt.train.observer import Observer
from mypt.train.optim.optimizer import build_optimizer

HANG_S = 10.0


def flip(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]


def cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))]


def blank(data: bytes, rng: random.Random) -> bytes:
    at, n = rng.randrange(len(data)), rng.randrange(1, 600)
    return data[:at] + bytes(len(data[at : at + n])) + data[at + n :]


def noise(data: bytes, rng: random.Random) -> bytes:
    at, n = rng.randrange(len(data)), rng.randrange(1, 600)
    return data[:at] + rng.randbytes(n) + data[at + n :]


def grow(data: bytes, rng: random.Random) -> bytes:
    return data + rng.randbytes(rng.randrange(1, 600))


DAMAGES: list[Callable[[bytes, random.Random], bytes]] = [flip, cut, blank, noise, grow]


def make_bundle(folder: Path) -> Path:
    """A small trained bundle with everything in it."""
    text = "nel mezzo del cammin di nostra vita " * 40
    tokenizer = Tokenizer.char(text)
    config = GPTConfig(
        batch_size=2, block_size=8, vocab_size=tokenizer.vocab_size, n_embd=8, n_head=2, n_layer=1, device="cpu"
    )  # fmt: skip
    model, checkpoint = GPT(config), CheckpointManager("whole", folder)
    model.fit(
        GPTDataLoader(config, tokenizer, text=text), checkpoint=checkpoint, log_file=folder / "log.jsonl",
        observer=Observer(), max_iters=2, eval_interval=1, eval_iters=1,
    )  # fmt: skip
    return checkpoint.path


def load_all(path: Path) -> None:
    """Everything that reads a bundle."""
    read_bundle(str(path))
    manager = CheckpointManager.find(str(path))
    loaded = manager.load()
    manager.load_optimizer(build_optimizer(loaded.model, loaded.state.training_config))


def damaged_load(whole: Path, path: Path, rng: random.Random, sealed: bool) -> str:
    """Damage a copy, load it, and say what happened."""
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(whole, path)
    file = rng.choice(sorted(path.iterdir()))
    before = file.read_bytes()
    after = rng.choice(DAMAGES)(before, rng)
    file.write_bytes(after)
    if sealed and file.name != "manifest.json":
        (path / "manifest.json").unlink()
        write_manifest(path, 2)
    began = time.perf_counter()
    try:
        load_all(path)
        what = "loaded with damage that its manifest fits" if sealed else "WRONGLY ACCEPTED"
        what = what if before != after else "not damaged after all"
    except BundleError:
        what = "refused"
    except Exception as error:
        what = f"TRACEBACK {type(error).__name__}: {str(error)[:100]}"
    return what if time.perf_counter() - began < HANG_S else "HANG"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--loads", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng, began = random.Random(options.seed), time.perf_counter()
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole = make_bundle(folder)
        for i in range(options.loads):
            sealed = i % 2 == 1
            counts[("sealed: " if sealed else "as saved: ") + damaged_load(whole, folder / "damaged", rng, sealed)] += 1
    for what, n in counts.most_common():
        print(f"{n:>8,}  {what}")
    print(f"{options.loads:,} loads in {time.perf_counter() - began:.0f} s")
    raise SystemExit(any(word in what for what in counts for word in ("TRACEBACK", "HANG", "WRONGLY")))


if __name__ == "__main__":
    main()
