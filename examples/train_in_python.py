"""Trains a small model from Python, saves it, and lets it write.

Run it with a text of your own, or without one to train on Python's language reference:

    python examples/train_in_python.py dante.txt
"""

import sys
import tempfile
from pathlib import Path

from mypt import GPT, CheckpointManager, GPTConfig, GPTDataLoader, Tokenizer
from mypt.data.text import read_text


def main() -> None:
    text = read_text(sys.argv[1:2]).content
    tokenizer = Tokenizer.char(text)
    config = GPTConfig(
        batch_size=8,
        block_size=32,
        vocab_size=tokenizer.vocab_size,
        n_embd=48,
        n_head=4,
        n_layer=2,
        dropout=0.0,
        device="cpu",
    )
    model = GPT(config)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = CheckpointManager("small", folder)
        loader = GPTDataLoader(config, tokenizer, text=text)
        result = model.fit(
            data_loader=loader,
            checkpoint=checkpoint,
            log_file=Path(folder) / "small_eval.jsonl",
            max_iters=200,
            eval_interval=100,
            eval_iters=10,
            learning_rate=3e-3,
        )
        print(f"val loss {result.evals[-1].val_loss:.3f} after {result.state.step} steps")
        loaded = GPT.load("small", folder)
    print(loaded.generate(max_new_tokens=100))


if __name__ == "__main__":
    main()
