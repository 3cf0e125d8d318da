"""What loss masks leave of the data of a run; where it is nothing, that is told before the first step."""

from collections.abc import Iterator

import numpy as np

from mypt.data.loader import GPTDataLoader
from mypt.data.tokens import SCAN_TOKENS, Tokens
from mypt.errors import InputError
from mypt.schema.files.tokenizer import END_OF_TEXT
from mypt.schema.settings.training import TrainingConfig
from mypt.train.plan import LongConversations, MaskUse
from mypt.train.run_data import RunData


def check_counted(data: RunData, training: TrainingConfig) -> None:
    """Make sure that every mean of the run has tokens: what is trained on, and each set that is measured.

    Raises:
        InputError: a loss mask leaves nothing of some of them; all are named.
    """
    if empty := list(_empty(data, training)):
        raise InputError(
            empty[0] if len(empty) == 1 else f"Loss masks leave nothing of {len(empty)} parts of the data.",
            "Make the dataset again from conversations in which the assistant says something that is to be learned, or "
            "train a new model with --no-use-loss-mask.",
            empty[1:] and empty,
        )


def mask_uses(data: RunData) -> tuple[MaskUse, ...]:
    """How each phase uses the loss masks of its training data; none for a run without any."""
    trained = _trained(data)
    if not any(loader.splits["train"].masked for _, loader in trained):
        return ()
    return tuple(MaskUse(n, loader.splits["train"].masked, loader.masked, _share(loader)) for n, loader in trained)


def long_conversations(data: RunData) -> LongConversations | None:
    """The training conversations that are longer than a window; None if there are none, or no masks."""
    count, of, longest = 0, 0, 0
    for loader in {id(loader): loader for _, loader in _trained(data) if loader.splits["train"].masked}.values():
        tokens, size = loader.splits["train"], loader.config.block_size
        known = [part.longest for part in tokens.parts]
        if all(most is not None and most <= size for most in known):
            of += sum(part.documents or 0 for part in tokens.parts)
            continue
        for lengths in _document_lengths(tokens, loader.tokenizer.file.special_ids[END_OF_TEXT]):
            count, of = count + int((lengths > size).sum()), of + len(lengths)
            longest = max(longest, int(lengths.max(initial=0)))
    return LongConversations(count, of, longest) if count else None


def _empty(data: RunData, training: TrainingConfig) -> Iterator[str]:
    for name, loader in _trained(data):
        if loader.masked and not loader.splits["train"].counted:
            what = "the training split" if name is None else f"the phase {name}"
            yield f"No token of {what} counts: its loss mask in {loader.record.dataset_dir} leaves out all."
    for name, (loader, split) in data.measured_sets().items():
        if loader.masked and not loader.counts_in(split, training.eval_iters, training.eval_seed):
            what = {"train": "the training split", "val": "the validation split"}.get(name, f"the eval set {name}")
            yield (
                f"No token of the windows of {what} that evaluations measure counts: the loss mask in "
                f"{loader.record.dataset_dir} leaves out all."
            )


def _trained(data: RunData) -> list[tuple[str | None, GPTDataLoader]]:
    return [(phase.name, phase.loader) for phase in data.phases] or [(None, data.primary)]


def _share(loader: GPTDataLoader) -> float:
    tokens = loader.splits["train"]
    return tokens.counted / max(1, len(tokens) - 1)


def _document_lengths(tokens: Tokens, separator: int) -> Iterator["np.ndarray[tuple[int], np.dtype[np.int64]]"]:
    """The tokens of each document before its separator, a chunk of the ids at a time."""
    offset, end = 0, -1
    for part in tokens.parts:
        for start in range(0, len(part.ids), SCAN_TOKENS):
            ids = part.ids[start : start + SCAN_TOKENS]
            ends = np.flatnonzero(ids == separator) + offset
            yield np.diff(ends, prepend=end) - 1
            offset, end = offset + len(ids), int(ends[-1]) if len(ends) else end
