"""The loss on fixed windows of a split, how far it can be trusted, and the same in bits per byte."""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count

import torch

from mypt.data.loader import Batch, GPTDataLoader
from mypt.data.tokens import Split
from mypt.errors import InputError
from mypt.model.cost import rows_at_once
from mypt.model.losses import IGNORED
from mypt.model.network import Network
from mypt.schema.settings.training import TrainingConfig
from mypt.train.device.precision import Precision
from mypt.train.documents import separator_of
from mypt.train.evaluation.in_step import Measure, in_step, padded
from mypt.train.parallel.group import ALONE, Group
from mypt.train.parallel.parts import is_sharded, put_aside
from mypt.train.run_data import RunData


@dataclass(frozen=True)
class Measured:
    """The result of an evaluation of one set.

    Attributes:
        loss: mean next-token loss, nats per token.
        se: standard error of the loss; None where a single window has tokens that count, or the loss is not finite.
        bpb: the loss in bits per byte of text, by which runs with other tokenizers compare; None where the targets
            stand for no text, or the loss is not finite.
    """

    loss: float
    se: float | None
    bpb: float | None


@torch.no_grad()
def evaluate(
    model: Network,
    loader: GPTDataLoader,
    split: Split,
    training: TrainingConfig,
    precision: Precision,
    progress: Callable[[], None] = lambda: None,
    group: Group = ALONE,
    look: Callable[[], None] = lambda: None,
) -> Measured:
    """Measure the mean next-token loss of a split, without dropout.

    Why this metric: it is the quantity that training lowers, measured on windows that never change within
    a run, so that two evaluations differ by the weights alone. Windows do not overlap; tokens that a loss mask
    leaves out do not count. No random number is drawn, so training continues as if nothing had been measured.

    Args:
        model: the model; its training mode is restored afterwards.
        loader: gives the windows.
        split: `train` or `val`.
        training: its `eval_iters` is the most batches to use, its `eval_seed` chooses them, its `rows_at_once` bounds
            the windows taken together.
        precision: as in training.
        progress: called after each batch.
        group: the processes that share the batches; all have the same result.
        look: called before each batch where the weights are in parts; what it raises on one process, all raise.

    Raises:
        InputError: a loss mask leaves out every token.
    """

    def measure(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return losses_of(model, x, y, training, precision)

    own = loader.eval_batches(split, training.eval_iters, training.eval_seed, group.rank, group.size)
    batches = loader.eval_batch_count(split, training.eval_iters)
    if group.size > 1 and is_sharded(model):
        together = padded(measure, loader.config.batch_size, group)
        own = in_step(own, -(-batches // group.size), group, look, together, loader.config.block_size)
        with _measuring(model, loader, training):
            shares = group.gathered(_share(own, together, loader, progress))
    else:
        with _measuring(model, loader, training):
            shares = group.each(lambda: _share(own, measure, loader, progress))
    losses, tokens, text_bytes = zip(*(shares[i % group.size][i // group.size] for i in range(batches)), strict=True)
    if not any(int(counted.sum()) for counted in tokens):
        raise InputError(
            f"No token of the {split} windows of {loader.record.dataset_dir} counts: its loss mask leaves out all.",
            "Make the dataset again with texts that teach something, or leave masks alone by use_loss_mask=False.",
        )
    return _summary(torch.cat(losses), torch.cat(tokens).double(), sum(text_bytes))


@contextmanager
def _measuring(model: Network, loader: GPTDataLoader, training: TrainingConfig) -> Iterator[None]:
    """Let the model measure, without dropout, the windows of a loader."""
    was_training, separator = model.training, model.separator
    model.eval()
    model.separator = separator_of(training, loader.tokenizer)
    try:
        yield
    finally:
        model.train(was_training)
        model.separator = separator
        put_aside(model)


def _share(
    batches: Iterable[Batch], measure: Measure, loader: GPTDataLoader, progress: Callable[[], None]
) -> list[tuple[torch.Tensor, torch.Tensor, int]]:
    """Of each batch of this process: the losses and counted tokens of its windows (B), and its bytes of text."""
    losses, tokens, text_bytes = [], [], []
    for x, y in batches:
        losses.append(in_double(measure(x, y)).sum(dim=1))  # of tokens (B, T)
        tokens.append((y != IGNORED).sum(dim=1))
        text_bytes.append(int(loader.text_bytes(y)))
        progress()
    if not losses:
        return []
    on_host = torch.split(torch.cat(losses).cpu(), [len(t) for t in tokens])
    return [*zip(on_host, tokens, text_bytes, strict=True)]


def evaluate_sets(
    model: Network,
    data: RunData,
    training: TrainingConfig,
    precision: Precision,
    names: Iterable[str] | None = None,
    progress: Callable[[int, int], None] = lambda _, __: None,
    group: Group = ALONE,
    look: Callable[[], None] = lambda: None,
) -> dict[str, Measured]:
    """Some of the sets of a run, by name; all that an evaluation looks at if none are named.

    `progress` is called after each batch with the number of those that are done and of all that this process has; a
    group shares the batches; `look` is as in `evaluate`.
    """
    sets = data.measured_sets()
    chosen = {name: sets[name] for name in names or sets}
    counts = [loader.eval_batch_count(split, training.eval_iters) for loader, split in chosen.values()]
    total = sum(len(range(group.rank, count, group.size)) for count in counts)
    done = count(1)
    return {
        name: evaluate(model, loader, split, training, precision, lambda: progress(next(done), total), group, look)
        for name, (loader, split) in chosen.items()
    }


@torch.no_grad()
def losses_of(
    model: Network, x: torch.Tensor, y: torch.Tensor, training: TrainingConfig, precision: Precision
) -> torch.Tensor:
    """Loss of each token (B, T), on the model's device, in parts as training goes through them."""
    rows = rows_at_once(model.config, training)
    parts = zip(*(torch.split(t.to(model.device), rows) for t in (x, y)), strict=True)
    with precision.autocast():
        return torch.cat([model.token_losses(a, b) for a, b in parts])


def in_double(values: torch.Tensor) -> torch.Tensor:
    """Values in float64, on the host where their device has none, as Apple's GPUs."""
    return (values.cpu() if values.device.type == "mps" else values).double()


def _summary(losses: torch.Tensor, tokens: torch.Tensor, text_bytes: int) -> Measured:
    """From the losses and token counts of the windows (n).

    The standard error is that of a ratio of two sums over n independent windows (Cochran 1977, section 6.3): tokens
    of one window depend on each other, so they cannot be counted as a sample each. Windows that a loss mask leaves
    nothing of are no samples: by a single one that counts, nothing is known of the others.
    """
    n, total, counted = int((tokens > 0).sum()), float(losses.sum()), float(tokens.sum())
    mean, se = total / counted, math.nan
    if n > 1 and math.isfinite(mean):
        se = math.sqrt(n / (n - 1) * float(((losses - mean * tokens) ** 2).sum())) / counted
    bpb = total / math.log(2) / text_bytes if text_bytes else math.nan
    return Measured(mean, se if math.isfinite(se) else None, bpb if math.isfinite(bpb) else None)
