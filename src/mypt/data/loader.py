"""Training batches as a pure function of seed and batch index, and fixed windows for evaluation."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from mypt.data.formats.names import told
from mypt.data.integrity import check_newer, metadata_hash
from mypt.data.sampling import epoch_starts, random_starts
from mypt.data.shards import Shards, open_shards
from mypt.data.text import TEXT_FIELD, Text, read_text, text_from
from mypt.data.tokenizer import TokenIds, Tokenizer
from mypt.data.tokens import Part, Split, Tokens, outside_vocabulary, start_token
from mypt.errors import ConflictError, InputError
from mypt.model.losses import IGNORED
from mypt.schema.files.state import DataRecord, SourceRecord
from mypt.schema.files.tokenizer import END_OF_TEXT
from mypt.schema.settings.config import GPTConfig
from mypt.schema.settings.data import Sampling
from mypt.schema.settings.training import TrainingConfig

Batch = tuple[torch.Tensor, torch.Tensor]

DEFAULT_EVAL_SEED: int = TrainingConfig.model_fields["eval_seed"].default
TRAIN_FRACTION = 0.9
"""Fraction of a text used for training; the rest is for validation."""
NEAR_FRACTIONS = (0.8, 0.95)
"""A border of documents between these fractions is where a text is cut instead, so that no document is in both."""


@dataclass(frozen=True)
class LoaderOptions:
    """Options of a `GPTDataLoader`.

    Attributes:
        eval_only: load only the validation split; a text is then used for validation as a whole.
        seed: random seed of the training windows.
        sampling: `random` windows or shuffled `epoch`s; defaults to epochs for shards and random for a text.
        use_loss_mask: compute the loss only on tokens selected by the shards' masks; None does where there are some.
        text_field: field or column with the text, where an input has rows.
    """

    eval_only: bool = False
    seed: int = 1337
    sampling: Sampling | None = None
    use_loss_mask: bool | None = None
    text_field: str = TEXT_FIELD


class GPTDataLoader:
    """Loads batches of token windows from a training and a validation split.

    The data come from `text`, `input_file` or `dataset_dir`, or from the built-in sample if none is given. The first
    90 % of a text are for training, up to the end of a document if one is near, unless `eval_only` is set.

    Args:
        config: its batch_size, block_size and vocab_size determine the batches.
        tokenizer: tokenizer; for shards, the one they were made with.
        text: text.
        input_file: one or more sources, as for `--input-file`.
        dataset_dir: folder of shards.
        eval_only: load only the validation split.
        seed: random seed of the training windows.
        options: all options, instead of `eval_only` and `seed`.

    Attributes:
        splits: the tokens.
        record: what they are, for training_state.json.
        left_out: one line on files in the folder that could hold tokens and are not read; None if there are none.

    Raises:
        InputError: a source is unusable, a split is shorter than one window, or an id is outside the vocabulary.
        ConflictError: the shards were made with a different tokenizer.
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
        options: LoaderOptions | None = None,
    ) -> None:
        self.config = config
        self.tokenizer = tokenizer
        self.options = options or LoaderOptions(eval_only=eval_only, seed=seed)
        self.left_out: str | None = None
        if dataset_dir is not None:
            self.splits, self.record = self._from_shards(dataset_dir)
        else:
            self.splits, self.record = self._from_text(text, input_file)
        self._check_lengths()
        start = start_token(self.splits["train"], tokenizer)
        self.record = self.record.model_copy(update={"start_token": start})
        lengths = np.zeros(config.vocab_size, dtype=np.int64)
        lengths[: tokenizer.vocab_size] = tokenizer.byte_lengths
        self._byte_lengths = torch.from_numpy(lengths)

    def batch(self, index: int) -> Batch:
        """Training micro-batch `index`: inputs and targets (B, T), int64, a pure function of `index`.

        Masked targets are `IGNORED`.
        """
        return self._windows("train", self.window_starts(index))

    def window_starts(self, index: int) -> npt.NDArray[np.int64]:
        """Position in the training split of each window of a training micro-batch (B)."""
        starts = epoch_starts if self.record.sampling == "epoch" else random_starts
        B, T = self.config.batch_size, self.config.block_size
        return starts(self.options.seed, index, B, len(self.splits["train"]), T)

    def eval_batches(
        self, split: Split, eval_iters: int, eval_seed: int = DEFAULT_EVAL_SEED, rank: int = 0, size: int = 1
    ) -> Iterator[Batch]:
        """The eval windows of a split, in batches of at most B; every evaluation uses the same windows.

        Of `size` processes, each goes through every `size`-th batch, beginning with that of its `rank`.

        Windows do not overlap. If the split has more than eval_iters x B of them, that many are chosen at random;
        the choice depends only on the split, `eval_seed` and these numbers.
        """
        for starts in islice(self._eval_starts(split, eval_iters, eval_seed), rank, None, size):
            yield self._windows(split, starts)

    def counts_in(self, split: Split, eval_iters: int, eval_seed: int) -> bool:
        """Whether the loss mask leaves any target of the windows of `eval_batches`."""
        tokens, T = self.splits[split], self.config.block_size
        return any(tokens.mask_windows(s + 1, T).any() for s in self._eval_starts(split, eval_iters, eval_seed))

    def _eval_starts(self, split: Split, eval_iters: int, eval_seed: int) -> Iterator[npt.NDArray[np.int64]]:
        B, T = self.config.batch_size, self.config.block_size
        count, wanted = self.eval_windows(split), eval_iters * B
        if count > wanted:
            chosen = np.sort(np.random.default_rng(eval_seed).choice(count, size=wanted, replace=False))
        else:
            chosen = np.arange(count)
        for i in range(0, len(chosen), B):
            yield chosen[i : i + B] * T

    def eval_windows(self, split: Split) -> int:
        """Number of non-overlapping windows of block_size tokens in a split."""
        return (len(self.splits[split]) - 1) // self.config.block_size

    def eval_batch_count(self, split: Split, eval_iters: int) -> int:
        """Number of batches that `eval_batches` yields."""
        return min(eval_iters, -(-self.eval_windows(split) // self.config.batch_size))

    def text_bytes(self, targets: torch.Tensor) -> torch.Tensor:
        """Total bytes of text of the targets (B, T); special tokens and `IGNORED` count as zero."""
        return self._byte_lengths[targets.clamp(min=0)][targets != IGNORED].sum()

    @property
    def tokens_per_micro_batch(self) -> int:
        """Tokens in one training micro-batch, B x T."""
        return self.config.batch_size * self.config.block_size

    @property
    def masked(self) -> bool:
        """Whether loss masks are applied."""
        return self.record.masked

    def _from_text(
        self, text: str | Text | None, input_file: str | Sequence[str] | None
    ) -> tuple[dict[Split, Tokens], DataRecord]:
        if isinstance(text, str):
            text = text_from(text)
        paths = [input_file] if isinstance(input_file, str) else list(input_file or ())
        source = text if text is not None else read_text(paths, self.options.text_field)
        encode = self.tokenizer.encode if source.documents is None else self.tokenizer.encode_text
        ids = encode(source.content)
        border = self.tokenizer.file.special_ids.get(END_OF_TEXT) if source.documents else None
        cut = 0 if self.options.eval_only else _train_tokens(ids, border)
        splits: dict[Split, Tokens] = {
            "train": Tokens([Part("the training text", ids[:cut])]),
            "val": Tokens([Part("the validation text", ids[cut:])]),
        }
        for tokens in splits.values():
            tokens.check_ids(self.config.vocab_size)
        return splits, DataRecord(
            sources=source.sources, fingerprint=source.fingerprint, characters=source.characters,
            documents=source.documents, text_field=self.options.text_field,
            tokenization=self.tokenizer.file.token_kind, train_tokens=cut, val_tokens=len(ids) - cut,
            sampling=self.options.sampling or "random", seed=int(self.options.seed),
        )  # fmt: skip

    def _from_shards(self, folder: str | Path) -> tuple[dict[Split, Tokens], DataRecord]:
        shards = open_shards(folder, eval_only=self.options.eval_only)
        self.left_out = told(shards.folder, shards.left_out)
        own = self.tokenizer.file
        if not (own.extends(shards.tokenizer) or shards.tokenizer.extends(own)):
            raise ConflictError(
                f"The dataset {folder} was made with another tokenizer ({shards.tokenizer.token_kind}, "
                f"{shards.tokenizer.vocab_size:,} tokens) than this model's ({own.token_kind}, {own.vocab_size:,}).",
                "Make it again with `mypt prepare --tokenizer-of` and the name of the model.",
            )
        if shards.max_id is None or shards.max_id >= self.config.vocab_size:
            for tokens in shards.splits.values():
                tokens.check_ids(self.config.vocab_size)
        check_newer(shards)
        has_masks = all(tokens.masked for tokens in shards.splits.values())
        use_mask = has_masks if self.options.use_loss_mask is None else self.options.use_loss_mask
        if use_mask and not has_masks:
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
            sampling=self.options.sampling or "epoch", seed=int(self.options.seed), masked=use_mask,
            sample_sha256=shards.sample, metadata_sha256=metadata_hash(shards), documents=_documents(shards),
        )  # fmt: skip

    def _windows(self, split: Split, starts: npt.NDArray[np.int64]) -> Batch:
        T, tokens = self.config.block_size, self.splits[split]
        windows = tokens.windows(starts, T + 1)
        if int(windows.max()) >= self.config.vocab_size:  # the embedding would fail without naming the token
            row, column = np.argwhere(windows >= self.config.vocab_size)[0]
            name, offset = tokens.locate(int(starts[row] + column))
            raise outside_vocabulary(int(windows[row, column]), name, offset, self.config.vocab_size)
        x, y = np.ascontiguousarray(windows[:, :-1]), np.ascontiguousarray(windows[:, 1:])  # a view would pin in vain
        if self.masked:
            y = np.where(tokens.mask_windows(starts + 1, T) != 0, y, IGNORED)
        return torch.from_numpy(x), torch.from_numpy(y)

    def _check_lengths(self) -> None:
        needed = self.config.block_size + 1
        splits = {n: len(t) for n, t in self.splits.items() if n == "val" or not self.options.eval_only}
        short = {name: needed - length for name, length in splits.items() if length < needed}
        if not short:
            return
        missing = " and ".join(f"{n} tokens in the {name} split" for name, n in short.items())
        folder, longest = self.record.dataset_dir, min(splits.values()) - 1
        share = 1.0 if self.options.eval_only or folder else 1 - TRAIN_FRACTION
        more = f"{round(max(short.values()) / share)} tokens more"
        raise InputError(
            f"The {'text' if folder is None else f'dataset {folder}'} is too short for one window of "
            f"{self.config.block_size} tokens: it has {sum(splits.values())}, and {missing} are missing.",
            (f"Give shards with at least {more} in each short split" if folder else f"Give about {more} text")
            + (f", or train with a --block-size of at most {longest}." if longest > 0 else "."),
        )


def _documents(shards: Shards) -> int | None:
    """Documents of the splits that were opened, each with a border after it; None if nothing says so."""
    made = shards.metadata
    return None if made is None else sum((made.train if s == "train" else made.val).documents for s in shards.splits)


def _train_tokens(ids: TokenIds, border: int | None) -> int:
    """Tokens of a text that are for training: `TRAIN_FRACTION`, or up to the border nearest to it, if one is near."""
    cut = int(len(ids) * TRAIN_FRACTION)
    if border is None:
        return cut
    first, last = (int(len(ids) * fraction) for fraction in NEAR_FRACTIONS)
    ends = np.flatnonzero(ids[first:last] == border) + first + 1
    return int(ends[np.abs(ends - cut).argmin()]) if len(ends) else cut
