"""What a file is, told by its name and by its first bytes: known, or refused by name."""

import json
import re
from dataclasses import dataclass
from pathlib import PurePath
from shlex import quote

from mypt.errors import InputError
from mypt.schema.files.prepare_plan import Form, Packing

FORMS: dict[str, Form] = {
    ".txt": "text", ".text": "text", ".md": "text", ".json": "json", ".jsonl": "jsonl", ".ndjson": "jsonl",
    ".csv": "csv", ".tsv": "tsv", ".tab": "tsv", ".parquet": "parquet",
}  # fmt: skip
"""What the suffix of a name says, in whatever case."""
PACKINGS: dict[str, Packing] = {
    ".gz": "gz", ".gzip": "gz", ".bz2": "bz2", ".xz": "xz", ".zst": "zst", ".zstd": "zst",
}  # fmt: skip
PARQUET = b"PAR1"
ZERO_SHARE = 32
"""Bytes that are no text have more zeros than one in so many."""

_PACKED: dict[Packing, re.Pattern[bytes]] = {
    "gz": re.compile(rb"\x1f\x8b"),
    "bz2": re.compile(rb"BZh[1-9](1AY&SY|\x17rE8P\x90)"),
    "xz": re.compile(rb"\xfd7zXZ\x00"),
    "zst": re.compile(rb"(\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18)"),  # a frame, or one of those that are passed over
}
_OTHERS = {
    b"PK\x03\x04": "a zip archive, as .docx, .xlsx, .epub and .npz are too", b"PK\x05\x06": "an empty zip archive",
    b"%PDF-": "a PDF document", b"7z\xbc\xaf\x27\x1c": "a 7z archive", b"Rar!\x1a\x07": "a RAR archive",
    b"\x93NUMPY": "an array of NumPy", b"\x89PNG": "a PNG image", b"\xff\xd8\xff": "a JPEG image",
    b"GIF87a": "a GIF image", b"GIF89a": "a GIF image", b"\x7fELF": "a program", b"ARROW1\x00\x00": "an Arrow file",
    b"SQLite format 3\x00": "an SQLite database", b"{\\rtf": "an RTF document",
    b"\xd0\xcf\x11\xe0": "an old Office document", b"\x89HDF": "an HDF5 file",
    b"\x1f\x9d": "packed by compress (.Z)", b"\x04\x22\x4d\x18": "packed by lz4", b"LZIP\x01": "packed by lzip",
    b"\x89LZO": "packed by lzop", b"\xff\x06\x00\x00sNaPpY": "packed by snappy", b"\x5d\x00\x00": "packed as .lzma",
}  # fmt: skip
_MARKS = {
    b"\xff\xfe\x00\x00": "UTF-32LE", b"\x00\x00\xfe\xff": "UTF-32BE", b"\xff\xfe": "UTF-16LE", b"\xfe\xff": "UTF-16BE",
}  # fmt: skip
_TAR_MAGIC = slice(257, 262)


@dataclass(frozen=True)
class Kind:
    """What an input is: its form once it is unpacked, and how it is packed."""

    form: Form
    packing: Packing | None


def named_form(name: str) -> Form | None:
    """The form that a name says, without the suffix of its packing; None if it says nothing."""
    path = PurePath(name.lower())
    return FORMS.get(PurePath(path.stem).suffix if path.suffix in PACKINGS else path.suffix)


def packing_of(name: str, head: bytes) -> Packing | None:
    """How an input is packed: by its first bytes, whatever its name says.

    Raises:
        InputError: its name says that it is packed, and its first bytes are another thing.
    """
    found = _packed(head)
    suffix = PurePath(name).suffix.lower()
    if found is None and head and suffix in PACKINGS:
        raise InputError(
            f"The input {name} is named as {suffix[1:]} and is none: it begins with {_shown(head)}.",
            "Copy or download it again, or give it the name of what it is.",
        )
    return found


def form_of(name: str, head: bytes) -> Form:
    """The form of an input: by its name, or by its first bytes, unpacked, where that says nothing."""
    if head.startswith(PARQUET):
        return "parquet"
    return named_form(name) or _form_of_content(head)


def check_text(name: str, head: bytes) -> None:
    """Refuse what is known by its first bytes to be neither text in UTF-8 nor Parquet.

    Raises:
        InputError: it is.
    """
    if head.startswith(PARQUET):
        return
    if inner := _packed(head):
        raise _no_text(name, f"packed twice, by {inner} within")
    for magic, what in _OTHERS.items():
        if head.startswith(magic):
            raise _no_text(name, what)
    if head[_TAR_MAGIC] == b"ustar":
        raise _no_text(name, "a tar archive")
    if encoding := _wide_encoding(head):
        raise InputError(
            f"The input {name} is in {encoding}, not in UTF-8.",
            f"Convert it first, for example: iconv -f {encoding} -t UTF-8 {quote(name)} > utf8.txt",
        )
    if head.count(0) * ZERO_SHARE > len(head):
        raise _no_text(name, "binary: every text is free of zero bytes, and it has many")


def _packed(head: bytes) -> Packing | None:
    return next((packing for packing, start in _PACKED.items() if start.match(head)), None)


def _no_text(name: str, what: str) -> InputError:
    return InputError(f"The input {name} is no text but {what}.", "Give the text in it as a file of its own.")


def _wide_encoding(head: bytes) -> str | None:
    """UTF-16 or UTF-32 by the byte order mark, or by the zeros that most letters have in it."""
    for mark, encoding in _MARKS.items():
        if head.startswith(mark):
            return encoding
    zeros = [head[i::4].count(0) * 4 > 3 * len(head) // 4 for i in range(4)]  # in three of four places
    if len(head) < 8 or not any(zeros):
        return None
    patterns = {(1, 3): "UTF-16LE", (0, 2): "UTF-16BE", (1, 2, 3): "UTF-32LE", (0, 1, 2): "UTF-32BE"}
    return patterns.get(tuple(i for i in range(4) if zeros[i]))


def _form_of_content(head: bytes) -> Form:
    """JSON lines or a list of JSON objects, if the text begins as one; else plain text."""
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if re.match(rb"\[\s*\{", start):
        return "json"
    line = start.split(b"\n", 1)[0]
    if not line.startswith(b"{"):
        return "text"
    try:
        return "jsonl" if isinstance(json.loads(line), dict) else "text"
    except (ValueError, RecursionError):
        return "text"


def guessed_encoding(data: bytes) -> str | None:
    """The encoding that bytes that are not UTF-8 most likely have, by a name that iconv knows; None if nothing tells.

    It is a Western one only if most letters are ASCII, as there: other scripts have none in their words.
    """
    if encoding := _wide_encoding(data[: 1 << 16]):
        return encoding
    letters = sum(bytes((byte,)).isalpha() for byte in data[: 1 << 16])
    if sum(byte >= 0x80 for byte in data[: 1 << 16]) > letters:
        return None
    try:
        data.decode("cp1252")
    except UnicodeDecodeError:
        return "LATIN1"
    return "WINDOWS-1252" if any(0x80 <= byte < 0xA0 for byte in data) else "LATIN1"


def _shown(head: bytes) -> str:
    return repr(head[:8])[1:]
