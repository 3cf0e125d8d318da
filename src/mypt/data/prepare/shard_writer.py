"""From a unit of work to one shard of token ids for each split."""

import hashlib
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mypt.checkpoint.atomic import commit_file
from mypt.data.prepare.documents import Piece, Turn, read_pieces
from mypt.data.tokenizer import Tokenizer
from mypt.errors import InputError
from mypt.schema.files.dataset import ShardRecord
from mypt.schema.files.tokenizer import END_OF_TEXT
from mypt.schema.settings.prepare import Part, PreparePlan, UnitRecord

Ids = npt.NDArray[Any]
"""Of either type; or a mask, one byte a token."""

UNFINISHED = ".unfinished"
"""The folder inside a dataset's own in which everything is written until it is finished."""
BUFFER_TOKENS = 2**18
ADVANCE_CHARACTERS = 2**16


@dataclass(frozen=True)
class Workshop:
    """All that a worker needs.

    Attributes:
        out: the dataset's folder.
        plan: the work.
        tokenizer: of the dataset.
        advance: told, about a thousand times a unit, how many characters more are done.
    """

    out: Path
    plan: PreparePlan
    tokenizer: Tokenizer
    advance: Callable[[int], None]


def dtype_of(vocab_size: int) -> np.dtype[Any]:
    """The smallest type on disk that holds every id; little-endian."""
    return np.dtype("<u2") if vocab_size <= 2**16 else np.dtype("<u4")


def write_unit(shop: Workshop, number: int) -> UnitRecord:
    """Tokenize one unit; its shards have their names when this returns.

    Raises:
        InputError: something in the inputs is unusable.
    """
    with closing(_Shard(shop, "train", number)) as train, closing(_Shard(shop, "val", number)) as val:
        for part in shop.plan.units[number].parts:
            _write_part(shop, part, train, val)
        return UnitRecord(train=train.finish(), val=val.finish())


def in_val(piece: Piece, val_share: float) -> bool:
    """Whether a piece is for validation: a matter of its content alone, so that no other piece ever moves it."""
    content = "".join(f"<|{turn.role}|>{turn.text}" if turn.role else turn.text for turn in piece.turns)
    digest = hashlib.blake2b(content.encode("utf-8"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64 < val_share


def _write_part(shop: Workshop, part: Part, train: "_Shard", val: "_Shard") -> None:
    """Each piece to its split; a separator where a document ends, or goes on in the other split."""
    source, config = shop.plan.sources[part.source], shop.plan.config
    whole = source.gzipped or source.form == "parquet"  # their sizes on disk say nothing of the text
    at: _Shard | None = None
    characters = 0
    for piece in read_pieces(source, part, config):
        characters += sum(len(turn.text) for turn in piece.turns)
        if characters > ADVANCE_CHARACTERS and not whole:
            shop.advance(characters)
            characters = 0
        if any(turn.text or turn.role for turn in piece.turns):
            split = val if in_val(piece, config.val_share) else train
            if at is not None and at is not split:
                at.separate()
            at = split
            _add(split, shop.tokenizer, piece)
        if piece.ends and at is not None:
            at.separate()
            at.documents += 1
            at = None


def _add(split: "_Shard", tokenizer: Tokenizer, piece: Piece) -> None:
    try:
        for turn in piece.turns:
            if turn.role is None:
                split.add(tokenizer.encode(turn.text))
            else:
                split.add(*_said(tokenizer, turn))
    except InputError as error:
        raise InputError(f"{piece.place}: {error.what}", error.todo) from error


def _said(tokenizer: Tokenizer, turn: Turn) -> tuple[Ids, Ids]:
    """A message between its role's token and the end's; the assistant's text and end are what is learned."""
    special = tokenizer.file.special_ids
    text = tokenizer.encode(turn.text)
    ids = np.concatenate(([special[f"<|{turn.role}|>"]], text, [special["<|end|>"]])).astype(text.dtype)
    mask = np.full(len(ids), turn.role == "assistant", dtype=np.uint8)
    mask[0] = 0
    return ids, mask


class _Shard:
    """The shard of one split as it grows, aside, and its mask where there is one."""

    def __init__(self, shop: Workshop, split: str, number: int) -> None:
        file = shop.tokenizer.file
        self._out, self._name = shop.out, f"{split}/{number:05}"
        self._dtype = dtype_of(file.vocab_size)
        self._separator = np.array([file.special_ids[END_OF_TEXT]], dtype=self._dtype)
        self._ids = _Aside(shop.out, f"{self._name}.bin")
        self._mask = _Aside(shop.out, f"{self._name}_mask.bin") if shop.plan.config.chat else None
        self._waiting: list[Ids] = []
        self._waiting_tokens = 0
        self.tokens, self.documents, self.max_id = 0, 0, 0

    def add(self, ids: Ids, mask: Ids | None = None) -> None:
        """Append tokens; without a mask of their own none of them counts, where there are masks at all."""
        self._waiting.append(ids)
        self._waiting_tokens += len(ids)
        if self._mask is not None:
            self._mask.write(np.zeros(len(ids), dtype=np.uint8) if mask is None else mask)
        if self._waiting_tokens >= BUFFER_TOKENS:
            self._write()

    def separate(self) -> None:
        """Append the token that stands between documents."""
        self.add(self._separator)

    def finish(self) -> ShardRecord | None:
        """Give the shard its name; None, and no file, where it has no token."""
        self._write()
        if not self.tokens:
            return None
        return ShardRecord(
            file=f"{self._name}.bin", tokens=self.tokens, documents=self.documents, max_id=self.max_id,
            mask_sha256=self._mask.finish() if self._mask else None, sha256=self._ids.finish(),
        )  # fmt: skip

    def close(self) -> None:
        """Remove what was not finished."""
        for file in (self._ids, self._mask):
            if file is not None:
                file.close()

    def _write(self) -> None:
        if self._waiting_tokens:
            ids = np.concatenate(self._waiting).astype(self._dtype, copy=False)
            self._ids.write(ids)
            self.tokens += len(ids)
            self.max_id = max(self.max_id, int(ids.max()))
            self._waiting, self._waiting_tokens = [], 0


class _Aside:
    """A file that has its name only when it is finished, and is hashed as it is written."""

    def __init__(self, out: Path, name: str) -> None:
        self._target = out / name
        self._path = out / UNFINISHED / name.replace("/", "_")
        self._file = self._path.open("wb")
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
