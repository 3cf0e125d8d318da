"""Rows of JSON, JSON lines, CSV, TSV and Parquet, each with its place and its value, or with what is wrong with it."""

import codecs
import csv
import io
import itertools
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mypt.data.streams import BLOCK_BYTES, ByteStream, LineStream, read_source
from mypt.errors import InputError
from mypt.schema.base import from_json_text
from mypt.schema.files.prepare_plan import Form

ROW_BYTES = 1 << 27
"""A row is read as a whole."""
PARQUET_BATCH_ROWS = 256
DELIMITERS = ",;\t|"
"""What may stand between the columns of a CSV file; many spreadsheets write `;`."""
_BLANKS = " \t\r\n"
_LONGEST_FAULT = 300
"""Characters of what is told of a row that cannot be used."""
_STATED_DELIMITER = re.compile(r"sep=(.)\r?\n", re.IGNORECASE)
"""A first line by which Excel is told what stands between the columns."""
_WRONG_BYTES = re.compile("[\udc80-\udcff]")
"""What bytes that are not UTF-8 are decoded to in a table."""
_CONVERSATIONS = {"messages", "conversations"}


@dataclass(frozen=True, slots=True)
class Row:
    """A row of an input.

    Attributes:
        number: counts from 1.
        value: its fields by name.
        repeated: paths of the fields that it has more than once.
        fault: why it is no row; None if it is one.
        unit: what the number counts.
    """

    number: int
    value: dict[str, Any]
    repeated: tuple[str, ...] = ()
    fault: str | None = None
    unit: str = "line"

    @property
    def place(self) -> str:
        """Where it is in its input, such as `line 3`."""
        return f"{self.unit} {self.number}"

    def text(self, field: str) -> str:
        """The text in a field.

        Raises:
            ValueError: there is none, or more than one; the message says why.
        """
        self.check(field)
        if field not in self.value:
            there = ", ".join(map(repr, list(self.value)[:10])) or "none"
            raise ValueError(f"there is no text in a field {field!r}; its fields are {there}")
        value = self.value[field]
        if not isinstance(value, str):
            raise ValueError(f"there is no text in a field {field!r}, but {kind_of_value(value)}")
        value.encode("utf-8")  # an escape of JSON can spell half of a character
        return value

    def mending(self, field: str) -> str:
        """What to do about it where there is no text in a field; a sentence without its end."""
        if self.fault is not None or field in self.value:
            wrong = "not UTF-8" in (self.fault or "") or _WRONG_BYTES.search(str(self.value.get(field)))
            return "Convert the file to UTF-8, for example by iconv" if wrong else "Mend it"
        if self.value.keys() & _CONVERSATIONS:
            return "Make shards of conversations with `mypt prepare --chat`, and train on those"
        for name, value in self.value.items():
            if isinstance(value, list) and value and isinstance(value[0], dict):
                return f"Its field {name!r} is a list of rows: make a file of those, for example by `jq -c '.{name}[]'`"
        return "Name the field that has the text by --text-field"

    def check(self, *used: str) -> None:
        """Refuse what is no row, and a field that is used and has two values: one would be lost.

        Raises:
            ValueError: it is such a row.
        """
        if self.fault is not None:
            raise ValueError(self.fault)
        if lost := [path for path in self.repeated if path.rpartition(".")[2] in used or path in used]:
            raise ValueError(f"{', '.join(lost)} is given more than once")


def read_rows(stream: ByteStream, form: Form, path: str, columns: Sequence[str] | None = None) -> Iterator[Row]:
    """Yield the rows of an input.

    Args:
        stream: the unpacked bytes.
        form: anything but text.
        path: of the input, for messages.
        columns: the only ones to read of a Parquet file; None for all.

    Raises:
        InputError: the input as a whole is not of this form.
    """
    if form == "parquet":
        return _parquet(stream, path, columns)
    if form == "jsonl":
        return read_lines(stream)
    return _json(stream) if form == "json" else _table(stream, path, DELIMITERS if form == "csv" else "\t", columns)


def read_lines(stream: LineStream, before: int = 0) -> Iterator[Row]:
    """Yield the rows of JSON lines, which follow `before` other lines; blank lines are none."""
    number = before
    while line := stream.readline(ROW_BYTES):
        number += 1
        if len(line) == ROW_BYTES:
            yield Row(number, {}, fault=f"it has {ROW_BYTES:,} bytes or more")
            while not line.endswith(b"\n") and (line := stream.readline(BLOCK_BYTES)):
                pass
        elif line.strip():
            yield _row(number, line)


def explain(error: Exception) -> str:
    """Why a row cannot be used, of the errors that reading it raises."""
    if isinstance(error, json.JSONDecodeError):
        return f"this is not JSON: {error.msg} at character {error.pos + 1}"
    if isinstance(error, UnicodeDecodeError):
        return f"this is not UTF-8: byte 0x{error.object[error.start]:02x} at offset {error.start} of the line"
    if isinstance(error, UnicodeEncodeError):
        code = ord(error.object[error.start])
        if 0xDC80 <= code <= 0xDCFF:
            return f"this is not UTF-8: byte 0x{code - 0xDC00:02x} at character {error.start + 1}"
        return "a \\u escape stands for half of a character"
    if isinstance(error, csv.Error) and "new-line" in str(error):
        return "a line ends by a carriage return alone"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    told = str(error)  # which may name what the row holds
    return told if len(told) <= _LONGEST_FAULT else f"{told[:_LONGEST_FAULT]} …"


def kind_of_value(value: object) -> str:
    """What a value is that should be text, in words."""
    kinds = {dict: "an object", list: "a list", bool: "true or false", bytes: "bytes", type(None): "null"}
    return next((name for kind, name in kinds.items() if isinstance(value, kind)), "a number or a time")


def _row(number: int, content: bytes | str, unit: str = "line") -> Row:
    try:
        text = content if isinstance(content, str) else content.decode("utf-8-sig")
        value, repeated = from_json_text(text)
    except (ValueError, RecursionError) as error:
        return Row(number, {}, fault=explain(error), unit=unit)
    if not isinstance(value, dict):
        return Row(number, {}, fault="it is no JSON object", unit=unit)
    return Row(number, value, tuple(repeated), unit=unit)


def _json(stream: ByteStream) -> Iterator[Row]:
    """Yield the items of a list, or the objects that follow one another, on a line each or over many."""
    blank, first = -1, b"\n"
    while first and not first.strip():
        blank, first = blank + 1, stream.readline(ROW_BYTES)
    rest = _Prepended(first, stream)
    try:
        lines = isinstance(json.loads(first), dict)
    except (ValueError, RecursionError):
        lines = False
    return read_lines(rest, blank) if lines else _values(rest)


def _values(stream: ByteStream) -> Iterator[Row]:
    """Yield JSON values as they come, so that a long list takes no more memory than its longest item."""
    number = 0
    try:
        for text in _Decoded(stream).values():
            number += 1
            yield _row(number, text, "item")
    except (ValueError, RecursionError) as error:
        yield Row(number + 1, {}, fault=explain(error), unit="item")


class _Prepended:
    """A stream with some bytes before it."""

    def __init__(self, first: bytes, stream: ByteStream) -> None:
        self._first, self._stream = io.BytesIO(first), stream

    def read(self, size: int = -1, /) -> bytes:
        return self._first.read(size) or self._stream.read(size)

    def readline(self, size: int = -1, /) -> bytes:
        return self._first.readline(size) or self._stream.readline(size)

    def close(self) -> None:
        self._stream.close()


class _Decoded:
    """The characters of a stream, of which no more are held than a value has."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._scan = json.JSONDecoder(strict=True).raw_decode
        self._text, self._at = "", 0

    def values(self) -> Iterator[str]:
        """The text of each value: of the items of a list, or of what follows one another.

        Raises:
            ValueError: something is no value, or the list breaks off.
        """
        listed = self._next() == "["
        self._at += int(listed)
        while (following := self._next()) not in ("", "]"):
            yield self._value()
            if listed and self._next() == ",":
                self._at += 1
            elif listed and self._next() not in ("", "]"):
                raise ValueError("there is no comma before it")
        if listed and not following:
            raise ValueError("the list breaks off")
        self._at += int(listed)
        if self._next():
            raise ValueError("there is more after the end of the list")

    def _next(self) -> str:
        """Pass over blanks, and return the character after them; empty at the end."""
        while True:
            while self._at < len(self._text):
                if self._text[self._at] not in _BLANKS:
                    return self._text[self._at]
                self._at += 1
            if not self._more(BLOCK_BYTES):
                return ""

    def _value(self) -> str:
        """The text of the value that begins here."""
        wanted = BLOCK_BYTES
        while True:
            try:
                _, end = self._scan(self._text, self._at)
            except json.JSONDecodeError:
                if len(self._text) - self._at >= ROW_BYTES or not self._more(wanted):
                    raise
                wanted *= 2
            else:
                text, self._at = self._text[self._at : end], end
                return text

    def _more(self, size: int) -> bool:
        block = self._stream.read(size)
        self._text = self._text[self._at :] + self._decoder.decode(block, final=not block)
        self._at = 0
        return bool(block)


def _table(stream: ByteStream, path: str, delimiters: str, columns: Sequence[str] | None) -> Iterator[Row]:
    """Yield the rows of a table, whose first row names the columns."""
    csv.field_size_limit(ROW_BYTES)
    lines = _text_lines(stream)
    before, first = next(((n, line) for n, line in enumerate(lines) if line.strip("\r\n")), (0, ""))
    if stated := _STATED_DELIMITER.fullmatch(first):
        before, first, delimiters = before + 1, next(lines, ""), stated[1]
    delimiter = max(delimiters, key=lambda one: _fitness(first, one, columns or ()))
    reader = csv.reader(itertools.chain([first], lines), delimiter=delimiter, strict=True)
    try:
        names = next(reader, [])
    except (csv.Error, ValueError) as error:
        todo = "Give a file whose first line names its columns, and whose lines end by a newline."
        raise InputError(f"{path}: the first line names no columns: {explain(error)}.", todo) from error
    repeated = tuple({name for name in names if names.count(name) > 1})
    while True:
        number = before + reader.line_num + 1
        try:
            fields = next(reader, None)
        except (csv.Error, ValueError) as error:
            yield Row(number, {}, fault=f"this is not a row of a table: {explain(error)}")
            continue
        if fields is None:
            return
        if fields and len(fields) != len(names):
            yield Row(number, {}, fault=f"it has {len(fields)} fields and the first line names {len(names)}")
        elif fields:
            yield Row(number, dict(zip(names, fields, strict=True)), repeated)


def _fitness(first: str, delimiter: str, columns: Sequence[str]) -> tuple[bool, int]:
    """How well a delimiter parts the first line: whether the columns are there that are wanted, and how many are."""
    try:
        names = next(csv.reader([first], delimiter=delimiter, strict=True), [])
    except csv.Error:
        return False, 0
    return set(columns) <= set(names), len(names)


def _text_lines(stream: ByteStream) -> Iterator[str]:
    encoding = "utf-8-sig"
    while line := stream.readline(ROW_BYTES):
        yield line.decode(encoding, "surrogateescape")  # a row with wrong bytes is one of many
        encoding = "utf-8"


def _parquet(stream: ByteStream, path: str, columns: Sequence[str] | None) -> Iterator[Row]:
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise InputError(
            f"{path} is a Parquet file.", "Install pyarrow to read it: pip install 'mypt[parquet]'"
        ) from error
    number = 0
    seekable = stream if getattr(stream, "seekable", bool)() else io.BytesIO(read_source(stream, path, None))
    try:
        with parquet.ParquetFile(seekable) as table:
            there = [name for name in columns or () if name in table.schema_arrow.names]
            names = list(table.schema_arrow.names) if columns is None or len(there) < len(columns) else list(columns)
            repeated = tuple({name for name in names if table.schema_arrow.names.count(name) > 1})
            for batch in table.iter_batches(batch_size=PARQUET_BATCH_ROWS, columns=names, use_threads=False):
                for value in batch.to_pylist():
                    number += 1
                    yield Row(number, value, repeated, unit="row")
    except ValueError as error:  # base class of pyarrow's errors
        raise InputError(
            f"{path} cannot be read as Parquet after row {number}: {str(error).rstrip('.')}.",
            "Copy it or make it again.",
        ) from error
