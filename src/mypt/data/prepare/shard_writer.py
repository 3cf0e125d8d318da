"""Tokenizes a unit of work into one shard for each split."""

import hashlib
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mypt.checkpoint.atomic import commit_file
from mypt.data.chat import plain, render
from mypt.data.prepare.chat_notes import NoteTaker
from mypt.data.prepare.documents import Piece, SkippedRows, read_pieces
from mypt.data.tokenizer import Tokenizer
from mypt.errors import InputError
from mypt.schema.files.dataset import UNFINISHED, ShardRecord
from mypt.schema.files.prepare_plan import InputFile, Part, PreparePlan, UnitRecord
from mypt.schema.files.tokenizer import END_OF_TEXT

Ids = npt.NDArray[Any]
"""Token ids, or a loss mask with one byte per token."""

BUFFER_TOKENS = 2**18
PROGRESS_CHARACTERS = 2**16
"""Progress is reported at this interval."""


@dataclass(frozen=True)
class WorkerContext:
    """Everything that a worker needs; `on_progress` takes the number of characters done since its last call."""

    out: Path
    plan: PreparePlan
    tokenizer: Tokenizer
    on_progress: Callable[[int], None]


def write_unit(context: WorkerContext, number: int) -> UnitRecord:
    """Tokenize one unit and write its shards.

    Raises:
        InputError: an input is unusable.
    """
    notes = NoteTaker(context.plan.block_size) if context.plan.config.chat else None
    skipped = SkippedRows()
    with closing(_Shard(context, "train", number)) as train, closing(_Shard(context, "val", number)) as val:
        for part in context.plan.units[number].parts:
            pieces = read_pieces(context.plan, part, skipped)
            _write_part(context, part, pieces, train, val, skipped, notes)
        return UnitRecord(
            train=train.finish(), val=val.finish(), chat=notes.record() if notes else None,
            skipped_rows=skipped.count, skipped_first=tuple(skipped.first),
        )  # fmt: skip


def in_val(piece: Piece, val_share: float) -> bool:
    """Whether a piece belongs to the validation split; depends only on its content, not on other inputs."""
    content = piece.text if piece.talk is None else plain(piece.talk.messages)
    digest = hashlib.blake2b(content.encode("utf-8"), digest_size=8).digest()
    return int.from_bytes(digest, "big") < val_share * 2**64


def _write_part(
    context: WorkerContext, part: Part, pieces: Iterable[Piece], train: "_Shard", val: "_Shard", skipped: SkippedRows,
    notes: NoteTaker | None,
) -> None:  # fmt: skip
    """Write each piece to its split, with a separator where a document ends or continues in the other split."""
    source, config = context.plan.sources[part.source], context.plan.config
    current: _Shard | None = None
    characters = 0
    for piece in pieces:
        characters += sum(map(len, piece.texts))
        if characters > PROGRESS_CHARACTERS and source.divisible:  # else its size says nothing about the text
            context.on_progress(characters)
            characters = 0
        if piece.text or piece.talk:
            encoded = _encoded(context, source, piece, skipped)
            if encoded is None:
                continue
            to_val = in_val(piece, config.val_share) if source.split is None else source.split == "val"
            shard = val if to_val else train
            if current is not None and current is not shard:
                current.separate()
            current = shard
            _add(shard, piece, *encoded, notes)
        if piece.ends and current is not None:
            current.separate()
            current.documents += 1
            current = None


def _encoded(
    context: WorkerContext, source: InputFile, piece: Piece, skipped: SkippedRows
) -> tuple[Ids, Ids | None] | None:
    """The ids of a piece and, of a conversation, its mask; None if it cannot be encoded, and such rows are left out.

    Raises:
        InputError: it cannot be encoded.
    """
    try:
        if piece.talk is None:
            return context.tokenizer.encode(piece.text), None
        return render(piece.talk.messages, context.tokenizer)
    except InputError as error:
        fault, rows = f"{piece.location}: {error.what}", source.form != "text"
        if rows and context.plan.config.skip_bad_rows:
            skipped.note(fault)
            return None
        todo = f"{error.todo.removesuffix('.')}, or leave such rows out by --skip-bad-rows." if rows else error.todo
        raise InputError(fault, todo) from error


def _add(shard: "_Shard", piece: Piece, ids: Ids, mask: Ids | None, notes: NoteTaker | None) -> None:
    shard.add(ids, mask)
    if piece.talk is not None and mask is not None and notes is not None:
        shard.longest = max(shard.longest, len(ids))
        notes.note(piece.location, len(ids), int(mask.sum()), piece.talk.left_out)


class _Shard:
    """The unfinished shard of one split, with its mask if the dataset has masks."""

    def __init__(self, context: WorkerContext, split: str, number: int) -> None:
        file = context.tokenizer.file
        self._name = f"{split}/{number:05}"
        self._dtype = np.dtype(file.dtype).newbyteorder("<")
        self._separator = np.array([file.special_ids[END_OF_TEXT]], dtype=self._dtype)
        self._ids = _UnfinishedFile(context.out, f"{self._name}.bin")
        self._mask = _UnfinishedFile(context.out, f"{self._name}_mask.bin") if context.plan.config.chat else None
        self._buffer: list[Ids] = []
        self._buffered_tokens = 0
        self.tokens, self.documents, self.max_id, self.counted, self.longest = 0, 0, 0, 0, 0

    def add(self, ids: Ids, mask: Ids | None = None) -> None:
        """Append tokens. In a dataset with masks, tokens without a mask do not count in the loss."""
        self._buffer.append(ids)
        self._buffered_tokens += len(ids)
        if self._mask is not None:
            mask = np.zeros(len(ids), dtype=np.uint8) if mask is None else mask
            self._mask.write(mask)
            self.counted += int(mask.sum())
        if self._buffered_tokens >= BUFFER_TOKENS:
            self._flush()

    def separate(self) -> None:
        """Append the separator token."""
        self.add(self._separator)

    def finish(self) -> ShardRecord | None:
        """Move the shard to its final path; returns None, without a file, if it has no tokens."""
        self._flush()
        if not self.tokens:
            return None
        return ShardRecord(
            file=f"{self._name}.bin", tokens=self.tokens, documents=self.documents, max_id=self.max_id,
            mask_sha256=self._mask.finish() if self._mask else None, sha256=self._ids.finish(),
            counted=self.counted if self._mask else None, longest=self.longest if self._mask else None,
        )  # fmt: skip

    def close(self) -> None:
        """Remove unfinished files."""
        for file in (self._ids, self._mask):
            if file is not None:
                file.close()

    def _flush(self) -> None:
        if self._buffered_tokens:
            ids = np.concatenate(self._buffer).astype(self._dtype, copy=False)
            self._ids.write(ids)
            self.tokens += len(ids)
            self.max_id = max(self.max_id, int(ids.max()))
            self._buffer, self._buffered_tokens = [], 0


class _UnfinishedFile:
    """A file that is hashed while it is written and moved to its final path when finished."""

    def __init__(self, out: Path, name: str) -> None:
        self._target = out / name
        self._path = out / UNFINISHED / name.replace("/", "_")
        self._path.unlink(missing_ok=True)
        self._file = self._path.open("xb")  # which follows no link
        self._hash = hashlib.sha256()

    def write(self, content: Ids) -> None:
        self._file.write(content.data)
        self._hash.update(content.data)

    def finish(self) -> str:
        self._file.close()
        commit_file(self._path, self._target)
        return self._hash.hexdigest()

    def close(self) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)
