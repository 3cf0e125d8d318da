"""Opens folders of token shards written by `mypt prepare`, nanoGPT (`train.bin`) or llm.c (with a header)."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from pydantic import BaseModel, ValidationError

from mypt.checkpoint.layout import LARGEST_BYTES, TOKENIZER_FILE
from mypt.checkpoint.pt.pickles import read_pickle
from mypt.data.tokens import Part, Tokens
from mypt.errors import InputError
from mypt.regular import expanded, open_regular
from mypt.schema.base import explain_validation
from mypt.schema.files.dataset import METADATA_FILE, DatasetMetadata, ShardRecord
from mypt.schema.files.tokenizer import GPT2_TOKENS, TokenizerFile
from mypt.schema.json_files import decode_json, read_bounded

Split = Literal["train", "val"]
Format = Literal["mypt", "plain", "llm.c"]
M = TypeVar("M", bound=BaseModel)

LLMC_MAGIC = 20240520
LLMC_HEADER_BYTES = 256 * 4
"""256 int32: magic number, version, number of tokens, and padding."""
NANOGPT_VOCABULARY = "meta.pkl"
LARGEST_VOCABULARY = 1 << 22
"""Bytes of a meta.pkl of 65,536 characters, which is as many as uint16 holds, several times over."""
LARGEST_METADATA = 1 << 28
"""Bytes of a JSON file of a dataset: about 300 for each shard."""
PROBE_BYTES = 1 << 16
MASK_SUFFIX = "_mask.bin"


@dataclass(frozen=True)
class ShardFile:
    """A file of token ids or of their loss mask, and its SHA-256 by the metadata; None without metadata."""

    path: Path
    sha256: str | None


@dataclass(frozen=True)
class Shards:
    """An open folder of memory-mapped shards.

    Attributes:
        tokenizer: tokenizer; GPT-2's if the folder does not specify one.
        fingerprint: SHA-256 of the hashes in the metadata; without metadata, of names, sizes and a sample.
        max_id: the largest id according to the metadata; None if unknown or a shard is newer than the metadata.
        metadata: dataset_metadata.json; None for nanoGPT and llm.c.
        files: the shards and masks that were opened, in reading order.
        sample: SHA-256 of the names, the sizes and a sample of these files.
        described_by: the files that say what the ids mean.
    """

    folder: Path
    format: Format
    tokenizer: TokenizerFile
    splits: dict[Split, Tokens]
    fingerprint: str
    max_id: int | None
    metadata: DatasetMetadata | None
    files: tuple[ShardFile, ...]
    sample: str
    described_by: tuple[Path, ...]


def open_shards(path: str | Path, *, eval_only: bool = False) -> Shards:
    """Open a folder of shards, or only its validation split.

    Raises:
        InputError: the folder does not exist or has no shards, or a file in it is damaged.
    """
    folder = expanded(path).absolute()
    if not folder.is_dir():
        raise InputError(
            f"The dataset folder {path} does not exist.", f"Make it with `mypt prepare INPUT... --out {path}`."
        )
    wanted: tuple[Split, ...] = ("val",) if eval_only else ("train", "val")
    try:
        opened = _open_mypt(folder, wanted) if (folder / METADATA_FILE).is_file() else _open_plain(folder, wanted)
    except OSError as error:
        raise InputError(
            f"{error.filename or folder} cannot be read: {error.strerror or error}.",
            "Give a folder whose shards are files that you may read.",
        ) from error
    empty = [split for split in wanted if not len(opened.splits[split])]
    if empty:
        raise InputError(
            f"The dataset folder {path} has no tokens for {' and '.join(empty)}.",
            "Make it with `mypt prepare`, or put files like train.bin and val.bin there.",
        )
    return opened


def read_dataset_tokenizer(folder: Path) -> TokenizerFile:
    """Read tokenizer.json of a dataset; raises as `read_dataset_file`."""
    return read_dataset_file(folder / TOKENIZER_FILE, TokenizerFile)


def read_dataset_file(path: Path, model: type[M]) -> M:
    """Read a JSON file of a dataset as a model.

    Raises:
        InputError: it is missing or damaged.
    """
    try:
        return model.model_validate(decode_json(read_bounded(path, LARGEST_BYTES.get(path.name, LARGEST_METADATA))))
    except (ValueError, OSError) as error:
        raise InputError(f"{path} cannot be read: {_reason(error)}.", "Make the dataset again.") from error


def mask_path(shard: Path) -> Path:
    """Path of the loss mask of a shard."""
    return shard.with_name(shard.stem + MASK_SUFFIX)


def _open_mypt(folder: Path, wanted: tuple[Split, ...]) -> Shards:
    metadata, tokenizer = read_dataset_file(folder / METADATA_FILE, DatasetMetadata), read_dataset_tokenizer(folder)
    records = {"train": metadata.train.shards, "val": metadata.val.shards}
    dtype = np.dtype(metadata.dtype).newbyteorder("<")
    splits: dict[Split, Tokens] = {s: Tokens([_mypt_part(folder, r, dtype) for r in records[s]]) for s in wanted}
    shards = [r for s in wanted for r in records[s]]
    files = [file for r in shards for file in _files(folder, r)]
    content = json.dumps([tokenizer.meaning(), [[r.file, r.sha256, r.mask_sha256] for r in shards]])
    return Shards(
        folder=folder,
        format="mypt",
        tokenizer=tokenizer,
        splits=splits,
        fingerprint=hashlib.sha256(content.encode("utf-8")).hexdigest(),
        max_id=max((r.max_id for r in shards), default=0) if _unchanged(folder, shards) else None,
        metadata=metadata,
        files=tuple(files),
        sample=_sample(folder, [file.path for file in files]),
        described_by=(folder / METADATA_FILE, folder / TOKENIZER_FILE),
    )


def _files(folder: Path, record: ShardRecord) -> Iterator[ShardFile]:
    yield ShardFile(folder / record.file, record.sha256)
    if record.mask_sha256:
        yield ShardFile(mask_path(folder / record.file), record.mask_sha256)


def _unchanged(folder: Path, shards: list[ShardRecord]) -> bool:
    """True if no shard is newer than the metadata, which are written last; else the ids must be checked."""
    written = (folder / METADATA_FILE).stat().st_mtime_ns
    return all((folder / r.file).stat().st_mtime_ns <= written for r in shards)


def _mypt_part(folder: Path, record: ShardRecord, dtype: np.dtype[Any]) -> Part:
    path = folder / record.file
    ids = _map(path, dtype, record.tokens)
    mask = _map(mask_path(path), np.dtype(np.uint8), record.tokens) if record.mask_sha256 else None
    return Part(str(path), ids, mask)


def _open_plain(folder: Path, wanted: tuple[Split, ...]) -> Shards:
    """Open every .bin file with `train` or `val` in its relative path, with or without llm.c's header."""
    files = sorted(p for p in folder.rglob("*.bin") if not p.name.endswith(MASK_SUFFIX))
    paths = {s: [p for p in files if s in p.relative_to(folder).as_posix().lower()] for s in wanted}
    splits: dict[Split, Tokens] = {s: Tokens([_plain_part(p) for p in paths[s]]) for s in wanted}
    used = [p for s in wanted for p in paths[s]]
    sample, vocabulary = _sample(folder, used), folder / NANOGPT_VOCABULARY
    return Shards(
        folder=folder,
        format="llm.c" if used and _llmc_tokens(used[0]) is not None else "plain",
        tokenizer=_nanogpt_tokenizer(folder),
        splits=splits,
        fingerprint=sample,
        max_id=None,
        metadata=None,
        files=tuple(ShardFile(path, None) for path in used),
        sample=sample,
        described_by=(vocabulary,) if vocabulary.is_file() else (),
    )


def _plain_part(path: Path) -> Part:
    tokens, header = _llmc_tokens(path), LLMC_HEADER_BYTES
    if tokens is None:
        tokens, header = path.stat().st_size // 2, 0
    return Part(str(path), _map(path, np.dtype("<u2"), tokens, header))


def _llmc_tokens(path: Path) -> int | None:
    """Number of tokens according to llm.c's header; None without such a header."""
    with open_regular(path) as file:
        start = file.read(12)
    head = np.frombuffer(start, dtype="<i4") if len(start) == 12 else (0, 0, 0)
    return int(head[2]) if head[0] == LLMC_MAGIC else None


def _map(path: Path, dtype: np.dtype[Any], tokens: int, header: int = 0) -> Any:
    if not path.is_file():
        raise InputError(f"The shard {path} is missing.", "Copy the whole dataset again.")
    size, needed = path.stat().st_size, header + tokens * dtype.itemsize
    if size != needed:
        raise InputError(
            f"The shard {path} is not whole: it has {size:,} bytes and {tokens:,} tokens need {needed:,}.",
            "Copy it again, or make the dataset again.",
        )
    if not tokens:
        return np.empty(0, dtype)
    return np.memmap(path, dtype=dtype, mode="r", offset=header, shape=(tokens,)).view(np.ndarray)


def _nanogpt_tokenizer(folder: Path) -> TokenizerFile:
    """The vocabulary in nanoGPT's meta.pkl, or GPT-2's if the folder has none."""
    path = folder / NANOGPT_VOCABULARY
    if not (path.exists() or path.is_symlink()):
        return TokenizerFile(token_kind="gpt2", vocab_size=GPT2_TOKENS)
    try:
        content = read_pickle(read_bounded(path, LARGEST_VOCABULARY))
        itos = content["itos"]
        chars = tuple(str(itos[i]) for i in range(len(itos)))
        return TokenizerFile(token_kind="char", vocab_size=len(chars), chars=chars)
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise InputError(
            f"{path} does not contain a character vocabulary: {_reason(error)}.",
            "Remove it if the ids are those of GPT-2, or make the dataset again with `mypt prepare`.",
        ) from error


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return " ".join(explain_validation(error)).rstrip(".")
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _sample(folder: Path, files: list[Path]) -> str:
    """Hash names, sizes and the first, middle and last 64 KiB of each file, which is fast even for terabytes."""
    digest = hashlib.sha256()
    for path in files:
        size = path.stat().st_size
        digest.update(f"{path.relative_to(folder).as_posix()} {size}\n".encode())
        with open_regular(path) as file:
            for start in (0, max(0, size // 2 - PROBE_BYTES // 2), max(0, size - PROBE_BYTES)):
                file.seek(start)
                digest.update(file.read(PROBE_BYTES))
    return digest.hexdigest()
