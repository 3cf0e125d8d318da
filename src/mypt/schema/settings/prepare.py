"""Settings of `mypt prepare`."""

from typing import Literal, Self

from pydantic import model_validator

from mypt.schema.base import Section, extra_of, same_as, setting
from mypt.schema.settings.data import DataConfig, Tokenization

ChatFormat = Literal["messages", "sharegpt", "alpaca", "prompt-completion"]
"""Kinds of conversations, in the order in which a row is asked for their fields."""


class PrepareConfig(Section):
    """How text is converted to a dataset."""

    tokenization: Tokenization = same_as(DataConfig, "tokenization")
    bpe_vocab_size: int = same_as(DataConfig, "bpe_vocab_size")
    tokenizer_of: str | None = setting(
        None, "Use the tokenizer of a model, given by name or path, or of another dataset, given by folder.",
        on_resume="refused",
    )  # fmt: skip
    val_share: float = setting(
        0.05, "Fraction of the text, chosen by hash of its content, that goes to the validation split.",
        on_resume="refused", gt=0, lt=1,
    )  # fmt: skip
    text_field: str = setting(
        "text", "Field of each JSON line, or column of a Parquet file, that contains the text.", on_resume="refused"
    )
    chat: bool = setting(
        False, "Read each row as a conversation; only what the assistant says counts in the loss.",
        on_resume="refused",
    )  # fmt: skip
    chat_format: ChatFormat | None = setting(
        None, "Kind of the conversations; defaults to what the first row of each file looks like.", on_resume="refused"
    )
    workers: int | None = setting(
        None, "Number of worker processes; defaults to the number of CPU cores.", on_resume="harmless", ge=1
    )

    @model_validator(mode="after")
    def _one_tokenizer(self) -> Self:
        named = sorted({"tokenization", "bpe_vocab_size"} & self.model_fields_set)
        if self.tokenizer_of is not None and named:
            raise ValueError(f"tokenizer_of determines the tokenizer; leave out {' and '.join(named)}")
        if self.chat_format is not None and not self.chat:
            raise ValueError("chat_format is the kind of conversations; give chat too")
        return self

    def shaping(self) -> dict[str, str | int | float | bool | None]:
        """Settings that the dataset depends on, by name."""
        return {n: v for n, v in self.model_dump().items() if extra_of(type(self), n)["on_resume"] == "refused"}
