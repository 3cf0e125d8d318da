"""The loss over whole documents, in which each token is predicted exactly once."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt
import torch

from mypt.data.documents import Document
from mypt.errors import DivergedError, InputError
from mypt.model.cost import CPU_TOKENS
from mypt.model.losses import IGNORED
from mypt.model.network import Network

POOL = 512
"""Windows from which those of about equal length are taken together."""
TOKENS_AT_ONCE = 1 << 14
"""Tokens of a batch where another device than a CPU computes."""
Window = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
"""Inputs and targets (T) of a window; targets that are predicted elsewhere, or that do not count, are `IGNORED`."""


@dataclass(frozen=True)
class Rolled:
    """The loss over whole documents.

    Attributes:
        loss: mean next-token loss, nats per token.
        se: standard error of the loss, over windows; None for a single one.
        bpb: the loss in bits per byte of UTF-8; None where the tokens stand for no text.
        tokens: that were predicted.
        text_bytes: what they stand for.
    """

    loss: float
    se: float | None
    bpb: float | None
    tokens: int
    text_bytes: int
    windows: int
    documents: int

    @property
    def perplexity(self) -> float:
        """The exponential of the loss."""
        return math.exp(self.loss) if self.loss < math.log(1e300) else math.inf


@torch.no_grad()
def measure_documents(
    model: Network, documents: Iterable[Document], prefix: int, progress: Callable[[int], None] = lambda _: None
) -> Rolled:
    """Measure the mean next-token loss over documents, without dropout and in fp32.

    The protocol is that of lm-evaluation-harness for perplexity (Gao et al. 2021), so that figures compare: a document
    is cut into windows of block_size targets; the first token is predicted from `prefix`, every other window begins
    with the last token of the one before, and the last one reaches back to be as long as the others.

    Args:
        model: the model; its training mode is restored afterwards.
        documents: the documents, read as they are needed.
        prefix: the token that a document begins after.
        progress: told after each batch how many tokens are done.

    Raises:
        InputError: there is no token that counts.
        DivergedError: the loss is not finite.
    """
    sums, was_training = _Sums(), model.training
    windows = (
        window for document in sums.noted(documents) for window in windows_of(document, model.config.block_size, prefix)
    )
    at_once = CPU_TOKENS if model.device.type == "cpu" else TOKENS_AT_ONCE
    model.eval()
    try:
        for x, y in _batches(windows, at_once):
            losses = model.token_losses(x.to(model.device), y.to(model.device)).cpu().double()  # (B, T)
            sums.add(losses.sum(dim=1), (y != IGNORED).sum(dim=1).double())
            progress(int(sums.tokens))
    finally:
        model.train(was_training)
    return sums.result()


def windows_of(document: Document, block_size: int, prefix: int) -> Iterator[Window]:
    """The windows of a document, each of at most block_size inputs and as many targets."""
    tokens, count, done = document.tokens, len(document), 0
    while done < count:
        end = min(done + block_size, count)
        begin = max(end - block_size, 0)  # of the targets, those before `done` among them
        at, length = np.array([document.start + begin]), end - begin
        y = tokens.windows(at, length)[0]
        x = np.append(prefix, y[:-1]) if begin == 0 else tokens.windows(at - 1, length)[0]
        counts = np.arange(begin, end) >= done
        if tokens.masked:
            counts &= tokens.mask_windows(at, length)[0] != 0
        if counts.any():
            yield x, np.where(counts, y, IGNORED)
        done = end


def _batches(windows: Iterator[Window], at_once: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Batches of windows of about equal length, the shorter ones padded behind, where no token sees it."""
    while pool := list(islice(windows, POOL)):
        pool.sort(key=lambda window: len(window[0]), reverse=True)
        while pool:
            rows = max(1, at_once // len(pool[0][0]))
            taken, pool = pool[:rows], pool[rows:]
            yield _padded([x for x, _ in taken], 0), _padded([y for _, y in taken], IGNORED)


def _padded(rows: Sequence[npt.NDArray[np.int64]], filling: int) -> torch.Tensor:
    out = np.full((len(rows), len(rows[0])), filling, dtype=np.int64)
    for into, row in zip(out, rows, strict=True):
        into[: len(row)] = row
    return torch.from_numpy(out)


class _Sums:
    """What is kept of the windows, however many they are: sums of their losses l, their tokens t, and of products."""

    def __init__(self) -> None:
        self.windows = self.documents = self.text_bytes = 0
        self.loss = self.tokens = self._ll = self._lt = self._tt = 0.0

    def noted(self, documents: Iterable[Document]) -> Iterator[Document]:
        """The documents, each counted as it passes by."""
        for document in documents:
            self.documents += 1
            self.text_bytes += document.text_bytes
            yield document

    def add(self, losses: torch.Tensor, tokens: torch.Tensor) -> None:
        """Take in the losses and the token counts of windows (n)."""
        self.windows += len(losses)
        self.loss, self.tokens = self.loss + float(losses.sum()), self.tokens + float(tokens.sum())
        self._ll += float((losses * losses).sum())
        self._lt += float((losses * tokens).sum())
        self._tt += float((tokens * tokens).sum())

    def result(self) -> Rolled:
        """The figures; the standard error is that of a ratio of two sums, as in `evaluate`."""
        if not self.tokens:
            raise InputError("There is no token to predict.", "Give a text, or shards whose loss mask leaves some.")
        mean, n, se = self.loss / self.tokens, self.windows, None
        if not math.isfinite(mean):
            raise DivergedError(
                f"The loss is {mean}: the weights are not finite, or of no use.", "Evaluate an earlier bundle, or gold."
            )
        if n > 1:
            squares = max(0.0, self._ll - 2 * mean * self._lt + mean * mean * self._tt)
            se = math.sqrt(n / (n - 1) * squares) / self.tokens
        bpb = self.loss / math.log(2) / self.text_bytes if self.text_bytes else None
        return Rolled(mean, se, bpb, int(self.tokens), self.text_bytes, n, self.documents)
