"""plan.json and the work records of `mypt prepare`, from which an interrupted call continues."""

from typing import Literal

from mypt.schema.base import Record
from mypt.schema.files.dataset import ShardRecord
from mypt.schema.settings.prepare import PrepareConfig

Form = Literal["text", "jsonl", "parquet"]


class InputFile(Record):
    """One input file: its absolute path, the form of its content once decompressed, its size and time on disk."""

    path: str
    form: Form
    gzipped: bool
    bytes: int
    mtime_ns: int


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
    """plan.json: everything that the dataset depends on; a unit's index is the number of its shards."""

    settings: dict[str, str | int | float | bool | None]
    sources: tuple[InputFile, ...]
    units: tuple[Unit, ...]

    @property
    def config(self) -> PrepareConfig:
        """The settings, validated."""
        unused = ("tokenization", "bpe_vocab_size") if self.settings.get("tokenizer_of") else ()
        return PrepareConfig.model_validate({n: v for n, v in self.settings.items() if n not in unused})


class UnitRecord(Record):
    """The shards of a finished unit; None for a split without tokens."""

    train: ShardRecord | None
    val: ShardRecord | None


class HashRecord(Record):
    """The hash of an input."""

    sha256: str
