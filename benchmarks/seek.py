"""Time to get a batch at step 10 and at step 10 million, in turn.

python benchmarks/seek.py
"""

import time
from statistics import median

from mypt import GPTConfig, GPTDataLoader, Tokenizer
from mypt.data.loader import LoaderOptions

ROUNDS = 2000


def main() -> None:
    text = "nel mezzo del cammin di nostra vita " * 5000
    tokenizer = Tokenizer.char(text)
    config = GPTConfig(batch_size=12, block_size=64, vocab_size=tokenizer.vocab_size)
    for sampling in ("random", "epoch"):
        loader = GPTDataLoader(config, tokenizer, text=text, options=LoaderOptions(sampling=sampling))
        times: dict[int, list[float]] = {10: [], 10_000_000: []}
        for i in range(ROUNDS):
            for step, taken in times.items():
                began = time.perf_counter()
                loader.batch(step + i % 100)
                taken.append(time.perf_counter() - began)
        near, far = (1e6 * median(t) for t in times.values())
        print(f"{sampling}: step 10 {near:.1f} us, step 10 million {far:.1f} us, ratio {far / near:.2f}")


if __name__ == "__main__":
    main()
