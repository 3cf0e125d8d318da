"""Reads the text to train on: files, .gz, addresses, standard input, or the sample that Python carries."""

import gzip
import hashlib
import sys
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mypt.errors import InputError
from mypt.schema.files.state import SourceRecord

SAMPLE = "sample: the language reference of Python {0.major}.{0.minor}"
STDIN = "-"


@dataclass(frozen=True)
class Text:
    """The joined text and where it came from.

    Attributes:
        content: the text; sources are joined by a newline.
        sources: one record a source, in order.
        fingerprint: SHA-256 of the content in UTF-8.
    """

    content: str
    sources: tuple[SourceRecord, ...]
    fingerprint: str


def read_text(paths: Sequence[str]) -> Text:
    """Read and join texts; with no path, the embedded sample.

    Args:
        paths: files, `.gz` files, `http(s)://` addresses, or `-` for standard input.

    Raises:
        InputError: a source is missing, a folder, empty, unreachable, or not UTF-8.
    """
    named = [(source_path(p), _read_source(p)) for p in paths] or [sample()]
    content = "\n".join(_decode(path, data) for path, data in named)
    records = tuple(
        SourceRecord(path=path, bytes=len(data), sha256=hashlib.sha256(data).hexdigest()) for path, data in named
    )
    return Text(content, records, fingerprint(content))


def fingerprint(content: str) -> str:
    """SHA-256 of a text in UTF-8."""
    return hashlib.sha256(content.encode("utf-8")).hexdigest()


def source_path(path: str) -> str:
    """How a source is recorded: absolute, so that a resume from another folder finds it."""
    return path if _is_address(path) or path == STDIN else str(Path(path).expanduser().absolute())


def sample() -> tuple[str, bytes]:
    """The text that every Python carries: its own language reference, about 465 KB of English prose."""
    from pydoc_data.topics import topics

    return SAMPLE.format(sys.version_info), "\n\n".join(topics[k] for k in sorted(topics)).encode("utf-8")


def is_sample(path: str) -> bool:
    """Whether a recorded source is the embedded sample."""
    return path.startswith("sample: ")


def _is_address(path: str) -> bool:
    return path.startswith(("http://", "https://"))


def _read_source(path: str) -> bytes:
    if path == STDIN:
        return sys.stdin.buffer.read()
    try:
        data = _download(path) if _is_address(path) else Path(path).expanduser().read_bytes()
        return gzip.decompress(data) if path.endswith(".gz") else data
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(f"The input file {path} does not exist.", "Check the path and its spelling.") from error
    except IsADirectoryError as error:
        raise InputError(
            f"The input {path} is a folder, not a file.",
            f"Give the files in it, each by its own --input-file, for example --input-file {path}/FILE.txt.",
        ) from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(
            f"The input file {path} is not a whole gzip file: {error}.", "Copy or download it again."
        ) from error
    except OSError as error:
        raise InputError(
            f"The input file {path} cannot be read: {error.strerror or error}.", "Check that you may read it."
        ) from error


def _download(address: str) -> bytes:
    import fsspec

    try:
        with fsspec.open(address, "rb") as response:
            data: bytes = response.read()
            return data
    except Exception as error:  # fsspec passes on whatever its HTTP client raises
        raise InputError(
            f"{address} cannot be fetched: {type(error).__name__}: {error}.",
            "Check the address and the connection, or download the text and give the file.",
        ) from error


def _decode(path: str, data: bytes) -> str:
    if not data.strip():
        raise InputError(f"The input {path} is empty.", "Give a text with something in it.")
    try:
        return data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise InputError(
            f"The input {path} is not UTF-8: byte 0x{data[error.start]:02x} at offset {error.start}.",
            f"Convert it first, for example: iconv -f LATIN1 -t UTF-8 {path} > utf8.txt",
        ) from error
