"""dataset_metadata.json: describes a folder of token shards; see docs/files.md."""

from pathlib import PureWindowsPath
from typing import Annotated, Literal

from pydantic import AfterValidator

from mypt.schema.base import Record
from mypt.schema.files.state import SourceRecord
from mypt.schema.settings.data import TokenKind

METADATA_FILE = "dataset_metadata.json"
UNFINISHED = ".unfinished"
"""Folder inside a dataset for unfinished files and work records, until the dataset is complete."""


def _inside(file: str) -> str:
    path = PureWindowsPath(file)  # which takes both kinds of slashes
    if path.anchor or ".." in path.parts:
        raise ValueError(f"{file} is not inside the dataset's folder")
    return file


class ShardRecord(Record):
    """One file of token ids, without a header.

    Attributes:
        file: path relative to the dataset's folder, with forward slashes, such as `train/00003.bin`.
        documents: number of documents that end in it.
        mask_sha256: hash of its loss mask, `train/00003_mask.bin`, one byte per token; None without a mask.
        counted: number of tokens that count in the loss by the mask; None without one, and in earlier versions.
        longest: tokens of its longest conversation, without the separator; None as `counted`.
    """

    file: Annotated[str, AfterValidator(_inside)]
    tokens: int
    documents: int
    max_id: int
    sha256: str
    mask_sha256: str | None = None
    counted: int | None = None
    longest: int | None = None


class SplitRecord(Record):
    """One split, with its shards in reading order."""

    tokens: int
    documents: int
    shards: tuple[ShardRecord, ...]


class DatasetMetadata(Record):
    """The file, in field order. It has no timestamps, so that equal input gives an identical file.

    Attributes:
        format_version: version of this file and of the shards.
        dtype: dtype of the ids: uint16 if the vocabulary allows it, else uint32; little-endian.
        tokenization: kind of the tokenizer, which is in tokenizer.json next to this file.
        vocab_size: number of token ids, including special tokens.
        separator: id of the token after each document.
        masked: whether each shard has a loss mask.
        split: whether the hash of each document decides its split, or it was given with the inputs.
        val_share: fraction of the text, chosen by hash of its content, in the validation split; None if that was given.
        skipped_rows: rows of the inputs that could not be used and were left out.
    """

    format_version: Literal[1] = 1
    dtype: Literal["uint16", "uint32"]
    tokenization: TokenKind
    vocab_size: int
    separator: int
    masked: bool = False
    split: Literal["hash", "given"] = "hash"
    val_share: float | None
    skipped_rows: int = 0
    train: SplitRecord
    val: SplitRecord
    sources: tuple[SourceRecord, ...]
