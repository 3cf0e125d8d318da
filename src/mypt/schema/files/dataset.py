"""dataset_metadata.json: what a folder of token shards holds."""

from typing import Literal

from mypt.schema.base import Record
from mypt.schema.files.state import SourceRecord
from mypt.schema.files.tokenizer import Tokenization

METADATA_FILE = "dataset_metadata.json"


class ShardRecord(Record):
    """One file of token ids, without a header.

    Attributes:
        file: path inside the dataset's folder, with forward slashes, such as `train/00003.bin`.
        tokens: ids in it.
        documents: documents that end in it.
        max_id: the largest id in it.
        sha256: hash of the file.
        mask_sha256: hash of its mask, `train/00003_mask.bin`, one byte a token; None where there is none.
    """

    file: str
    tokens: int
    documents: int
    max_id: int
    sha256: str
    mask_sha256: str | None = None


class SplitRecord(Record):
    """One split: its shards in the order in which they are read."""

    tokens: int
    documents: int
    shards: tuple[ShardRecord, ...]


class DatasetMetadata(Record):
    """The whole file, in the order in which it is written. Equal input gives equal bytes: no time of day is in it.

    Attributes:
        format_version: of this file and of the shards.
        dtype: of the ids: uint16 where the vocabulary allows it, else uint32; little-endian.
        tokenization: kind of the tokenizer, which lies beside as tokenizer.json.
        vocab_size: ids that the tokenizer knows, special ones included.
        separator: id of the token after each document.
        masked: whether each shard has a mask that says which tokens count in the loss.
        val_share: share of the documents, by hash, that went to the validation split.
        train: the training split.
        val: the validation split.
        sources: the inputs, in order.
    """

    format_version: Literal[1] = 1
    dtype: Literal["uint16", "uint32"]
    tokenization: Tokenization
    vocab_size: int
    separator: int
    masked: bool = False
    val_share: float
    train: SplitRecord
    val: SplitRecord
    sources: tuple[SourceRecord, ...]
