"""The documents of a text or of shards, each to be predicted from its own beginning."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mypt.data.integrity import check_newer
from mypt.data.shards import open_shards
from mypt.data.text import TEXT_FIELD, read_text
from mypt.data.tokenizer import Tokenizer
from mypt.data.tokens import SCAN_TOKENS, Part, Split, Tokens
from mypt.errors import ConflictError, InputError
from mypt.schema.files.tokenizer import END_OF_TEXT

LOOK_TOKENS = 1 << 20
"""Tokens of a document whose bytes are counted at once."""


@dataclass(frozen=True)
class Document:
    """A part of a sequence of tokens that is a text of its own, without the border that ends it.

    Attributes:
        start: position of its first token.
        end: position behind its last one.
        text_bytes: bytes of UTF-8 that its tokens stand for; of those that count, where there is a loss mask.
    """

    tokens: Tokens
    start: int
    end: int
    text_bytes: int

    def __len__(self) -> int:
        return self.end - self.start


@dataclass(frozen=True)
class Corpus:
    """Documents that are read as they are asked for.

    Attributes:
        name: where they come from.
        sha256: hash of the text in UTF-8; of shards, their fingerprint.
        tokens: of all documents, and of the borders between them; None where they are made as they are asked for.
    """

    name: str
    sha256: str
    documents: Iterable[Document]
    tokens: int | None


def text_corpus(paths: Sequence[str], tokenizer: Tokenizer, text_field: str = TEXT_FIELD) -> Corpus:
    """The documents of texts, as `mypt train` reads them.

    Raises:
        InputError: a text cannot be read, or has characters that the tokenizer does not know.
    """
    text = read_text(paths, text_field)
    documents = [document for document in text.content.split(END_OF_TEXT) if document]
    check_known(documents, tokenizer)
    name = ", ".join(source.path for source in text.sources)
    encoded = [_encoded(document, tokenizer) for document in documents]
    return Corpus(name, text.fingerprint, encoded, sum(map(len, encoded)))


def shard_corpus(folder: str, split: Split, tokenizer: Tokenizer, vocab_size: int) -> Corpus:
    """The documents of a split of shards; those of another tokenizer are made into text, and encoded anew.

    Raises:
        InputError: the shards cannot be read, or have ids or characters that the model does not know.
        ConflictError: they are of another tokenizer, and that or their loss mask allows no other.
    """
    shards = open_shards(folder, eval_only=split == "val", to_look=True)
    check_newer(shards)
    tokens, theirs = shards.splits[split], Tokenizer(shards.tokenizer)
    if not len(tokens):
        raise InputError(f"The dataset folder {folder} has no tokens for {split}.", "Give the other one as --split.")
    same = tokenizer.file.extends(shards.tokenizer) or shards.tokenizer.extends(tokenizer.file)
    if not same and ("ids" in (tokenizer.kind, theirs.kind) or tokens.masked):
        why = "its loss mask counts tokens of that one" if tokens.masked else "what its ids mean is not known"
        raise ConflictError(
            f"The dataset {folder} was made with another tokenizer than this model's, and {why}.",
            "Make it again with `mypt prepare --tokenizer-of` and the name of the model.",
        )
    if same and (shards.max_id is None or shards.max_id >= vocab_size):
        tokens.check_ids(vocab_size)
    documents = _split(tokens, theirs)
    if not same:
        documents = (_encoded_anew(document, number, theirs, tokenizer) for number, document in enumerate(documents, 1))
    return Corpus(str(shards.folder), shards.fingerprint, documents, len(tokens) if same else None)


def check_known(documents: Sequence[str], tokenizer: Tokenizer, first: int = 1) -> None:
    """Make sure that a tokenizer knows every character.

    Args:
        documents: the texts.
        tokenizer: only one of characters may not know one.
        first: number of the first of these documents.

    Raises:
        InputError: some are unknown; the message says how many, and where the first one is.
    """
    if tokenizer.file.chars is None:
        return
    known = set(tokenizer.file.chars)
    unknown = [sorted(set(document) - known) for document in documents]
    kinds = sorted(set().union(*unknown))
    if not kinds:
        return
    total = sum(document.count(c) for document, chars in zip(documents, unknown, strict=True) for c in chars)
    number, document, chars = next(
        (i, d, c) for i, (d, c) in enumerate(zip(documents, unknown, strict=True), first) if c
    )
    at = min(document.find(c) for c in chars)
    line, column = document.count("\n", 0, at) + 1, at - document.rfind("\n", 0, at)
    of = f"document {number}, " if len(documents) > 1 or first > 1 else ""
    shown = ", ".join(map(repr, kinds[:10])) + (f" and {len(kinds) - 10} more" if len(kinds) > 10 else "")
    raise InputError(
        f"The text has {total:,} {'character' if total == 1 else 'characters'} that the vocabulary does not know "
        f"({shown}); the first is {document[at]!r} at {of}line {line:,}, character {column:,}.",
        "Take these characters out, or compare models whose tokenizer, gpt2 or bpe, knows every text.",
    )


def _encoded(text: str, tokenizer: Tokenizer) -> Document:
    ids = tokenizer.encode(text)
    return Document(Tokens([Part("the text", ids)]), 0, len(ids), len(text.encode("utf-8")))


def _encoded_anew(document: Document, number: int, theirs: Tokenizer, tokenizer: Tokenizer) -> Document:
    ids = document.tokens.windows(np.array([document.start]), len(document))[0]
    text = theirs.decode(ids)
    check_known([text], tokenizer, number)
    return _encoded(text, tokenizer)


def _split(tokens: Tokens, tokenizer: Tokenizer) -> Iterator[Document]:
    """The documents between the borders of a sequence; one that has none is one document."""
    border = tokenizer.file.special_ids.get(END_OF_TEXT)
    lengths = np.append(tokenizer.byte_lengths, 0)  # the last one is for padding rows of the vocabulary
    start = 0
    for end in [len(tokens)] if border is None else _ends(tokens, border):
        if end > start:
            yield Document(tokens, start, end, _bytes_of(tokens, start, end, lengths))
        start = end + 1


def _ends(tokens: Tokens, border: int) -> Iterator[int]:
    """Where a document may end: at each border, and behind the last token."""
    offset = 0
    for part in tokens.parts:
        for first in range(0, len(part.ids), SCAN_TOKENS):
            ids = part.ids[first : first + SCAN_TOKENS]
            yield from (np.flatnonzero(ids == border) + offset).tolist()
            offset += len(ids)
    yield offset


def _bytes_of(tokens: Tokens, start: int, end: int, lengths: npt.NDArray[np.int64]) -> int:
    total = 0
    for first in range(start, end, LOOK_TOKENS):
        at, count = np.array([first]), min(LOOK_TOKENS, end - first)
        of_tokens = lengths[np.minimum(tokens.windows(at, count), len(lengths) - 1)]
        total += int((of_tokens * (tokens.mask_windows(at, count) != 0) if tokens.masked else of_tokens).sum())
    return total
