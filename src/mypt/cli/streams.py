"""Standard output and standard error, on which the work of a verb never depends."""

import errno
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader, BufferedWriter, FileIO, TextIOWrapper
from typing import Any

from mypt.errors import OutputError, ReaderLeftError

READER_LEFT = {errno.EPIPE, errno.EINVAL} if os.name == "nt" else {errno.EPIPE}
"""What a system says of a pipe that nobody reads any more."""


class Output(TextIOWrapper):
    """A stream in UTF-8 whatever the system's own encoding; what it cannot write is left out from then on.

    Where it is needed, the main thread hears of that by one error; threads that draw never do.

    Args:
        stream: of Python, whose place it takes; None where that was closed.
        fd: its number.

    Attributes:
        replaced: that stream, whose end would close what both write to.
        needed: whether the verb has nothing to do but to show.
        lost: why nothing can be written any more; None while it can.
    """

    def __init__(self, stream: Any, fd: int, *, needed: bool) -> None:
        closed = stream is None
        super().__init__(
            BufferedWriter(FileIO(fd, "w", closefd=False)) if closed else stream.buffer,
            encoding="utf-8",
            errors="replace",
            line_buffering=not closed and stream.line_buffering,
            write_through=not closed and stream.write_through,
        )
        self.replaced = stream
        self.needed = needed
        self.lost: str | None = None
        self._untold: OutputError | None = None

    def write(self, text: str, /) -> int:
        """Write what can be written.

        Raises:
            OutputError: it cannot, and is needed.
        """
        if text != "":  # by which libraries look whether a stream takes text, and pass over its errors
            with self._giving_up():
                super().write(text)
        return len(text)

    def flush(self) -> None:
        """Flush; raises as `write`."""
        with self._giving_up():
            super().flush()

    @contextmanager
    def _giving_up(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:  # a stream that is closed is a wrong value to Python
            self._give_up(error)
        if self._untold is not None and threading.current_thread() is threading.main_thread():
            untold, self._untold = self._untold, None
            raise untold

    def _give_up(self, error: OSError | ValueError) -> None:
        if self.lost is not None:
            return
        self.lost = getattr(error, "strerror", None) or str(error)
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())  # where Python's last flush succeeds too
        if self.needed:
            kind = ReaderLeftError if getattr(error, "errno", None) in READER_LEFT else OutputError
            todo = "Send it to a place that takes it, or leave out the redirection."
            self._untold = kind(f"Standard output cannot be written: {self.lost}.", todo)
        elif self is not sys.stderr:
            sys.stderr.write(f"Nothing more is shown here ({self.lost}); the work goes on.\n")


def install() -> None:
    """Let standard output and error be an `Output` each, and a stream that is closed one that cannot be used."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:  # what is opened next would have its number, and get what is printed
            os.open(os.devnull, os.O_RDONLY)
    sys.stdin = sys.stdin or TextIOWrapper(BufferedReader(FileIO(0, closefd=False)), encoding="utf-8")
    sys.stderr, sys.stdout = Output(sys.stderr, 2, needed=False), Output(sys.stdout, 1, needed=True)


def go_on_without_output() -> None:
    """Let the verb that is called do its work to the end where nothing can be shown."""
    if isinstance(sys.stdout, Output):
        sys.stdout.needed = False


def lost_output(stream: object) -> str | None:
    """Why nothing can be shown on a stream any more; None while it can."""
    return stream.lost if isinstance(stream, Output) else None
