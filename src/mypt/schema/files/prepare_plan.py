"""plan.json and the work records of `mypt prepare`, from which an interrupted call continues."""

from typing import Literal

from mypt.schema.base import Record
from mypt.schema.files.dataset import ShardRecord
from mypt.schema.settings.prepare import ChatFormat, PrepareConfig

Form = Literal["text", "json", "jsonl", "csv", "tsv", "parquet"]
Packing = Literal["gz", "bz2", "xz", "zst"]


class InputFile(Record):
    """One input file: its absolute path, the form of its content once unpacked, its size and time on disk.

    Attributes:
        packing: how it is packed; None if it is not.
        chat_format: kind of its conversations; None if it holds texts.
        split: the split that all of it is in; None if the hash of each document decides.
    """

    path: str
    form: Form
    packing: Packing | None
    bytes: int
    mtime_ns: int
    chat_format: ChatFormat | None = None
    split: Literal["train", "val"] | None = None

    @property
    def divisible(self) -> bool:
        """Whether it can be read from any place on, and not only from its beginning."""
        return self.packing is None and self.form in ("text", "jsonl")


class Part(Record):
    """Bytes `start` to `end` - 1 of input number `source`, nominally; the ends move to the next good place to cut."""

    source: int
    start: int
    end: int


class Unit(Record):
    """One unit of work, which yields one shard for each split."""

    parts: tuple[Part, ...]

    @property
    def bytes(self) -> int:
        """Bytes of input."""
        return sum(part.end - part.start for part in self.parts)


class PreparePlan(Record):
    """plan.json: everything that the dataset depends on; a unit's index is the number of its shards.

    Attributes:
        block_size: the window of the model whose tokenizer is used, so that longer conversations can be named.
    """

    settings: dict[str, str | int | float | bool | None]
    sources: tuple[InputFile, ...]
    units: tuple[Unit, ...]
    block_size: int | None = None

    @property
    def config(self) -> PrepareConfig:
        """The settings, validated."""
        unused = ("tokenization", "bpe_vocab_size") if self.settings.get("tokenizer_of") else ()
        return PrepareConfig.model_validate({n: v for n, v in self.settings.items() if n not in unused})

    @property
    def given(self) -> bool:
        """Whether the split was given with the inputs."""
        return any(source.split is not None for source in self.sources)

    @property
    def texts(self) -> int:
        """Number of inputs that are plain text."""
        return sum(source.form == "text" for source in self.sources)


class ChatNotes(Record):
    """What is told of the conversations of a unit once all are done.

    Attributes:
        left_out: how often each field was left out, because tokens do not say it.
        unlearned: conversations of which no token counts in the loss; `unlearned_at` is the first of them.
        longest: tokens of the longest, which is at `longest_at`.
        longer: conversations that no window of the model holds; `longer_at` are the first of them.
    """

    left_out: dict[str, int]
    unlearned: int
    unlearned_at: str | None
    longest: int
    longest_at: str | None
    longer: int
    longer_at: tuple[str, ...]


class UnitRecord(Record):
    """The shards of a finished unit, None for a split without tokens, and what is told of its conversations.

    Attributes:
        skipped_rows: rows that cannot be used and were left out; `skipped_first` are the first, with their faults.
    """

    train: ShardRecord | None
    val: ShardRecord | None
    chat: ChatNotes | None = None
    skipped_rows: int = 0
    skipped_first: tuple[str, ...] = ()


class HashRecord(Record):
    """The hash of an input."""

    sha256: str
