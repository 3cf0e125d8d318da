"""Cuts a plain text into its documents, and long ones into pieces, where tokens end anyway."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader

from mypt.data.streams import ByteStream
from mypt.schema.files.tokenizer import END_OF_TEXT

SIGHT_BYTES = 2**20
"""A document is cut only if it has more bytes."""
PIECE_BYTES = 8 * 2**10
"""Minimum size of a piece, except for the last piece of a document."""
LOOKAHEAD_BYTES = 16 * 2**10
"""The best place to cut is looked for in so many bytes."""
LONGEST_BYTES = 16 * 2**20
"""A text that has no blank for so long is cut anywhere."""
BLOCK_BYTES = 2**20
MARKER = END_OF_TEXT.encode("utf-8")

_SPACES = (
    rb"[\t-\r ]", rb"\xc2[\x85\xa0]", rb"\xe1\x9a\x80", rb"\xe2\x80[\x80-\x8a\xa8\xa9\xaf]", rb"\xe2\x81\x9f",
    rb"\xe3\x80\x80",
)  # fmt: skip
"""The characters of Unicode's White_Space in UTF-8, as in the tokenizers' pattern."""


def _after_text(found: bytes) -> bytes:
    """Pattern that holds behind `found` where the character before it is no whitespace."""
    return b"".join(b"(?<!" + space + found + b")" for space in _SPACES)


_FIRST_LINE_END = b"(?:" + _after_text(rb"\n") + rb"|(?<=\r\n)" + _after_text(rb"\r\n") + b")"
_BEST_CUTS = (
    re.compile(rb"\n(?=\r?\n)" + _FIRST_LINE_END),
    re.compile(rb"\n" + _FIRST_LINE_END),
    re.compile(b" " + _after_text(b" ")),
)
"""Places to cut, best first: a blank line, the end of a line, a space; each the first whitespace after a word."""
_ANY_CUT = re.compile(b"|".join(space + _after_text(space) for space in _SPACES))
_CONTINUATION = re.compile(rb"[\x80-\xbf]*")


@dataclass(frozen=True, slots=True)
class Chunk:
    """Bytes of one document, with the marker after it if there is one.

    Attributes:
        data: the bytes.
        begins: whether the document begins with them.
        ends: whether it ends with them.
    """

    data: bytes
    begins: bool
    ends: bool


def boundary(file: BufferedReader, nominal: int, size: int) -> int:
    """Actual boundary of two ranges of a file near a nominal one, where the file may be cut.

    It depends only on the file, so that neighboring ranges agree on it.
    """
    if nominal == 0 or nominal >= size:
        return min(nominal, size)
    back = min(nominal, len(MARKER) - 1)
    file.seek(nominal - back)
    ahead = _Ahead(file, size - nominal + back)
    return nominal - back + (ahead.document(SIGHT_BYTES + back) or ahead.piece(back))


def cut(file: ByteStream, length: int, *, midway: bool, to_the_end: bool, cut_all: bool) -> Iterator[Chunk]:
    """Cut the next bytes of a file, reading incrementally.

    Args:
        file: the file.
        length: bytes at most.
        midway: whether they begin inside a document.
        to_the_end: whether they reach to the end of the file, which is the end of a document.
        cut_all: whether the document that they begin with is cut however short it is, if no marker is in sight.
    """
    ahead = _Ahead(file, length)
    whole = to_the_end and not cut_all
    while ahead.see(1):
        size = 0 if midway else ahead.document(SIGHT_BYTES, closed=whole)
        data = ahead.take(size or ahead.piece(PIECE_BYTES))
        ends = data.endswith(MARKER) or (to_the_end and not ahead.see(1))
        yield Chunk(data, not midway, ends)
        midway, whole = not ends, whole or (ends and to_the_end)


class _Ahead:
    """The bytes that follow in a file, read as far as they are looked at; each is searched for a marker once."""

    def __init__(self, file: ByteStream, length: int) -> None:
        self._file, self._left = file, length
        self._data, self._at = b"", 0
        self._end, self._searched = -1, 0

    def see(self, size: int) -> bool:
        """Read until `size` bytes lie ahead; False if there are fewer."""
        while self._seen < size and self._left:
            block = self._file.read(min(max(BLOCK_BYTES, size - self._seen), self._left))
            self._left = self._left - len(block) if block else 0
            self._data = self._data[self._at :] + block
            self._searched, self._end, self._at = self._searched - self._at, self._end - self._at, 0
        return self._seen >= size

    def take(self, size: int) -> bytes:
        """Pass over the next bytes."""
        self._at += size
        return self._data[self._at - size : self._at]

    def document(self, most: int, *, closed: bool = True) -> int:
        """Bytes to the end of the document, a marker or, if it is `closed`, the end of all; 0 if there are more."""
        if not (end := self._marked()):
            self.see(most + 1)
            end = self._marked() or (self._seen if closed else 0)
        return end if end <= most else 0

    def piece(self, minimum: int) -> int:
        """Bytes to the first good place to cut after the minimum, or to the end of the document before it."""
        for lookahead, patterns in ((LOOKAHEAD_BYTES, _BEST_CUTS), (LONGEST_BYTES, (_ANY_CUT,))):
            most = minimum + lookahead
            self.see(most + len(MARKER))
            end = self._marked() or self._seen
            for pattern in patterns:
                if match := pattern.search(self._data, self._at + minimum + 1, self._at + min(end, most)):
                    return match.start() - (self._data[match.start() - 1] == ord("\r")) - self._at
            if end < most + len(MARKER):
                return end
        border = _CONTINUATION.match(self._data, self._at + most)
        return (border.end() if border else len(self._data)) - self._at

    @property
    def _seen(self) -> int:
        return len(self._data) - self._at

    def _marked(self) -> int:
        """Bytes to the end of the next marker, among those that were read; 0 if there is none."""
        if self._end <= self._at:
            start = max(self._searched - len(MARKER) + 1, self._at)
            found = self._data.find(MARKER, start)
            self._end = found + len(MARKER) if found >= 0 else 0
            self._searched = self._end or len(self._data)
        return max(self._end - self._at, 0)
