"""From a part of an input to the pieces that are tokenized: where texts are cut, and where documents end."""

import gzip
import json
import re
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from mypt.errors import InputError
from mypt.schema.files.tokenizer import END_OF_TEXT
from mypt.schema.settings.prepare import InputFile, Part, PrepareConfig

PIECE_BYTES = 8 * 2**10
"""Least size of a piece that is not the rest of a document."""
LOOKAHEAD_BYTES = 64 * 2**10
BLOCK_BYTES = 2**20
ROWS = 256
MARKER = END_OF_TEXT.encode("utf-8")
ROLES = ("system", "user", "assistant")
_EXAMPLE = '{"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]}'
_CUTS = (re.compile(rb"\n\r?\n"), re.compile(rb"\n"), re.compile(rb" "), re.compile(rb"(?=[^\x80-\xbf])"))
"""A blank line, a line's end, a space, the border of a character: the first that is found is the best."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A stretch of text, and who says it; nobody where the text is not of a conversation."""

    text: str
    role: str | None = None


@dataclass(frozen=True, slots=True)
class Piece:
    """What goes to one split as a whole.

    Attributes:
        turns: its text; more than one only in a conversation.
        ends: whether a document ends with it.
        place: where it lies, for an error.
    """

    turns: tuple[Turn, ...]
    ends: bool
    place: str


def find_cut(window: bytes, start: int) -> int:
    """Where a text is best cut: after the first marker in the window, else at the best place from `start` on.

    Two who look from the same place find the same cut, so that neighbouring ranges agree without a word.
    """
    marker = window.find(MARKER)
    if marker >= 0:
        return marker + len(MARKER)
    for pattern in _CUTS:
        if found := pattern.search(window, start):
            return found.end()
    return len(window)


def read_pieces(source: InputFile, part: Part, config: PrepareConfig) -> Iterator[Piece]:
    """The pieces of one part of an input, in order.

    Raises:
        InputError: the input cannot be read, or what is in it is not what its form promises.
    """
    with _readable(source):
        if source.form == "parquet":
            yield from _rows(source, config.text_field)
        elif source.form == "jsonl":
            yield from _lines(source, part, config)
        else:
            yield from _text(source, part)


def _text(source: InputFile, part: Part) -> Iterator[Piece]:
    """A text from border to border; at markers a document ends, and the newlines around them are dropped."""
    with _open(source) as file:
        start, end = _border(file, source, part.start), _border(file, source, part.end)
        after_marker = start > 0 and _bytes_at(file, start - len(MARKER), len(MARKER)) == MARKER
        file.seek(start)
        offset, whole = start, source.gzipped or end == source.bytes
        for stretch, last in _stretches(file, sys.maxsize if source.gzipped else end - start):
            text = _decoded(source, stretch, offset)
            text = text.lstrip("\r\n") if after_marker else text
            after_marker = text.endswith(END_OF_TEXT)
            text = text.removesuffix(END_OF_TEXT).rstrip("\r\n") if after_marker else text
            yield Piece((Turn(text),), after_marker or (last and whole), f"{source.path}, byte {offset}")
            offset += len(stretch)


def _stretches(file: BinaryIO, length: int) -> Iterator[tuple[bytes, bool]]:
    """The next `length` bytes from cut to cut, and whether a stretch is the last; reads as it goes."""
    most = PIECE_BYTES + LOOKAHEAD_BYTES
    buffer, at, block = b"", 0, b"more"
    while block or at < len(buffer):
        if block and len(buffer) - at <= most:
            block = file.read(min(BLOCK_BYTES, length))
            length -= len(block)
            buffer, at = buffer[at:] + block, 0
            continue
        window = buffer[at : at + most]
        size = find_cut(window, PIECE_BYTES)
        at += size
        yield window[:size], not block and at == len(buffer)


def _border(file: BinaryIO, source: InputFile, nominal: int) -> int:
    """Where a range that nominally begins here does begin; a marker that spans the place is kept whole."""
    if nominal == 0 or nominal >= source.bytes:
        return nominal
    back = min(nominal, len(MARKER) - 1)
    return nominal - back + find_cut(_bytes_at(file, nominal - back, back + LOOKAHEAD_BYTES), back)


def _decoded(source: InputFile, content: bytes, offset: int) -> str:
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{source.path} is not UTF-8: byte 0x{content[error.start]:02x} at offset {offset + error.start}.",
            "Convert it to UTF-8 first, for example with iconv.",
        ) from error
    return text.removeprefix("\ufeff") if offset == 0 else text


def _lines(source: InputFile, part: Part, config: PrepareConfig) -> Iterator[Piece]:
    """The JSON lines that begin in the range, one document each."""
    turns_of = _conversation if config.chat else _field
    with _open(source) as file:
        offset = max(part.start - 1, 0)
        file.seek(offset)
        offset += len(file.readline()) if part.start > 0 else 0
        for line in file:
            if offset >= part.end and not source.gzipped:
                return
            try:
                turns = turns_of(line.decode("utf-8-sig"), config.text_field) if line.strip() else ()
            except (ValueError, RecursionError) as error:
                raise InputError(
                    f"{source.path}, line {_line_number(source, offset)}: {_why(error)}.",
                    f"Give one JSON object a line, such as {_EXAMPLE if config.chat else _field_example(config)}",
                ) from error
            if turns:
                yield Piece(turns, True, f"{source.path}, byte {offset}")
            offset += len(line)


def _field(line: str, name: str) -> tuple[Turn, ...]:
    record = json.loads(line)
    if not isinstance(record, dict) or not isinstance(record.get(name), str):
        raise ValueError(f"there is no text in a field {name!r}")
    return (_turn(record[name]),)


def _conversation(line: str, _: str) -> tuple[Turn, ...]:
    record = json.loads(line)
    messages = record.get("messages") if isinstance(record, dict) else None
    if not isinstance(messages, list) or not messages:
        raise ValueError("there is no list of messages in a field 'messages'")
    for number, message in enumerate(messages, 1):
        if not isinstance(message, dict) or not isinstance(message.get("content"), str):
            raise ValueError(f"message {number} has no text in a field 'content'")
        if message.get("role") not in ROLES:
            raise ValueError(f"message {number} has the role {message.get('role')!r}, not one of {', '.join(ROLES)}")
    return tuple(_turn(m["content"], m["role"]) for m in messages)


def _turn(text: str, role: str | None = None) -> Turn:
    text.encode("utf-8")  # JSON can spell half of a character, which no tokenizer takes
    return Turn(text, role)


def _why(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"this is not JSON: {error.msg} at character {error.pos + 1}"
    if isinstance(error, UnicodeDecodeError):
        return f"this is not UTF-8: byte 0x{error.object[error.start]:02x} at offset {error.start} of the line"
    if isinstance(error, UnicodeEncodeError):
        return "a \\u escape stands for half of a character"
    return str(error)


def _field_example(config: PrepareConfig) -> str:
    return json.dumps({config.text_field: "..."})


def _line_number(source: InputFile, offset: int) -> int:
    with _open(source) as file:
        blocks = (file.read(min(BLOCK_BYTES, offset - at)) for at in range(0, offset, BLOCK_BYTES))
        return 1 + sum(block.count(b"\n") for block in blocks)


def _rows(source: InputFile, column: str) -> Iterator[Piece]:
    """The rows of a table, one document each."""
    import pyarrow.parquet as parquet

    todo = "Give a parquet file with a column of text, and name the column with --text-field."
    number = 0
    try:
        with parquet.ParquetFile(source.path) as table:
            if column not in table.schema_arrow.names:
                raise InputError(f"{source.path} has no column {column!r}.", todo)
            for batch in table.iter_batches(batch_size=ROWS, columns=[column], use_threads=False):
                for value in batch.column(0).to_pylist():
                    number += 1
                    if not isinstance(value, str):
                        raise InputError(f"{source.path}, row {number}: there is no text in {column!r}.", todo)
                    yield Piece((Turn(value),), True, f"{source.path}, row {number}")
    except ValueError as error:  # what pyarrow raises derives from it
        raise InputError(f"{source.path} cannot be read as parquet after row {number}: {error}.", todo) from error


def _open(source: InputFile) -> BinaryIO:
    path = Path(source.path)
    return cast(BinaryIO, gzip.open(path, "rb")) if source.gzipped else path.open("rb")


def _bytes_at(file: BinaryIO, offset: int, length: int) -> bytes:
    file.seek(max(offset, 0))
    return file.read(length)


@contextmanager
def _readable(source: InputFile) -> Iterator[None]:
    try:
        yield
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{source.path} is not a whole gzip file: {error}.", "Copy or download it again.") from error
    except OSError as error:
        raise InputError(
            f"{source.path} cannot be read: {error.strerror or error}.", "Check that it is there and may be read."
        ) from error
