"""The directory of a .pt file, which is a ZIP archive: where each of its entries lies, checked against the file."""

import struct
from dataclasses import dataclass
from typing import BinaryIO

_END = struct.Struct("<4s4H2LH")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")
_RECORD = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_STORED = 0
_FLAGS = 0x808
"""Flags that torch sets: the name is UTF-8, and the checksum follows the data."""
_LONGEST_DESCRIPTOR = 24
_FULL = 0xFFFFFFFF
"""Stands for a size or place that needs 64 bits, which then follow in the record's extra field."""


@dataclass(frozen=True, slots=True)
class Entry:
    """The bytes of one entry."""

    start: int
    size: int


def read_directory(file: BinaryIO, size: int) -> dict[str, Entry]:
    """The entries of an archive by name, in the order in which they lie in it.

    An archive as torch writes it has nothing compressed, no gap, and no byte that belongs to two entries, so that its
    entries together are never larger than the file.

    Raises:
        ValueError: this is no such archive.
    """
    start, end, count = _place(file, size)
    if not 0 <= start <= end <= size or count * _RECORD.size > end - start:
        raise ValueError("its directory does not lie within it")
    file.seek(start)
    listing, at = file.read(end - start), 0
    entries: dict[str, Entry] = {}
    expected = 0
    for _ in range(count):
        name, begin, length, at = _record(listing, at)
        if name in entries:
            raise ValueError("two of its entries have one name")
        if not expected <= begin <= expected + (_LONGEST_DESCRIPTOR if entries else 0):
            raise ValueError("its entries do not follow one another")
        entry = Entry(_data_start(file, begin, name), length)
        expected = entry.start + length
        entries[name] = entry
    if at != len(listing) or not expected <= start <= expected + _LONGEST_DESCRIPTOR:
        raise ValueError("its entries do not add up to its size")
    return entries


def _place(file: BinaryIO, size: int) -> tuple[int, int, int]:
    """Where the directory starts and ends, and how many entries it has."""
    file.seek(max(0, size - _END.size))
    end = file.read(_END.size)
    if len(end) < _END.size or not end.startswith(b"PK\5\6"):
        raise ValueError("it does not end as an archive of tensors does")
    *_, count, length, start, comment = _END.unpack(end)
    place = size - _END.size
    file.seek(max(0, place - _LOCATOR.size))
    locator = file.read(_LOCATOR.size)
    if locator.startswith(b"PK\6\7"):
        place -= _LOCATOR.size + _END_64.size
        file.seek(max(0, place))
        record = file.read(_END_64.size)
        if place < 0 or not record.startswith(b"PK\6\6") or _LOCATOR.unpack(locator)[2] != place:
            raise ValueError("the end of its directory is damaged")
        *_, count, length, start = _END_64.unpack(record)
    if start + length != place or comment:
        raise ValueError("its directory does not end where it says")
    return start, place, count


def _record(listing: bytes, at: int) -> tuple[str, int, int, int]:
    """Name, place and size of the entry whose record is at `at`, and where the next one is."""
    if len(listing) - at < _RECORD.size:
        raise ValueError("its directory is cut off")
    kind, _, _, flags, method, *_, packed, length, named, extra, comment, disk, _, _, begin = _RECORD.unpack_from(
        listing, at
    )
    at += _RECORD.size
    name, fields, at = listing[at : at + named], listing[at + named : at + named + extra], at + named + extra + comment
    if method != _STORED:
        raise ValueError("it is compressed, which no bundle is")
    length, packed, begin = _wide(fields, length, packed, begin)
    if kind != b"PK\1\2" or flags & ~_FLAGS or packed != length or disk or at > len(listing):
        raise ValueError("its directory is damaged")
    return name.decode("utf-8"), begin, length, at


def _wide(fields: bytes, *values: int) -> list[int]:
    """Values of a record, with those that need 64 bits from its extra field."""
    wide: list[int] = []
    while len(fields) >= 4:
        kind, length = struct.unpack_from("<2H", fields)
        if kind == 1:
            wide = [n for (n,) in struct.iter_unpack("<Q", fields[4 : 4 + length // 8 * 8])]
        fields = fields[4 + length :]
    following = iter(wide)
    return [next(following, value) if value == _FULL else value for value in values]


def _data_start(file: BinaryIO, begin: int, name: str) -> int:
    """Where the data of an entry starts, whose own head has to agree with the directory."""
    file.seek(begin)
    head = file.read(_LOCAL.size)
    if len(head) < _LOCAL.size or not head.startswith(b"PK\3\4"):
        raise ValueError("an entry does not lie where its directory says")
    *_, named, extra = _LOCAL.unpack(head)
    if file.read(named) != name.encode("utf-8"):
        raise ValueError("an entry has another name than in its directory")
    start: int = begin + _LOCAL.size + named + extra
    return start
