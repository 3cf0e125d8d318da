"""Opens folders of token shards: those that `mypt prepare` makes, nanoGPT's `train.bin`, and llm.c's with a header."""

import hashlib
import json
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import ValidationError

from mypt.checkpoint.layout import TOKENIZER_FILE
from mypt.data.tokens import Part, Tokens
from mypt.errors import InputError
from mypt.schema.files.dataset import METADATA_FILE, DatasetMetadata, ShardRecord
from mypt.schema.files.tokenizer import GPT2_TOKENS, TokenizerFile

Split = Literal["train", "val"]
Format = Literal["mypt", "plain", "llm.c"]

LLMC_MAGIC = 20240520
LLMC_HEADER_BYTES = 256 * 4
"""256 int32, of which the first is the magic number, the second the version and the third the count of tokens."""
NANOGPT_VOCABULARY = "meta.pkl"
PROBE_BYTES = 1 << 16
MASK_SUFFIX = "_mask.bin"


@dataclass(frozen=True)
class Shards:
    """A folder of shards, opened: nothing of them is in memory until it is read.

    Attributes:
        folder: where they are.
        format: how they are written.
        tokenizer: what the ids mean; GPT-2's vocabulary where the folder does not say.
        splits: the tokens of each split.
        fingerprint: SHA-256 over the hashes in the metadata; for formats without, over names, sizes and a sample.
        max_id: the largest id, if the metadata tell and no shard is newer than they are.
        metadata: the folder's own description; None for the formats of others.
    """

    folder: Path
    format: Format
    tokenizer: TokenizerFile
    splits: dict[Split, Tokens]
    fingerprint: str
    max_id: int | None
    metadata: DatasetMetadata | None


def open_shards(path: str | Path, *, eval_only: bool = False) -> Shards:
    """Open a folder of shards.

    Args:
        path: the folder.
        eval_only: open the validation split alone.

    Raises:
        InputError: there is no such folder, no shard in it, or one is not whole.
    """
    folder = Path(path).expanduser().absolute()
    if not folder.is_dir():
        raise InputError(
            f"The dataset folder {path} does not exist.", f"Make it with `mypt prepare INPUT... --out {path}`."
        )
    wanted: tuple[Split, ...] = ("val",) if eval_only else ("train", "val")
    opened = _open_own(folder, wanted) if (folder / METADATA_FILE).is_file() else _open_foreign(folder, wanted)
    empty = [split for split in wanted if not len(opened.splits[split])]
    if empty:
        raise InputError(
            f"The dataset folder {path} has no tokens for {' and '.join(empty)}.",
            "Make it with `mypt prepare`, or put files like train.bin and val.bin there.",
        )
    return opened


def read_metadata(folder: Path) -> DatasetMetadata:
    """The description that `mypt prepare` left in a folder.

    Raises:
        InputError: it is damaged.
    """
    path = folder / METADATA_FILE
    try:
        return DatasetMetadata.model_validate_json(path.read_bytes())
    except (ValidationError, OSError) as error:
        raise InputError(
            f"{path} cannot be understood: {str(error).splitlines()[0]}.", "Make the dataset anew with `mypt prepare`."
        ) from error


def mask_path(shard: Path) -> Path:
    """Where the mask of a shard lies."""
    return shard.with_name(shard.stem + MASK_SUFFIX)


def _open_own(folder: Path, wanted: tuple[Split, ...]) -> Shards:
    metadata = read_metadata(folder)
    tokenizer_path = folder / TOKENIZER_FILE
    try:
        tokenizer = TokenizerFile.model_validate_json(tokenizer_path.read_bytes())
    except (ValidationError, OSError) as error:
        raise InputError(
            f"{tokenizer_path} cannot be read: {str(error).splitlines()[0]}.",
            "Make the dataset anew with `mypt prepare`.",
        ) from error
    records = {"train": metadata.train.shards, "val": metadata.val.shards}
    dtype = np.dtype(metadata.dtype).newbyteorder("<")
    splits: dict[Split, Tokens] = {s: Tokens([_own_part(folder, r, dtype) for r in records[s]]) for s in wanted}
    shards = [r for s in wanted for r in records[s]]
    untouched = _untouched(folder, shards)
    content = json.dumps([tokenizer.model_dump(), [[r.file, r.sha256, r.mask_sha256] for r in shards]])
    return Shards(
        folder=folder,
        format="mypt",
        tokenizer=tokenizer,
        splits=splits,
        fingerprint=hashlib.sha256(content.encode("utf-8")).hexdigest(),
        max_id=max((r.max_id for r in shards), default=0) if untouched else None,
        metadata=metadata,
    )


def _untouched(folder: Path, shards: list[ShardRecord]) -> bool:
    """Whether no shard was written after the metadata, which come last; else what they say has to be looked at."""
    made = (folder / METADATA_FILE).stat().st_mtime_ns
    return all((folder / r.file).stat().st_mtime_ns <= made for r in shards)


def _own_part(folder: Path, record: ShardRecord, dtype: np.dtype[Any]) -> Part:
    path = folder / record.file
    ids = _map(path, dtype, record.tokens)
    mask = _map(mask_path(path), np.dtype(np.uint8), record.tokens) if record.mask_sha256 else None
    return Part(str(path), ids, mask)


def _open_foreign(folder: Path, wanted: tuple[Split, ...]) -> Shards:
    """Every .bin file whose name or folder says `train` or `val`, with llm.c's header or without any."""
    files = sorted(p for p in folder.rglob("*.bin") if not p.name.endswith(MASK_SUFFIX))
    named = {s: [p for p in files if s in p.relative_to(folder).as_posix().lower()] for s in wanted}
    splits: dict[Split, Tokens] = {s: Tokens([_foreign_part(p) for p in named[s]]) for s in wanted}
    used = [p for s in wanted for p in named[s]]
    return Shards(
        folder=folder,
        format="llm.c" if used and _llmc_tokens(used[0]) is not None else "plain",
        tokenizer=_nanogpt_tokenizer(folder),
        splits=splits,
        fingerprint=_sampled_fingerprint(folder, used),
        max_id=None,
        metadata=None,
    )


def _foreign_part(path: Path) -> Part:
    tokens, header = _llmc_tokens(path), LLMC_HEADER_BYTES
    if tokens is None:
        tokens, header = path.stat().st_size // 2, 0
    return Part(str(path), _map(path, np.dtype("<u2"), tokens, header))


def _llmc_tokens(path: Path) -> int | None:
    """The count of tokens in llm.c's header; None where the file has no such header."""
    with path.open("rb") as file:
        head = np.frombuffer(file.read(12), dtype="<i4")
    return int(head[2]) if len(head) == 3 and head[0] == LLMC_MAGIC else None


def _map(path: Path, dtype: np.dtype[Any], tokens: int, header: int = 0) -> Any:
    if not path.is_file():
        raise InputError(f"The shard {path} is missing.", "Copy the whole dataset again.")
    there, needed = path.stat().st_size, header + tokens * dtype.itemsize
    if there != needed:
        raise InputError(
            f"The shard {path} is not whole: it has {there:,} bytes and {tokens:,} tokens need {needed:,}.",
            "Copy it again, or make the dataset anew.",
        )
    if not tokens:
        return np.empty(0, dtype)
    return np.memmap(path, dtype=dtype, mode="r", offset=header, shape=(tokens,)).view(np.ndarray)


def _nanogpt_tokenizer(folder: Path) -> TokenizerFile:
    """The characters of nanoGPT's meta.pkl where it lies beside the shards, else GPT-2's vocabulary."""
    path = folder / NANOGPT_VOCABULARY
    if not path.is_file():
        return TokenizerFile(token_kind="gpt2", vocab_size=GPT2_TOKENS)
    try:
        with path.open("rb") as file:
            names = _PlainUnpickler(file).load()["itos"]
        chars = tuple(str(names[i]) for i in range(len(names)))
        return TokenizerFile(token_kind="char", vocab_size=len(chars), chars=chars)
    except Exception as error:  # a pickle can be wrong in any way
        raise InputError(
            f"{path} does not hold the characters of a vocabulary: {error}.",
            "Remove it if the ids are those of GPT-2, or make the dataset anew with `mypt prepare`.",
        ) from error


class _PlainUnpickler(pickle.Unpickler):
    """Reads dictionaries of numbers and text, and nothing that could run code."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        raise pickle.UnpicklingError(f"it refers to {module_name}.{global_name}")


def _sampled_fingerprint(folder: Path, files: list[Path]) -> str:
    """Hash of names, sizes, and the first, middle and last 64 KiB of each file, so that terabytes take a blink."""
    digest = hashlib.sha256()
    for path in files:
        size = path.stat().st_size
        digest.update(f"{path.relative_to(folder).as_posix()} {size}\n".encode())
        with path.open("rb") as file:
            for start in (0, max(0, size // 2 - PROBE_BYTES // 2), max(0, size - PROBE_BYTES)):
                file.seek(start)
                digest.update(file.read(PROBE_BYTES))
    return digest.hexdigest()
