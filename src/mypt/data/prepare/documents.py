"""Reads the documents of inputs, and long ones in pieces."""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path

from mypt.data.inputs.rows import Row, explain, read_lines, read_rows
from mypt.data.prepare.conversations import EXAMPLES, Conversation, read_conversation
from mypt.data.prepare.cuts import BLOCK_BYTES, MARKER, boundary, cut
from mypt.data.streams import unpacked
from mypt.data.text import decode, input_errors, split_documents
from mypt.errors import InputError
from mypt.regular import open_regular
from mypt.schema.files.prepare_plan import InputFile, Part, PreparePlan
from mypt.schema.files.tokenizer import END_OF_TEXT

FIRST_SKIPPED = 3
"""Rows of a unit that are told of those that were left out."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A document or a part of one, which is assigned to one split as a whole.

    Attributes:
        text: its text; empty for a conversation.
        ends: whether it is the end of a document.
        location: location in the input, for error messages.
        talk: the conversation that it is; None for a text.
    """

    text: str
    ends: bool
    location: str
    talk: Conversation | None = None

    @property
    def texts(self) -> tuple[str, ...]:
        """What is encoded of it, each text alone."""
        if self.talk is None:
            return (self.text,)
        return tuple(text for message in self.talk.messages for text in message.texts)


@dataclass
class SkippedRows:
    """Rows that cannot be used and were left out: their number, and the first of them with their faults."""

    count: int = 0
    first: list[str] = field(default_factory=list)

    def note(self, fault: str) -> None:
        """Count one."""
        self.count += 1
        if len(self.first) < FIRST_SKIPPED:
            self.first.append(fault)


def read_pieces(plan: PreparePlan, part: Part, skipped: SkippedRows | None = None) -> Iterator[Piece]:
    """Yield the pieces of one part of an input, in order.

    Args:
        plan: the plan.
        part: the part.
        skipped: told of rows that are left out, if the settings allow that.

    Raises:
        InputError: the input cannot be read, or a row cannot be used.
    """
    source = plan.sources[part.source]
    with input_errors(source.path):
        if source.form == "text":
            yield from _read_text(plan, source, part)
        else:
            yield from _read_rows(plan, source, part, skipped or SkippedRows())


def first_row(source: InputFile) -> Row | None:
    """The first row of an input that can be read; None if there is none.

    Raises:
        InputError: the input cannot be read.
    """
    with input_errors(source.path), _open(source) as file:
        return next((row for row in read_rows(file, source.form, source.path) if row.fault is None), None)


def _read_text(plan: PreparePlan, source: InputFile, part: Part) -> Iterator[Piece]:
    """Yield a plain text; a marker or the end of the file ends a document, and newlines around a marker are dropped."""
    with _open(source) as file:
        start, end = (n if source.packing else boundary(file, n, source.bytes) for n in (part.start, part.end))
        midway = start > 0 and _bytes_at(file, start - len(MARKER), len(MARKER)) != MARKER
        if not source.packing:
            file.seek(start)
        chunks = cut(
            file, sys.maxsize if source.packing else end - start,
            midway=midway, to_the_end=end == source.bytes, cut_all=start == 0 and plan.texts == 1,
        )  # fmt: skip
        offset = start
        for chunk in chunks:
            text = decode(source.path, chunk.data, offset)
            text = text.lstrip("\r\n") if chunk.begins and offset > 0 else text
            text = text.removesuffix(END_OF_TEXT).rstrip("\r\n") if chunk.ends else text
            yield Piece(text, chunk.ends, f"{source.path}, byte {offset}")
            offset += len(chunk.data)


def _read_rows(plan: PreparePlan, source: InputFile, part: Part, skipped: SkippedRows) -> Iterator[Piece]:
    """Yield the documents of the rows of a part."""
    config = plan.config
    with _open(source) as file:
        lines = _Lines(file, part) if source.divisible else None
        columns = None if source.chat_format else [config.text_field]
        for row in read_lines(lines) if lines else read_rows(file, source.form, source.path, columns):
            midway = lines if part.start else None  # where counting the lines before would read all of them
            location = f"{source.path}, {f'byte {midway.begun}' if midway else row.place}"
            try:
                pieces = _pieces(row, source, config.text_field, location)
            except (ValueError, RecursionError) as error:
                before = _lines_before(source, part.start) if lines else 0
                fault = f"{source.path}, {row.unit} {before + row.number}: {explain(error)}."
                if not config.skip_bad_rows:
                    raise InputError(
                        fault, f"{_todo(row, source, config.text_field)}, or leave it out by --skip-bad-rows."
                    ) from error
                skipped.note(fault)
            else:
                yield from pieces


def _pieces(row: Row, source: InputFile, text_field: str, location: str) -> list[Piece]:
    """The documents of a row: one conversation, or those that the markers in its text part.

    Raises:
        ValueError: the row cannot be used.
    """
    if source.chat_format is None:
        return [Piece(document, True, location) for document in split_documents(row.text(text_field))]
    row.check(*row.repeated)  # whatever is there twice may be a part of what is said
    return [Piece("", True, location, read_conversation(row.value, source.chat_format))]


def _todo(row: Row, source: InputFile, text_field: str) -> str:
    todo = "Mend it" if source.chat_format else row.mending(text_field)
    example = EXAMPLES[source.chat_format] if source.chat_format else json.dumps({text_field: "..."})
    shown = todo == "Mend it" and source.form in ("json", "jsonl")
    return f"{todo}, to a JSON object such as {example}" if shown else todo


class _Lines:
    """The lines of a file that begin in a part of it."""

    def __init__(self, file: BufferedReader, part: Part) -> None:
        self._file, self._end = file, part.end
        self._at = self.begun = max(part.start - 1, 0)
        file.seek(self._at)
        whole = part.start == 0
        while not whole and (block := file.readline(BLOCK_BYTES)):
            self._at += len(block)
            whole = block.endswith(b"\n")
        self._whole = True

    def readline(self, size: int = -1, /) -> bytes:
        """Read on to the end of a line; nothing where the next one begins behind the part."""
        if self._whole:
            if self._at >= self._end:
                return b""
            self.begun = self._at
        line = self._file.readline(size)
        self._at += len(line)
        self._whole = line.endswith(b"\n")
        return line


def _lines_before(source: InputFile, start: int) -> int:
    """Number of lines before the first one that begins at `start` or behind it."""
    with _open(source) as file:
        sizes = (min(BLOCK_BYTES, start - 1 - done) for done in range(0, start - 1, BLOCK_BYTES))
        return sum(file.read(size).count(b"\n") for size in sizes) + (start > 0)


def _open(source: InputFile) -> BufferedReader:
    file = open_regular(Path(source.path))
    return unpacked(file, source.packing, source.path) if source.packing else file


def _bytes_at(file: BufferedReader, offset: int, length: int) -> bytes:
    file.seek(max(offset, 0))
    return file.read(length)
