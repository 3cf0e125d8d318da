"""The log of a run: JSON events, one a line, appended and flushed, never rewritten."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import orjson

from mypt.checkpoint.atomic import storage_errors
from mypt.errors import InputError
from mypt.schema.kinds import fits, start_fits

if TYPE_CHECKING:
    from mypt.schema.files.events import Event

_NOTHING = object()


class RunLog:
    """Appends events to a run's log.

    Args:
        path: the log; its folder is made when the first event is written.
        run_id: names the run in each of its lines.
        attempt: number of the session, from 1.
    """

    def __init__(self, path: Path, run_id: str | None = None, attempt: int = 1) -> None:
        self.path = path
        self.run_id = run_id
        self.attempt = attempt

    def append(self, event: "Event") -> None:
        """Write one event as one line, flushed to the disk, after closing a line that a crash left torn.

        Raises:
            StorageError: the disk refused.
        """
        content = {**event.model_dump(mode="json"), "run_id": self.run_id, "attempt": self.attempt}
        line = json.dumps(content, ensure_ascii=False)
        with storage_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab+") as log:
                if log.tell() and not _ends_whole(self.path):
                    log.write(b"\n")
                log.write(line.encode("utf-8") + b"\n")
                log.flush()
                os.fsync(log.fileno())


@dataclass
class PassedOver:
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
        """Count a line that does not parse."""
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


def latest_attempt(path: Path, run_id: str | None) -> int:
    """The highest session number that a run has used in a log; 0 where there is none, or no log."""
    found = (e.get("attempt") for e in (events(path) if path.is_file() else ()) if e.get("run_id") == run_id)
    return max((n for n in found if isinstance(n, int)), default=0)


def events(path: Path, passed: PassedOver | None = None) -> Iterator[dict[str, Any]]:
    """The events of a log, one at a time, however long it is.

    Args:
        path: the log.
        passed: counts the lines that are no events.

    Raises:
        InputError: the log cannot be read.
    """
    parse = LineParser(PassedOver() if passed is None else passed).parse
    with reading(path) as log:
        yield from (event for event in map(parse, log) if event is not None)


@contextmanager
def reading(path: Path) -> Iterator[BinaryIO]:
    """A log, open to be read.

    Raises:
        InputError: it cannot be read.
    """
    try:
        with path.open("rb", buffering=1 << 20) as log:
            yield log
    except OSError as error:
        raise InputError(
            f"The log {path} cannot be read: {error.strerror}.", "Give the path of a log, or the name of a model."
        ) from error


class LineParser:
    """Turns lines into events.

    Args:
        passed: counts the lines that are no events.
    """

    def __init__(self, passed: PassedOver) -> None:
        self.passed = passed
        self._good: list[Any] = []
        """Keys and kinds of the latest evaluation: the next one mostly has the same, and needs no other look."""

    def parse(self, line: bytes) -> dict[str, Any] | None:
        """The event of one line; None for a blank line, and for one that is no event, which is counted."""
        try:
            content = orjson.loads(line)
        except ValueError:
            content = self._loose(line)
        try:
            name = content["event"]
            shape = [*content, *map(type, content.values())]
            if name == "eval" and shape == self._good:
                return cast("dict[str, Any]", content)
            if fits(name, tuple(content), tuple(map(type, content.values()))) and _starts_well(content):
                self._good = shape if name == "eval" else self._good
                return cast("dict[str, Any]", content)
        except (KeyError, TypeError, IndexError):  # no object, or one that is named by no text
            pass
        self.passed.foreign += content is not _NOTHING
        return None

    def _loose(self, line: bytes) -> Any:
        """What JSON's own words do not cover: NaN and Infinity, which Python writes; _NOTHING for no JSON at all."""
        try:
            return json.loads(line, parse_int=_whole)
        except (ValueError, RecursionError):
            if line.strip():
                self.passed.count(line)
            return _NOTHING


def _starts_well(content: dict[str, Any]) -> bool:
    return content["event"] != "training_start" or start_fits(content["config"])


def _whole(digits: str) -> int | float:
    """A number as long as any that a run writes stays whole; a longer one is none of its steps or tokens."""
    return int(digits) if len(digits) < 19 else float(digits)


def _ends_whole(path: Path) -> bool:
    with path.open("rb") as log:
        log.seek(-1, 2)
        return log.read(1) == b"\n"
