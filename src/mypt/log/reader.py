"""Reads a log: line after line becomes an event that fits its model, or is counted as skipped."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from struct import Struct
from struct import error as StructError
from typing import Any, BinaryIO

from pydantic import ValidationError
from pydantic_core import from_json

from mypt.errors import InputError
from mypt.regular import open_regular
from mypt.schema.files.events import EVENTS
from mypt.schema.files.log_line import unspelled

SHAPES = 1024
"""Shapes of lines to remember; a log has about one for each event, and one more where a loss is missing."""
_SCALARS = frozenset({str, int, float, bool, type(None)})
Pick = Callable[[dict[str, Any]], tuple[int, ...]]
Pack = Callable[..., bytes]


@dataclass(kw_only=True)
class SkippedLines:
    """Lines of a log that are no events: what a crash, a full disk or another program left in it.

    Attributes:
        torn: lines that begin as an object and are not one.
        foreign: other text, JSON that is no object, and objects that are no event with the fields it needs.
        binary: lines that are not UTF-8 text.
    """

    torn: int = 0
    foreign: int = 0
    binary: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.torn + self.foreign + self.binary

    def count(self, line: bytes) -> None:
        """Count a line that is no JSON."""
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError:
            text = "\0"
        if "\0" in text:
            self.binary += 1
        elif text.lstrip().startswith("{"):
            self.torn += 1
        else:
            self.foreign += 1


def read_events(
    path: Path, skipped: SkippedLines | None = None, *, size: int | None = None, containing: bytes = b""
) -> Iterator[dict[str, Any]]:
    """The events of a log as JSON objects, one at a time, however long it is.

    Args:
        path: the log.
        skipped: counts the lines that are no events.
        size: bytes of the log to read; all of them where nothing is said.
        containing: only lines with these bytes are looked at.

    Raises:
        InputError: the log cannot be read.
    """
    parse = LineParser(SkippedLines() if skipped is None else skipped).parse
    left = sys.maxsize if size is None else size
    with reading(path) as log:
        for line in log:
            left -= len(line)
            if containing in line:
                event = parse(line if left >= 0 else line[:left])
                if event is not None:
                    yield event
            if left <= 0:
                return


@contextmanager
def reading(path: Path) -> Iterator[BinaryIO]:
    """A log, open to be read.

    Raises:
        InputError: it cannot be read.
    """
    try:
        with open_regular(path, buffering=1 << 20) as log:
            yield log
    except OSError as error:
        raise InputError(
            f"The log {path} cannot be read: {error.strerror}.", "Give the path of a log, or the name of a model."
        ) from error


def whole_bytes(path: Path) -> int:
    """The size of a log up to its last whole line.

    Raises:
        InputError: the log cannot be read.
    """
    with reading(path) as log:
        size = log.seek(0, os.SEEK_END)
        while size:
            start = max(0, size - 4096)
            log.seek(start)
            if (end := log.read(size - start).rfind(b"\n")) >= 0:
                return start + end + 1
            size = start
    return 0


class LineParser:
    """Turns lines into events, each checked by its model.

    What a model says of an event without nested values follows from its name, its keys, the types of its values and
    the size of its whole numbers. So the model is asked once for each such shape, and the answer is remembered.

    Args:
        skipped: counts the lines that are no events.
    """

    def __init__(self, skipped: SkippedLines) -> None:
        self.skipped = skipped
        self._fitting: dict[tuple[object, ...], tuple[Pick, Pack]] = {}
        """For each shape that fits, what picks the whole numbers of such an event, and fails if one is too long."""

    def parse(self, line: bytes) -> dict[str, Any] | None:
        """The event of one line; None for a blank line, and for one that is no event, which is counted."""
        try:
            content = _decoded(line)
        except ValueError:
            if line.strip():
                self.skipped.count(line)
            return None
        if type(content) is dict and type(name := content.get("event")) is str:
            shape = (name, *content, *map(type, content.values()))
            if (known := self._fitting.get(shape)) is not None:
                pick, pack = known
                try:
                    pack(*pick(content))
                    return content
                except StructError:
                    pass  # a whole number of more than 64 bits
            elif _fits(name, whole := unspelled(content)):
                if whole is content:
                    self._remember(shape, content)
                return whole
        self.skipped.foreign += 1
        return None

    def _remember(self, shape: tuple[object, ...], content: dict[str, Any]) -> None:
        wholes = [key for key, value in content.items() if type(value) is int]
        if not wholes or not _SCALARS.issuperset(map(type, content.values())):
            return
        if len(self._fitting) >= SHAPES:
            self._fitting.clear()
        pick = itemgetter(wholes[0], *wholes)  # of one key alone it would not pick a tuple
        self._fitting[shape] = pick, Struct(f"{len(wholes) + 1}q").pack


def _decoded(line: bytes) -> Any:
    """The JSON value of a line.

    Raises:
        ValueError: it is none.
    """
    try:
        return from_json(line)
    except ValueError:
        if b"\\ud" not in line:
            raise
        return json.loads(line)  # takes the escape of a lone surrogate, as the writer has it


def _fits(name: str, content: dict[str, Any]) -> bool:
    try:
        EVENTS[name].model_validate(content, strict=True)
    except (KeyError, ValidationError):
        return False
    return True
