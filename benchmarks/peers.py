"""What the benchmarks beside nanoGPT share: its data files, its recipe, and how both results are scored.

nanoGPT is not part of this project: give the folder of a checkout of it.
"""

import pickle
import platform
import shutil
import sys
from pathlib import Path

import numpy as np
import torch

BLOCK = 64
RECIPE = (
    "config/train_shakespeare_char.py", "--device=cpu", "--compile=False", "--eval_iters=20", "--log_interval=1",
    f"--block_size={BLOCK}", "--batch_size=12", "--n_layer=4", "--n_head=4", "--n_embd=128", "--max_iters=2000",
    "--lr_decay_iters=2000", "--dropout=0.0",
)  # fmt: skip
"""The call that its README gives for a laptop without a GPU."""


def machine() -> str:
    """The machine and the versions that a table is about."""
    cores = torch.get_num_threads()
    return f"{platform.machine()}, {cores} threads, Python {platform.python_version()}, torch {torch.__version__}"


def copy_of(checkout: Path, folder: Path, text: Path) -> Path:
    """A copy of the checkout with the text as its data set `text`, cut into 90 % training and 10 % validation."""
    copy = folder / "nanogpt"
    shutil.copytree(checkout, copy, ignore=shutil.ignore_patterns(".git", "out*", "*.bin"))
    data = copy / "data" / "text"
    data.mkdir(parents=True)
    content = text.read_text(encoding="utf-8")
    chars = sorted(set(content))
    number = {c: i for i, c in enumerate(chars)}
    ids = np.array([number[c] for c in content], dtype=np.uint16)
    cut = int(0.9 * len(content))
    ids[:cut].tofile(data / "train.bin")
    ids[cut:].tofile(data / "val.bin")
    (data / "meta.pkl").write_bytes(pickle.dumps({"vocab_size": len(chars), "stoi": number, "itos": chars}))
    return copy


def val_windows(copy: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs and targets of the whole validation split, in windows that do not overlap."""
    ids = torch.from_numpy(np.fromfile(copy / "data" / "text" / "val.bin", dtype=np.uint16).astype(np.int64))
    count = (len(ids) - 1) // BLOCK
    return ids[: count * BLOCK].view(count, BLOCK), ids[1 : count * BLOCK + 1].view(count, BLOCK)


@torch.no_grad()
def score_of_nanogpt(copy: Path) -> float:
    """Loss of its saved model on the whole validation split."""
    sys.path.insert(0, str(copy))
    from model import GPT, GPTConfig  # type: ignore[import-not-found]

    saved = torch.load(copy / "out-shakespeare-char" / "ckpt.pt", map_location="cpu", weights_only=False)
    model = GPT(GPTConfig(**saved["model_args"])).eval()
    model.load_state_dict(saved["model"])
    x, y = val_windows(copy)
    losses = [model(a, b)[1] * len(a) for a, b in zip(x.split(64), y.split(64), strict=True)]
    return float(sum(losses) / len(x))


@torch.no_grad()
def score_of_mypt(bundle: Path, copy: Path) -> float:
    """Loss of a bundle on the same windows; both number the characters in the order of their code points."""
    from mypt import CheckpointManager

    model = CheckpointManager(bundle.name, bundle.parent).load().model.eval()
    x, y = val_windows(copy)
    losses = [model.token_losses(a, b).sum() for a, b in zip(x.split(64), y.split(64), strict=True)]
    return float(sum(losses) / x.numel())
