"""Reads texts of any form from files, URLs or standard input, or the built-in sample, as documents."""

import hashlib
import io
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from shlex import quote
from typing import BinaryIO

from mypt.data.inputs.forms import Kind, check_text, form_of, guessed_encoding, packing_of
from mypt.data.inputs.rows import explain, read_rows
from mypt.data.streams import UNPACKING_ERRORS, ByteStream, Headed, read_source, unpacked
from mypt.errors import InputError, MyptError
from mypt.regular import NotRegularError, expanded, open_regular
from mypt.schema.files.state import SourceRecord
from mypt.schema.files.tokenizer import END_OF_TEXT

SAMPLE = "sample: the language reference of Python {0.major}.{0.minor}"
STDIN = "-"
TEXT_FIELD = "text"


@dataclass(frozen=True)
class Text:
    """Text as one string, in which each end-of-text marker is the border of two documents.

    Attributes:
        content: a text without borders as it is; else each document with a marker after it.
        sources: where it comes from, in order.
        fingerprint: SHA-256 of the content in UTF-8.
        documents: documents that a border ends; None for what an earlier version recorded, to which markers were
            characters like others.
    """

    content: str
    sources: tuple[SourceRecord, ...]
    fingerprint: str
    documents: int | None

    @property
    def characters(self) -> int:
        """Characters without the markers."""
        return len(self.content) - (self.documents or 0) * len(END_OF_TEXT)


@dataclass(frozen=True)
class Source:
    """One source that was read: its record, its unpacked bytes, and the form that they have."""

    record: SourceRecord
    data: bytes
    kind: Kind

    @property
    def path(self) -> str:
        """Its path, for messages."""
        return self.record.path


def read_text(paths: Sequence[str], text_field: str = TEXT_FIELD) -> Text:
    """Read texts, or the built-in sample if there are no paths.

    Args:
        paths: files, `http(s)://` URLs, or `-` for standard input; of each form that `mypt.data.inputs` knows.
        text_field: field or column with the text, where there are rows.

    Raises:
        InputError: a source is missing, a folder, empty, unreachable, not what it seems, or larger than memory allows.
    """
    return text_of(read_sources(paths), text_field)


def read_sources(paths: Sequence[str], most: int | None = None) -> list[Source]:
    """Read sources, each as a whole; raises as `read_text`.

    Args:
        paths: as of `read_text`.
        most: bytes that each of them has at most, if it is the recorded one; of one with more, one more is read.
    """
    return [_read_source(path, most) for path in paths] or [sample()]


def text_of(sources: Sequence[Source], text_field: str | None = TEXT_FIELD) -> Text:
    """The documents of sources as one text.

    A single plain text without a marker has no border. Else the end of each document is one: a marker, at which the
    newlines around it are dropped, the end of a file, or that of a row.

    Args:
        sources: what was read.
        text_field: field or column with the text; None joins plain texts by newlines, as earlier versions did.

    Raises:
        InputError: a source has no text.
    """
    records = tuple(source.record for source in sources)
    if text_field is None:
        content = "\n".join(decode(source.path, source.data) for source in sources)
        return Text(content, records, fingerprint(content), None)
    if len(sources) == 1 and sources[0].kind.form == "text":
        return text_from(decode(sources[0].path, sources[0].data), records)
    documents = [document for source in sources for document in _documents(source, text_field)]
    if not documents:
        raise InputError(
            f"There is no text in {', '.join(source.path for source in sources)}.",
            f"Give rows with text in the field {text_field!r}, or name the field by --text-field.",
        )
    return _bordered(documents, records)


def text_from(content: str, sources: tuple[SourceRecord, ...] = ()) -> Text:
    """A text that is in memory; each marker in it is a border."""
    if END_OF_TEXT not in content:
        return Text(content, sources, fingerprint(content), 0)
    return _bordered(split_documents(content), sources)


def split_documents(content: str) -> list[str]:
    """The documents of a plain text, without the markers and the newlines around them; empty ones are none."""
    first, *others = content.split(END_OF_TEXT)
    parts = [first.rstrip("\r\n"), *(part.strip("\r\n") for part in others)]
    return [part for part in parts if part]


def _bordered(documents: Sequence[str], sources: tuple[SourceRecord, ...]) -> Text:
    content = "".join(document + END_OF_TEXT for document in documents)
    return Text(content, sources, fingerprint(content), len(documents))


def _documents(source: Source, text_field: str) -> Iterator[str]:
    if source.kind.form == "text":
        yield from split_documents(decode(source.path, source.data))
        return
    for row in read_rows(io.BytesIO(source.data), source.kind.form, source.path, [text_field]):
        try:
            yield from split_documents(row.text(text_field))
        except ValueError as error:
            todo = f"{row.mending(text_field)}, or train on shards made with `mypt prepare --skip-bad-rows`."
            raise InputError(f"{source.path}, {row.place}: {explain(error)}.", todo) from error


def fingerprint(content: str) -> str:
    """SHA-256 of a text in UTF-8."""
    return hashlib.sha256(content.encode("utf-8")).hexdigest()


def source_path(path: str) -> str:
    """The recorded path of a source: absolute, so that a resume from another folder finds it."""
    return path if _is_url(path) or path == STDIN else str(expanded(path).absolute())


def sample() -> Source:
    """Python's language reference, about 465 KB of English prose included in every Python installation."""
    from pydoc_data.topics import topics

    data = "\n\n".join(topics[k] for k in sorted(topics)).encode("utf-8")
    return Source(_record(SAMPLE.format(sys.version_info), data), data, Kind("text", None))


def is_sample(path: str) -> bool:
    """Whether a recorded source is the built-in sample."""
    return path.startswith("sample: ")


@contextmanager
def input_errors(path: str) -> Iterator[None]:
    """Turn the errors of opening and unpacking an input into an `InputError` that names it."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(f"The input file {path} does not exist.", "Check the path and its spelling.") from error
    except IsADirectoryError as error:
        raise InputError(
            f"The input {path} is a folder, not a file.",
            f"Give the files in it, each by its own --input-file, for example --input-file {path}/FILE.txt.",
        ) from error
    except NotRegularError as error:
        raise InputError(
            f"The input {path} is a device, a pipe or a socket, not a file.",
            f"Give a file; `{STDIN}` reads standard input.",
        ) from error
    except UNPACKING_ERRORS as error:
        raise InputError(
            f"The input file {path} cannot be unpacked as a whole: {error}.", "Copy or download it again."
        ) from error
    except OSError as error:
        raise InputError(
            f"The input file {path} cannot be read: {error.strerror or error}.", "Check that you may read it."
        ) from error


def decode(path: str, data: bytes, offset: int = 0) -> str:
    """Decode UTF-8 that starts at `offset` in an input, without the byte order mark at its start.

    Raises:
        InputError: it is not UTF-8.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        encoding = guessed_encoding(data)
        what = "Standard input" if path == STDIN else f"The input {path}"
        convert = f"iconv -f {encoding or 'ENCODING'} -t UTF-8"
        raise InputError(
            f"{what} is not UTF-8: byte 0x{data[error.start]:02x} at offset {offset + error.start}.",
            (f"It looks like {encoding}. " if encoding else "Find out its encoding, which its bytes do not tell. ")
            + (
                f"Pipe it through {convert}"
                if path == STDIN
                else f"Convert it first: {convert} {quote(path)} > utf8.txt"
            ),
        ) from error
    return text.removeprefix("\ufeff") if offset == 0 else text


def _is_url(path: str) -> bool:
    return path.startswith(("http://", "https://"))


def _read_source(path: str, most: int | None) -> Source:
    with input_errors(path), opened(path, bounded=most is None) as (kind, stream):
        data = read_source(stream, path, most)
    if not data.strip():
        raise InputError(f"The input {path} is empty.", "Give a file with text in it.")
    return Source(_record(source_path(path), data), data, kind)


def _record(path: str, data: bytes) -> SourceRecord:
    return SourceRecord(path=path, bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


@contextmanager
def opened(path: str, *, bounded: bool = True) -> Iterator[tuple[Kind, ByteStream]]:
    """What a source is, and its bytes, unpacked, as they come.

    Args:
        path: file, URL or `-`.
        bounded: refuse what is no text, and what unpacks to more than a text can; a recorded one was looked at before.

    Raises:
        InputError: it is known to be no text.
    """
    with ExitStack() as held:
        if path == STDIN:
            stream: ByteStream = sys.stdin.buffer
        elif _is_url(path):
            stream = held.enter_context(_download(path))
        else:
            stream = held.enter_context(open_regular(expanded(path)))
        headed = Headed(stream)
        packing = packing_of(path, headed.head)
        if packing is not None:
            headed = Headed(held.enter_context(unpacked(headed, packing, path, bounded=bounded)))
        if bounded:
            check_text(path, headed.head)
        yield Kind(form_of(path, headed.head), packing), headed


@contextmanager
def _download(url: str) -> Iterator[BinaryIO]:
    import fsspec

    try:
        with fsspec.open(url, "rb") as response:
            yield response
    except MyptError:
        raise
    except Exception as error:  # fsspec raises the errors of its HTTP client
        raise InputError(
            f"{url} cannot be fetched: {type(error).__name__}: {error}.",
            "Check the URL and the connection, or download the text and give the file.",
        ) from error
