"""Opens folders of token shards written by `mypt prepare`, nanoGPT (`train.bin`) or llm.c (with a header)."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from pydantic import BaseModel, ValidationError

from mypt.checkpoint.layout import LARGEST_BYTES, TOKENIZER_FILE
from mypt.checkpoint.pt.pickles import read_pickle
from mypt.data.formats.headers import Layout
from mypt.data.formats.layouts import layouts_of
from mypt.data.formats.names import MASK_SUFFIX, NANOGPT_VOCABULARY, LeftOut, find_shards, told
from mypt.data.formats.widths import PROBE_BYTES
from mypt.data.tokens import Part, Split, Tokens
from mypt.errors import InputError
from mypt.regular import expanded, open_regular
from mypt.schema.base import explain_validation
from mypt.schema.files.dataset import METADATA_FILE, UNFINISHED, DatasetMetadata, ShardRecord
from mypt.schema.files.tokenizer import GPT2_TOKENS, TokenizerFile
from mypt.schema.json_files import decode_json, read_bounded

Format = Literal["mypt", "plain", "llm.c"]
M = TypeVar("M", bound=BaseModel)

LARGEST_VOCABULARY = 1 << 22
"""Bytes of a meta.pkl of 65,536 characters, which is as many as uint16 holds, several times over."""
LARGEST_METADATA = 1 << 28
"""Bytes of a JSON file of a dataset: about 300 for each shard."""
GPT2 = TokenizerFile(token_kind="gpt2", vocab_size=GPT2_TOKENS)


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
        left_out: files that could hold tokens and are not read.
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
    left_out: tuple[LeftOut, ...] = ()


def open_shards(path: str | Path, *, eval_only: bool = False, to_look: bool = False) -> Shards:
    """Open a folder of shards, or only its validation split.

    Args:
        path: of the folder.
        eval_only: open the validation split alone.
        to_look: nothing is trained or measured, so that one of the splits may be empty.

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
        opened = _open_mypt(folder, wanted) if described(folder) else _open_plain(folder, wanted)
    except OSError as error:
        raise InputError(
            f"{error.filename or folder} cannot be read: {error.strerror or error}.",
            "Give a folder whose shards are files that you may read.",
        ) from error
    empty = [split for split in wanted if not len(opened.splits[split])]
    if empty and not (to_look and len(empty) < len(wanted)):
        raise _without(opened, path, empty)
    return opened


def _without(shards: Shards, path: str | Path, empty: list[Split]) -> InputError:
    """The error for splits that have no tokens."""
    share = {"train": "below 1", "val": "above 0"}
    return InputError(
        f"The dataset folder {path} has no tokens for {' and '.join(empty)}.",
        f"Make it again by `mypt prepare` with a --val-share {' and '.join(share[split] for split in empty)}."
        if shards.metadata
        else f"Make it with `mypt prepare`, or put files there such as {' and '.join(f'{s}.bin' for s in empty)}.",
        [line] if (line := told(shards.folder, shards.left_out)) else [],
    )


def tokenizer_of(path: str | Path) -> TokenizerFile:
    """What the ids of a folder of shards mean, by their metadata if there are any; raises as `open_shards`."""
    folder = expanded(path).absolute()
    return read_dataset_tokenizer(folder) if described(folder) else open_shards(path).tokenizer


def described(folder: Path) -> bool:
    """Whether metadata say what the shards of a folder are, as `mypt prepare` leaves them."""
    return (folder / METADATA_FILE).is_file()


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
    return Part(str(path), ids, mask, record.counted, record.longest, record.documents)


def _open_plain(folder: Path, wanted: tuple[Split, ...]) -> Shards:
    """Open the `.bin` files of a folder without metadata, with or without llm.c's header."""
    _refuse_without_metadata(folder)
    found, vocabulary = find_shards(folder), folder / NANOGPT_VOCABULARY
    used = [p for s in wanted for p in found.splits[s]]
    own = _nanogpt_tokenizer(vocabulary)
    layouts = layouts_of(folder, used, (own or GPT2).vocab_size)
    parts = {path: Part(str(path), _map(path, at.dtype, at.tokens, at.header)) for path, at in layouts.items()}
    splits: dict[Split, Tokens] = {s: Tokens([parts[p] for p in found.splits[s]]) for s in wanted}
    sample = _sample(folder, used)
    return Shards(
        folder=folder,
        format="llm.c" if used and layouts[used[0]].header else "plain",
        tokenizer=_one_vocabulary(folder, own, layouts),
        splits=splits,
        fingerprint=sample,
        max_id=None,
        metadata=None,
        files=tuple(ShardFile(path, None) for path in used),
        sample=sample,
        described_by=(vocabulary,) if vocabulary.is_file() else (),
        left_out=tuple(found.left_out),
    )


def _refuse_without_metadata(folder: Path) -> None:
    """Refuse what `mypt prepare` has not finished, or a dataset of its that lost what says what its ids mean."""
    if (folder / UNFINISHED).is_dir():
        raise InputError(
            f"The dataset in {folder} is not finished.", "Call `mypt prepare` again as it was called; it goes on."
        )
    if (folder / TOKENIZER_FILE).is_file():
        raise InputError(
            f"The folder {folder} has a {TOKENIZER_FILE} but no {METADATA_FILE}, so what its ids mean is not known.",
            "Copy the whole dataset again, or make it again with `mypt prepare`.",
        )


def _one_vocabulary(folder: Path, own: TokenizerFile | None, layouts: Mapping[Path, Layout]) -> TokenizerFile:
    """What all ids of a folder mean: as meta.pkl says, as the headers say, or GPT-2's."""
    stated = {path: at.vocabulary or GPT2 for path, at in layouts.items()}
    kinds = {vocabulary.token_kind: path for path, vocabulary in stated.items()}
    if "ids" in kinds and (own or len(kinds) > 1):
        other = folder / NANOGPT_VOCABULARY if own else kinds["gpt2"]
        raise InputError(
            f"The ids in {folder} are of two vocabularies: {kinds['ids']} has Llama 3's, and {other} says otherwise.",
            "Keep those of one vocabulary in a folder of their own.",
        )
    return own or next(iter(stated.values()), GPT2)


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


def _nanogpt_tokenizer(path: Path) -> TokenizerFile | None:
    """The vocabulary in nanoGPT's meta.pkl; None if there is none."""
    if not (path.exists() or path.is_symlink()):
        return None
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
