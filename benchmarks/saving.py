"""What saving costs the training loop: a bundle of 30M parameters, beside the steps between two saves.

python benchmarks/saving.py
"""

import tempfile
import time
from pathlib import Path
from statistics import median

from mypt import GPT, CheckpointManager, GPTConfig, GPTDataLoader, Tokenizer
from mypt.schema.files.state import TrainingState
from mypt.schema.settings.training import TrainingConfig
from mypt.train.device.choices import settle_choices
from mypt.train.device.devices import keep_freed_memory
from mypt.train.observer import Observer
from mypt.train.run_data import RunData
from mypt.train.session import assemble

SHAPE = {"n_layer": 6, "n_head": 10, "n_embd": 640}
STEPS, SAVES = 3, 5


def main() -> None:
    keep_freed_memory()
    text = "nel mezzo del cammin di nostra vita " * 5000
    tokenizer = Tokenizer.char(text)
    config = GPTConfig(**SHAPE, vocab_size=tokenizer.vocab_size, device="cpu")
    model = GPT(config)
    training = settle_choices(model, TrainingConfig(), [])
    state = TrainingState(step=0, optimizer_file="optimizer.pt", training_config=training)
    data = RunData(GPTDataLoader(config, tokenizer, text=text))
    stepper = assemble(model, data, state, Observer()).stepper
    steps, saves = [], []
    for step in range(STEPS):
        began = time.perf_counter()
        stepper.step(step)
        steps.append(time.perf_counter() - began)
    with tempfile.TemporaryDirectory() as folder:
        manager = CheckpointManager("saved", Path(folder))
        for _ in range(SAVES):
            began = time.perf_counter()
            manager.save(model, tokenizer, state, stepper.optimizer)
            saves.append(time.perf_counter() - began)
    step_s, save_s, interval = median(steps), median(saves), training.eval_interval
    print(f"{model.num_params():,} parameters: a step {step_s:.2f} s, a bundle {save_s:.2f} s")
    share = 2 * save_s / (interval * step_s + 2 * save_s)
    print(f"two bundles (last and gold) every {interval} steps: {share:.1%} of the loop (goal 5 %)")


if __name__ == "__main__":
    main()
