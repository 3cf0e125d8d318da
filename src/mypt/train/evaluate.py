"""The loss on fixed windows of a split."""

from collections.abc import Callable

import torch

from mypt.data.loader import GPTDataLoader, Split
from mypt.model.gpt import GPT
from mypt.train.devices import Precision


@torch.no_grad()
def evaluate(
    model: GPT,
    loader: GPTDataLoader,
    split: Split,
    eval_iters: int,
    precision: Precision,
    progress: Callable[[], None] = lambda: None,
) -> float:
    """Mean next-token loss in nats per token, without dropout.

    Why this metric: it is the quantity that training lowers, measured on windows that never change within
    a run, so that two evaluations differ by the weights alone. No token is masked, and none counts twice.

    Args:
        model: the model; its training mode is restored afterwards.
        loader: gives the windows.
        split: `train` or `val`.
        eval_iters: the most batches to use.
        precision: as in training.
        progress: called after each batch.
    """
    was_training = model.training
    model.eval()
    total, tokens = 0.0, 0
    for x, y in loader.eval_batches(split, eval_iters):
        with precision.autocast():
            total += float(model.loss(x.to(model.device), y.to(model.device)))
        tokens += y.numel()
        progress()
    model.train(was_training)
    return total / tokens
