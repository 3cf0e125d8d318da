"""Reads text from files, .gz files, URLs or standard input, or the built-in sample."""

import gzip
import hashlib
import sys
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import BinaryIO

from mypt.data.streams import ByteStream, Unpacked, read_source
from mypt.errors import InputError, MyptError
from mypt.regular import NotRegularError, expanded, open_regular
from mypt.schema.files.state import SourceRecord

SAMPLE = "sample: the language reference of Python {0.major}.{0.minor}"
STDIN = "-"


@dataclass(frozen=True)
class Text:
    """Text, its sources in the order in which a newline joins them, and the SHA-256 of its UTF-8."""

    content: str
    sources: tuple[SourceRecord, ...]
    fingerprint: str


def read_text(paths: Sequence[str], most: int | None = None) -> Text:
    """Read and join texts, or the built-in sample if there are no paths.

    Args:
        paths: files, `.gz` files, `http(s)://` URLs, or `-` for standard input.
        most: bytes that each of them has at most, if it is the recorded one; of one with more, one more is read.

    Raises:
        InputError: a source is missing, a folder, empty, unreachable, not UTF-8, or larger than memory allows.
    """
    contents = [(source_path(p), _read_source(p, most)) for p in paths] or [sample()]
    content = "\n".join(
        decode(path, data) if most is None or len(data) <= most else data.decode("utf-8", "ignore")
        for path, data in contents
    )
    records = tuple(
        SourceRecord(path=path, bytes=len(data), sha256=hashlib.sha256(data).hexdigest()) for path, data in contents
    )
    return Text(content, records, fingerprint(content))


def fingerprint(content: str) -> str:
    """SHA-256 of a text in UTF-8."""
    return hashlib.sha256(content.encode("utf-8")).hexdigest()


def source_path(path: str) -> str:
    """The recorded path of a source: absolute, so that a resume from another folder finds it."""
    return path if _is_url(path) or path == STDIN else str(expanded(path).absolute())


def sample() -> tuple[str, bytes]:
    """Python's language reference, about 465 KB of English prose included in every Python installation."""
    from pydoc_data.topics import topics

    return SAMPLE.format(sys.version_info), "\n\n".join(topics[k] for k in sorted(topics)).encode("utf-8")


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
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(
            f"The input file {path} is not a whole gzip file: {error}.", "Copy or download it again."
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
        raise InputError(
            f"The input {path} is not UTF-8: byte 0x{data[error.start]:02x} at offset {offset + error.start}.",
            f"Convert it first, for example: iconv -f LATIN1 -t UTF-8 {path} > utf8.txt",
        ) from error
    return text.removeprefix("\ufeff") if offset == 0 else text


def _is_url(path: str) -> bool:
    return path.startswith(("http://", "https://"))


def _read_source(path: str, most: int | None) -> bytes:
    with input_errors(path), _opened(path, most) as stream:
        data = read_source(stream, path, most)
    if not data.strip():
        raise InputError(f"The input {path} is empty.", "Give a file with text in it.")
    return data


@contextmanager
def _opened(path: str, most: int | None) -> Iterator[ByteStream]:
    """The bytes of a source, as they come; those of a `.gz` file unpacked, which may be anything if they are few."""
    with ExitStack() as held:
        if path == STDIN:
            stream = sys.stdin.buffer
        elif _is_url(path):
            stream = held.enter_context(_download(path))
        else:
            stream = held.enter_context(open_regular(expanded(path)))
        if not path.endswith(".gz"):
            yield stream
        else:
            yield Unpacked(stream, path) if most is None else gzip.GzipFile(fileobj=stream)


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
