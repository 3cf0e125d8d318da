"""Reads the documents of inputs, and long ones in pieces."""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

from mypt.data.prepare.conversations import EXAMPLES, Conversation, read_conversation
from mypt.data.prepare.cuts import BLOCK_BYTES, MARKER, boundary, cut
from mypt.data.prepare.turns import whole
from mypt.data.streams import unpacked
from mypt.data.text import decode, input_errors
from mypt.errors import InputError
from mypt.regular import open_regular
from mypt.schema.base import from_json_text
from mypt.schema.files.prepare_plan import InputFile, Part, PreparePlan
from mypt.schema.files.tokenizer import END_OF_TEXT
from mypt.schema.settings.prepare import PrepareConfig

LINE_BYTES = 1 << 27
"""A line of JSON is read as a whole."""
PARQUET_BATCH_ROWS = 256
PARQUET_TODO = "Give a Parquet file with a text column, and name the column with --text-field."


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


def read_pieces(plan: PreparePlan, part: Part) -> Iterator[Piece]:
    """Yield the pieces of one part of an input, in order.

    Raises:
        InputError: the input cannot be read or does not have the expected format.
    """
    source = plan.sources[part.source]
    with input_errors(source.path):
        if source.form == "parquet":
            yield from _read_parquet(source, plan.config)
        elif source.form == "jsonl":
            yield from _read_jsonl(source, part, plan.config)
        else:
            yield from _read_text(plan, source, part)


def _read_text(plan: PreparePlan, source: InputFile, part: Part) -> Iterator[Piece]:
    """Yield a plain text; a marker or the end of the file ends a document, and newlines around a marker are dropped."""
    with _open(source) as file:
        start, end = (n if source.gzipped else boundary(file, n, source.bytes) for n in (part.start, part.end))
        midway = start > 0 and _bytes_at(file, start - len(MARKER), len(MARKER)) != MARKER
        if not source.gzipped:
            file.seek(start)
        chunks = cut(
            file, sys.maxsize if source.gzipped else end - start,
            midway=midway, to_the_end=end == source.bytes, cut_all=start == 0 and plan.texts == 1,
        )  # fmt: skip
        offset = start
        for chunk in chunks:
            text = decode(source.path, chunk.data, offset)
            text = text.lstrip("\r\n") if chunk.begins and offset > 0 else text
            text = text.removesuffix(END_OF_TEXT).rstrip("\r\n") if chunk.ends else text
            yield Piece(text, chunk.ends, f"{source.path}, byte {offset}")
            offset += len(chunk.data)


def _read_jsonl(source: InputFile, part: Part, config: PrepareConfig) -> Iterator[Piece]:
    """Yield the JSON lines that start in the range, one document each."""
    example = EXAMPLES[source.chat_format] if source.chat_format else json.dumps({config.text_field: "..."})
    with _open(source) as file:
        offset = max(part.start - 1, 0)
        if not source.gzipped:
            file.seek(offset)
        offset += _line_length(file) if part.start > 0 else 0
        while line := file.readline(LINE_BYTES):
            if offset >= part.end and not source.gzipped:
                return
            try:
                if len(line) == LINE_BYTES:
                    raise ValueError(f"it has {LINE_BYTES:,} bytes or more")
                row = _parse_line(line.decode("utf-8-sig"), source, config) if line.strip() else None
                piece = None if row is None else _piece(row, source, config, f"byte {offset}")
            except (ValueError, RecursionError) as error:
                raise InputError(
                    f"{source.path}, line {_line_number(source, offset)}: {_describe(error)}.",
                    f"Give one JSON object per line, such as {example}",
                ) from error
            if piece is not None:
                yield piece
            offset += len(line)


def first_row(source: InputFile) -> Any:
    """The first row of an input, decoded; None if there is none.

    Raises:
        InputError: it cannot be read.
    """
    with input_errors(source.path):
        if source.form == "parquet":
            return next(parquet_rows(source.path), None)
        with _open(source) as file:
            line = b"\n"
            while line and not line.strip():
                line = file.readline(LINE_BYTES)
        try:
            return json.loads(line.decode("utf-8-sig")) if line else None
        except (ValueError, RecursionError) as error:
            todo = f"Give one JSON object per line, such as {EXAMPLES['messages']}"
            raise InputError(f"{source.path}, line 1: {_describe(error)}.", todo) from error


def _line_length(file: BufferedReader) -> int:
    """Read to the end of a line, however long it is, and count its bytes."""
    length = 0
    while block := file.readline(BLOCK_BYTES):
        length += len(block)
        if block.endswith(b"\n"):
            break
    return length


def _parse_line(line: str, source: InputFile, config: PrepareConfig) -> Any:
    """Decode a line, in which nothing that is used may have two values: one would be lost."""
    content, repeated = from_json_text(line)
    if lost := [key for key in repeated if source.chat_format or config.text_field in (key.rpartition(".")[2], key)]:
        raise ValueError(f"{', '.join(lost)} is given more than once")
    return content


def _piece(row: Any, source: InputFile, config: PrepareConfig, place: str) -> Piece:
    """The document that a row is."""
    location, name = f"{source.path}, {place}", config.text_field
    if source.chat_format is not None:
        return Piece("", True, location, read_conversation(row, source.chat_format))
    if not isinstance(row, dict) or not isinstance(row.get(name), str):
        raise ValueError(f"there is no text in a field {name!r}")
    return Piece(whole(row[name]), True, location)


def _describe(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"this is not JSON: {error.msg} at character {error.pos + 1}"
    if isinstance(error, UnicodeDecodeError):
        return f"this is not UTF-8: byte 0x{error.object[error.start]:02x} at offset {error.start} of the line"
    if isinstance(error, UnicodeEncodeError):
        return "a \\u escape stands for half of a character"
    return str(error)


def _line_number(source: InputFile, offset: int) -> int:
    with _open(source) as file:
        blocks = (file.read(min(BLOCK_BYTES, offset - start)) for start in range(0, offset, BLOCK_BYTES))
        return 1 + sum(block.count(b"\n") for block in blocks)


def _read_parquet(source: InputFile, config: PrepareConfig) -> Iterator[Piece]:
    """Yield the rows of a Parquet file, one document each."""
    rows = parquet_rows(source.path, None if source.chat_format else config.text_field)
    for number, row in enumerate(rows, 1):
        try:
            yield _piece(row, source, config, f"row {number}")
        except ValueError as error:
            raise InputError(f"{source.path}, row {number}: {_describe(error)}.", PARQUET_TODO) from error


def parquet_rows(path: str, column: str | None = None) -> Iterator[Any]:
    """Yield the rows of a Parquet file, or one column of them.

    Raises:
        InputError: it is damaged, or lacks the column.
    """
    import pyarrow.parquet as parquet

    number = 0
    try:
        with parquet.ParquetFile(path) as table:
            if column is not None and column not in table.schema_arrow.names:
                raise InputError(f"{path} has no column {column!r}.", PARQUET_TODO)
            columns = None if column is None else [column]
            for batch in table.iter_batches(batch_size=PARQUET_BATCH_ROWS, columns=columns, use_threads=False):
                for row in batch.to_pylist():
                    number += 1
                    yield row
    except ValueError as error:  # base class of pyarrow's errors
        raise InputError(f"{path} cannot be read as parquet after row {number}: {error}.", PARQUET_TODO) from error


def _open(source: InputFile) -> BufferedReader:
    file = open_regular(Path(source.path))
    return unpacked(file, "gz", source.path) if source.gzipped else file


def _bytes_at(file: BufferedReader, offset: int, length: int) -> bytes:
    file.seek(max(offset, 0))
    return file.read(length)
