"""Batches of token windows as a pure function of the seed and the batch's number, and fixed windows to evaluate on."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from mypt.data.sampling import epoch_starts, random_starts
from mypt.data.shards import Split, open_shards
from mypt.data.text import Text, fingerprint, read_text
from mypt.data.tokenizer import Tokenizer
from mypt.data.tokens import Part, Tokens, outside_vocabulary
from mypt.errors import ConflictError, InputError
from mypt.model.losses import IGNORED
from mypt.schema.files.state import DataRecord, Sampling, SourceRecord
from mypt.schema.settings.config import GPTConfig
from mypt.schema.settings.training import TrainingConfig

Batch = tuple[torch.Tensor, torch.Tensor]

TRAIN_SHARE = 0.9


@dataclass(frozen=True)
class Reading:
    """How the data are read.

    Attributes:
        eval_only: nothing is trained on; a text is then validation as a whole.
        seed: what the order of the training windows follows.
        sampling: `random` windows or shuffled `epoch`s; by default epochs for shards and random for a text.
        use_loss_mask: let only the tokens count that the shards' masks name.
        eval_seed: what the choice of the windows to evaluate on follows.
    """

    eval_only: bool = False
    seed: int = 1337
    sampling: Sampling | None = None
    use_loss_mask: bool = False
    eval_seed: int = TrainingConfig.model_fields["eval_seed"].default


class GPTDataLoader:
    """Hands out batches of windows of a training and a validation split.

    The data are a `text`, or read from `input_file`, or the shards of `dataset_dir`, or, with none of them, the
    embedded sample. A text is cut in two: the first 90 % are for training, unless `eval_only` is asked for.

    Args:
        config: its batch_size, block_size and vocab_size shape the batches.
        tokenizer: how text becomes ids; it has to be the one that shards were made with.
        text: the text itself.
        input_file: one or several sources, as `--input-file` takes them.
        dataset_dir: a folder of shards.
        eval_only: load the validation split alone.
        seed: what the order of the training windows follows.
        reading: all of how the data are read, in place of `eval_only` and `seed`.

    Raises:
        InputError: a source is unusable, a split is shorter than one window, or an id is outside the vocabulary.
        ConflictError: the shards were made with another tokenizer.
    """

    def __init__(
        self,
        config: GPTConfig,
        tokenizer: Tokenizer,
        *,
        text: str | Text | None = None,
        input_file: str | Sequence[str] | None = None,
        dataset_dir: str | Path | None = None,
        eval_only: bool = False,
        seed: int = 1337,
        reading: Reading | None = None,
    ) -> None:
        self.config = config
        self.tokenizer = tokenizer
        self.reading = reading or Reading(eval_only=eval_only, seed=seed)
        if dataset_dir is not None:
            self.splits, self.record = self._from_shards(dataset_dir)
        else:
            self.splits, self.record = self._from_text(text, input_file)
        self._check_lengths()
        lengths = np.zeros(config.vocab_size, dtype=np.int64)
        lengths[: tokenizer.vocab_size] = tokenizer.byte_lengths
        self._byte_lengths = torch.from_numpy(lengths)

    def batch(self, index: int) -> Batch:
        """Training micro-batch number `index`: inputs and targets (B, T), int64, a pure function of `index`.

        Targets that do not count are `IGNORED`.
        """
        return self._windows("train", self.window_starts(index))

    def window_starts(self, index: int) -> npt.NDArray[np.int64]:
        """First token, in the training split, of each window of a training micro-batch (B)."""
        starts = epoch_starts if self.record.sampling == "epoch" else random_starts
        B, T = self.config.batch_size, self.config.block_size
        return starts(self.reading.seed, index, B, len(self.splits["train"]), T)

    def eval_batches(self, split: Split, eval_iters: int) -> Iterator[Batch]:
        """The windows that every evaluation of a split sees, in batches of at most B.

        They never overlap. Where the split holds more than eval_iters x B of them, a seeded choice of that
        many stands for all; it depends on nothing but the split, `eval_seed` and these numbers.
        """
        B, T = self.config.batch_size, self.config.block_size
        count, wanted = self.eval_windows(split), eval_iters * B
        if count > wanted:
            chosen = np.sort(np.random.default_rng(self.reading.eval_seed).choice(count, size=wanted, replace=False))
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

    def text_bytes(self, targets: torch.Tensor) -> torch.Tensor:
        """Bytes of text that targets (B, T) stand for, together; special tokens and `IGNORED` are none."""
        return self._byte_lengths[targets.clamp(min=0)][targets != IGNORED].sum()

    @property
    def tokens_per_micro_batch(self) -> int:
        """Tokens in one training micro-batch, B x T."""
        return self.config.batch_size * self.config.block_size

    @property
    def masked(self) -> bool:
        """Whether some targets do not count."""
        return self.record.masked

    def _from_text(
        self, text: str | Text | None, input_file: str | Sequence[str] | None
    ) -> tuple[dict[Split, Tokens], DataRecord]:
        if isinstance(text, str):
            text = Text(text, (), fingerprint(text))
        paths = [input_file] if isinstance(input_file, str) else list(input_file or ())
        read = text if text is not None else read_text(paths)
        ids = self.tokenizer.encode(read.content)
        cut = 0 if self.reading.eval_only else int(len(ids) * TRAIN_SHARE)
        splits: dict[Split, Tokens] = {
            "train": Tokens([Part("the training text", ids[:cut])]),
            "val": Tokens([Part("the validation text", ids[cut:])]),
        }
        for tokens in splits.values():
            tokens.check_ids(self.config.vocab_size)
        return splits, DataRecord(
            sources=read.sources, fingerprint=read.fingerprint, characters=len(read.content),
            tokenization=self.tokenizer.file.token_kind, train_tokens=cut, val_tokens=len(ids) - cut,
            sampling=self.reading.sampling or "random",
        )  # fmt: skip

    def _from_shards(self, folder: str | Path) -> tuple[dict[Split, Tokens], DataRecord]:
        shards = open_shards(folder, eval_only=self.reading.eval_only)
        own = self.tokenizer.file
        if not (own.extends(shards.tokenizer) or shards.tokenizer.extends(own)):
            raise ConflictError(
                f"The dataset {folder} was made with another tokenizer ({shards.tokenizer.token_kind}, "
                f"{shards.tokenizer.vocab_size:,} tokens) than this model's ({own.token_kind}, {own.vocab_size:,}).",
                "Make it anew with `mypt prepare --tokenizer-of` and the name of the model.",
            )
        if shards.max_id is None or shards.max_id >= self.config.vocab_size:
            for tokens in shards.splits.values():
                tokens.check_ids(self.config.vocab_size)
        use_mask = self.reading.use_loss_mask
        if use_mask and not all(tokens.masked for tokens in shards.splits.values()):
            raise InputError(
                f"The dataset {folder} has no loss masks, which use_loss_mask needs.",
                "Make it with `mypt prepare --chat`, or leave use_loss_mask out.",
            )
        splits = {"train": Tokens([]), **shards.splits}
        size = sum(part.ids.nbytes for tokens in splits.values() for part in tokens.parts)
        source = SourceRecord(path=str(shards.folder), bytes=size, sha256=shards.fingerprint)
        return splits, DataRecord(
            sources=(source,), fingerprint=shards.fingerprint, tokenization=shards.tokenizer.token_kind,
            train_tokens=len(splits["train"]), val_tokens=len(splits["val"]), dataset_dir=str(shards.folder),
            sampling=self.reading.sampling or "epoch", masked=use_mask,
        )  # fmt: skip

    def _windows(self, split: Split, starts: npt.NDArray[np.int64]) -> Batch:
        T, tokens = self.config.block_size, self.splits[split]
        windows = tokens.windows(starts, T + 1)
        if int(windows.max()) >= self.config.vocab_size:  # else the embedding would fail without saying where
            row, column = np.argwhere(windows >= self.config.vocab_size)[0]
            name, offset = tokens.locate(int(starts[row] + column))
            raise outside_vocabulary(int(windows[row, column]), name, offset, self.config.vocab_size)
        x, y = windows[:, :-1], windows[:, 1:]
        if self.masked:
            y = np.where(tokens.mask_windows(starts + 1, T) != 0, y, IGNORED)
        return torch.from_numpy(x), torch.from_numpy(y)

    def _check_lengths(self) -> None:
        need = self.config.block_size + 1
        splits = {n: t for n, t in self.splits.items() if n == "val" or not self.reading.eval_only}
        short = {name: need - len(tokens) for name, tokens in splits.items() if len(tokens) < need}
        if not short:
            return
        total = sum(len(tokens) for tokens in splits.values())
        missing = " and ".join(f"{n} tokens in the {name} split" for name, n in short.items())
        share = 1.0 if self.reading.eval_only else 1 - TRAIN_SHARE
        raise InputError(
            f"The text is too short for one window of {self.config.block_size} tokens: it has {total}, and "
            f"{missing} are missing.",
            f"Give about {int(max(short.values()) / share)} tokens more text" + _smaller_block(int(total * share) - 1),
        )


def _smaller_block(block_size: int) -> str:
    return f", or a --block-size of at most {block_size}." if block_size > 0 else "."
