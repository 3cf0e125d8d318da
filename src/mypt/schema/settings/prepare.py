"""Settings of `mypt prepare`, and the plan and records by which an interrupted one goes on."""

from typing import Literal, Self

from pydantic import model_validator

from mypt.schema.base import Record, Section, extra_of, same_as, setting
from mypt.schema.files.dataset import ShardRecord
from mypt.schema.files.tokenizer import Tokenization
from mypt.schema.settings.data import DataConfig

Form = Literal["text", "jsonl", "parquet"]


class PrepareConfig(Section):
    """How texts become a dataset."""

    tokenization: Tokenization = same_as(DataConfig, "tokenization")
    bpe_vocab_size: int = same_as(DataConfig, "bpe_vocab_size")
    tokenizer_of: str | None = setting(
        None, "Use the tokenizer of a model, by name or path, or of the folder of another dataset.",
        on_resume="refused",
    )  # fmt: skip
    val_share: float = setting(
        0.05, "Share of the text, by hash of its content, that goes to the validation split.",
        on_resume="refused", gt=0, lt=1,
    )  # fmt: skip
    text_field: str = setting(
        "text", "Field of a JSON line, or column of a parquet file, that holds the text.", on_resume="refused"
    )
    chat: bool = setting(
        False, "Read conversations from JSON lines with messages; only what the assistant says counts in the loss.",
        on_resume="refused",
    )  # fmt: skip
    workers: int | None = setting(
        None, "Processes that work at once; one for each core when not given.", on_resume="harmless", ge=1
    )

    @model_validator(mode="after")
    def _one_tokenizer(self) -> Self:
        named = sorted({"tokenization", "bpe_vocab_size"} & self.model_fields_set)
        if self.tokenizer_of is not None and named:
            raise ValueError(f"tokenizer_of settles the tokenizer; leave out {' and '.join(named)}")
        return self

    def shaping(self) -> dict[str, str | int | float | bool | None]:
        """The settings that the dataset depends on, by name."""
        return {n: v for n, v in self.model_dump().items() if extra_of(type(self), n)["on_resume"] == "refused"}


class InputFile(Record):
    """One input as it was found.

    Attributes:
        path: absolute path.
        form: what is in it, once decompressed.
        gzipped: whether it must be decompressed.
        bytes: size as it lies on disk.
        mtime_ns: time of its last change.
    """

    path: str
    form: Form
    gzipped: bool
    bytes: int
    mtime_ns: int


class Part(Record):
    """A range of one input; a range borders on its neighbour where the text around `start` and `end` allows a cut.

    Attributes:
        source: place of the input in the plan.
        start: first byte of the range.
        end: byte after the last.
    """

    source: int
    start: int
    end: int


class Unit(Record):
    """What one worker does at a time, and leaves as one shard for each split."""

    parts: tuple[Part, ...]

    @property
    def bytes(self) -> int:
        """Bytes of input in it."""
        return sum(part.end - part.start for part in self.parts)


class PreparePlan(Record):
    """plan.json: all that the result depends on.

    Attributes:
        settings: the settings that shape the dataset.
        sources: the inputs, in order.
        units: the work; a unit's place is the number of its shards.
    """

    settings: dict[str, str | int | float | bool | None]
    sources: tuple[InputFile, ...]
    units: tuple[Unit, ...]

    @property
    def config(self) -> PrepareConfig:
        """The settings; validated when the plan was made."""
        return PrepareConfig.model_construct(**self.settings)  # type: ignore[arg-type]


class UnitRecord(Record):
    """What a finished unit left; None for a split that got nothing from it."""

    train: ShardRecord | None
    val: ShardRecord | None


class HashRecord(Record):
    """What a finished hash of an input found."""

    sha256: str
