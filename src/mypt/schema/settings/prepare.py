"""Settings of `mypt prepare`."""

from typing import Literal, Self

from pydantic import field_validator, model_validator

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
        on_resume="refused", ge=0, le=1,
    )  # fmt: skip
    split_by_folder: bool | None = setting(
        None, "Keep the split that the names of folders and files give, such as train and validation; defaults to "
        "doing so where both are named.",
        on_resume="refused",
    )  # fmt: skip
    val_input: tuple[str, ...] = setting(
        (), "Text that is the validation split, all of it, as the inputs are the training split: a file, a folder or a "
        "pattern; repeat for several.",
        on_resume="refused",
    )  # fmt: skip
    text_field: str = same_as(DataConfig, "text_field")
    chat: bool = setting(
        False, "Read each row as a conversation; only what the assistant says counts in the loss.",
        on_resume="refused",
    )  # fmt: skip
    chat_format: ChatFormat | None = setting(
        None, "Kind of the conversations; defaults to what the first row of each file looks like.", on_resume="refused"
    )
    skip_bad_rows: bool = setting(
        False, "Leave out rows that cannot be used, and count them, instead of refusing the input.", on_resume="refused"
    )
    workers: int | None = setting(
        None, "Number of worker processes; defaults to the number of CPU cores.", on_resume="harmless", ge=1
    )

    @field_validator("val_input", mode="before")
    @classmethod
    def _as_tuple(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_tokenizer(self) -> Self:
        named = sorted({"tokenization", "bpe_vocab_size"} & self.model_fields_set)
        if self.tokenizer_of is not None and named:
            raise ValueError(f"tokenizer_of determines the tokenizer; leave out {' and '.join(named)}")
        if self.chat_format is not None and not self.chat:
            raise ValueError("chat_format is the kind of conversations; give chat too")
        if self.split_by_folder and self.val_input:
            raise ValueError("split_by_folder and val_input each give the split; give one of them")
        return self

    def shaping(self) -> dict[str, str | int | float | bool | None]:
        """Settings that the dataset depends on, by name, but for the files, which stand in the plan by themselves."""
        settings = self.model_dump(exclude={"val_input"})
        return {n: v for n, v in settings.items() if extra_of(type(self), n)["on_resume"] == "refused"}
