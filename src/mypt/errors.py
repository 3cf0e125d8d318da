"""The errors that mypt raises.

MyptError                a failure; exit code 1
├── BundleError          a bundle is missing or damaged
├── StorageError         the disk is full or read-only
├── ExportError          a bundle cannot be exported
├── BusyError            another process holds the lock
├── ShortOfMemoryError   there is not enough memory
├── ProcessError         a process of a run on several failed, hangs or is lost
├── DivergedError        a loss, a gradient or a prediction is not finite
├── OutputError          standard output cannot be written
│   └── ReaderLeftError  its reader has ended; exit code 141
└── UsageError           the call is wrong; exit code 2
....├── ConfigError      invalid settings, all listed at once
....├── InputError       the text or token input is unusable
....├── DeviceError      the requested device is not available
....└── ConflictError    the call contradicts the recorded run
"""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


class MyptError(Exception):
    """An error with a message for the user.

    Args:
        what: one sentence: what is wrong, and where.
        todo: one sentence: what to do about it.
        details: further lines, for example one for each invalid setting.
    """

    exit_code = 1

    def __init__(self, what: str, todo: str, details: Sequence[str] = ()) -> None:
        super().__init__("\n".join([what, *details, todo]))
        self.what = what
        self.todo = todo
        self.details = tuple(details)

    def __reduce__(self) -> tuple[type["MyptError"], tuple[str, str, tuple[str, ...]], dict[str, object]]:
        """Support pickling, so that processes can pass errors on, with their notes."""
        return type(self), (self.what, self.todo, self.details), vars(self)


class BundleError(MyptError):
    """A file of a bundle is missing or damaged."""


class StorageError(MyptError):
    """A file cannot be written."""


class ExportError(MyptError):
    """A bundle cannot be exported without loss."""


class BusyError(MyptError):
    """Another process holds the lock on the files to be written."""


class ShortOfMemoryError(MyptError):
    """There is not enough memory, on the host or on a GPU."""


class ProcessError(MyptError):
    """A process of a run on several has failed, hangs or is lost."""


class DivergedError(MyptError):
    """A loss, a gradient or a prediction is not finite; no weights were updated with it."""


class OutputError(MyptError):
    """Standard output cannot be written."""


class ReaderLeftError(OutputError):
    """The program that reads standard output has ended, which is how it says that it has enough."""

    exit_code = 141


class UsageError(MyptError):
    """The call is wrong; nothing was started."""

    exit_code = 2


class ConfigError(UsageError):
    """One or more settings are invalid; `details` lists them."""


class InputError(UsageError):
    """An input is missing, empty, unreadable or too short."""


class DeviceError(UsageError):
    """The requested device is not available on this machine."""


class ConflictError(UsageError):
    """The call contradicts the recorded run; `details` lists every difference."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """End of a sentence about an unknown name: `; did you mean X?` if a known one is close, else a period."""
    close = get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else "."
