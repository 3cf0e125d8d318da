"""Batches of token windows as a pure function of (seed, step, micro-step), and fixed windows to evaluate on."""

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from mypt.data.text import Text, fingerprint, read_text
from mypt.data.tokenizer import TokenIds, Tokenizer, check_ids
from mypt.schema.config import GPTConfig
from mypt.schema.errors import InputError
from mypt.schema.state import DataRecord

Split = Literal["train", "val"]
Batch = tuple[torch.Tensor, torch.Tensor]

TRAIN_SHARE = 0.9
EVAL_SEED = 2357


class GPTDataLoader:
    """Cuts a text into a training and a validation split and hands out batches of windows of both.

    The text is given as `text`, or read from `input_file`, or, with neither, is the embedded sample.

    Args:
        config: its batch_size, block_size and vocab_size shape the batches.
        tokenizer: how text becomes ids.
        text: the text itself.
        input_file: one or several sources, as `--input-file` takes them.
        seed: what the order of the training windows follows.

    Raises:
        InputError: a source is unusable, a split is shorter than one window, or an id is outside the vocabulary.
    """

    def __init__(
        self,
        config: GPTConfig,
        tokenizer: Tokenizer,
        *,
        text: str | Text | None = None,
        input_file: str | Sequence[str] | None = None,
        seed: int = 1337,
    ) -> None:
        if isinstance(text, str):
            text = Text(text, (), fingerprint(text))
        paths = [input_file] if isinstance(input_file, str) else list(input_file or ())
        read = text if text is not None else read_text(paths)
        ids = tokenizer.encode(read.content)
        check_ids(ids, config.vocab_size)
        cut = int(len(ids) * TRAIN_SHARE)
        self.config = config
        self.tokenizer = tokenizer
        self.seed = seed
        self.splits: dict[Split, TokenIds] = {"train": ids[:cut], "val": ids[cut:]}
        self.record = DataRecord(
            sources=read.sources, fingerprint=read.fingerprint, characters=len(read.content),
            tokenization=tokenizer.file.token_kind, train_tokens=cut, val_tokens=len(ids) - cut,
        )  # fmt: skip
        self._check_lengths()

    def batch(self, step: int, micro_step: int = 0) -> Batch:
        """One training micro-batch: inputs and targets (B, T), int64, a pure function of its arguments."""
        return self._windows("train", self.window_starts(step, micro_step))

    def window_starts(self, step: int, micro_step: int = 0) -> npt.NDArray[np.int64]:
        """First token, in the training split, of each window of a training micro-batch (B)."""
        rng = np.random.default_rng((self.seed, step, micro_step))
        return rng.integers(0, len(self.splits["train"]) - self.config.block_size, size=self.config.batch_size)

    def eval_batches(self, split: Split, eval_iters: int) -> Iterator[Batch]:
        """The windows that every evaluation of a split sees, in batches of at most B.

        They never overlap. Where the split holds more than eval_iters x B of them, a seeded choice of that
        many stands for all; it depends on nothing but the split and these numbers.
        """
        B, T = self.config.batch_size, self.config.block_size
        count, wanted = self.eval_windows(split), eval_iters * B
        if count > wanted:
            chosen = np.sort(np.random.default_rng(EVAL_SEED).choice(count, size=wanted, replace=False))
        else:
            chosen = np.arange(count)
        for i in range(0, len(chosen), B):
            yield self._windows(split, chosen[i : i + B] * T)

    def eval_windows(self, split: Split) -> int:
        """How many windows of block_size, none overlapping, a split holds."""
        return (len(self.splits[split]) - 1) // self.config.block_size

    def eval_batch_count(self, split: Split, eval_iters: int) -> int:
        """How many batches `eval_batches` yields."""
        return min(eval_iters, -(-self.eval_windows(split) // self.config.batch_size))

    @property
    def tokens_per_micro_batch(self) -> int:
        """Tokens in one training micro-batch, B x T."""
        return self.config.batch_size * self.config.block_size

    def _windows(self, split: Split, starts: npt.NDArray[np.int64]) -> Batch:
        T = self.config.block_size
        windows = self.splits[split][starts[:, None] + np.arange(T + 1)].astype(np.int64)  # (B, T+1)
        tokens = torch.from_numpy(windows)
        return tokens[:, :-1], tokens[:, 1:]

    def _check_lengths(self) -> None:
        need = self.config.block_size + 1
        short = {name: need - len(ids) for name, ids in self.splits.items() if len(ids) < need}
        if not short:
            return
        total = sum(len(ids) for ids in self.splits.values())
        needed = max(-(-need * 10 // 9), need * 10)
        missing = " and ".join(f"{n} tokens in the {name} split" for name, n in short.items())
        raise InputError(
            f"The text is too short for one window of {self.config.block_size} tokens: it has {total}, and "
            f"{missing} are missing.",
            f"Give about {needed - total} tokens more text, or a --block-size of at most {max(total // 10 - 1, 1)}.",
        )
