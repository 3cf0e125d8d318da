"""Training in which no document of a window sees another: what tells them apart, and whether there are any."""

from mypt.data.tokenizer import Tokenizer
from mypt.errors import ConfigError
from mypt.schema.files.tokenizer import END_OF_TEXT
from mypt.schema.settings.training import TrainingConfig
from mypt.train.run_data import RunData

_TODO = "Leave mask_documents out, or use shards of `mypt prepare`, which puts a separator after each document."


def separator_of(training: TrainingConfig, tokenizer: Tokenizer) -> int | None:
    """The token by which documents are told apart; None where they are not.

    Raises:
        ConfigError: the vocabulary has none.
    """
    if not training.mask_documents:
        return None
    separator = tokenizer.file.special_ids.get(END_OF_TEXT)
    if separator is None:
        raise ConfigError(
            f"mask_documents needs a separator, and this {tokenizer.kind} vocabulary has no {END_OF_TEXT}.",
            _TODO,
        )
    return separator


def check_documents(data: RunData, separator: int) -> None:
    """Make sure that there are documents to tell apart.

    Raises:
        ConfigError: a training split is one document.
    """
    for loader in (data.primary, *(phase.loader for phase in data.phases)):
        if not loader.splits["train"].holds(separator):
            place = loader.record.dataset_dir or "the training text"
            raise ConfigError(f"mask_documents has no effect: {place} has no {END_OF_TEXT} to train on.", _TODO)
