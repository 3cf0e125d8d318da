"""Every error that mypt raises on purpose.

MyptError                a failure while working; exit code 1
├── BundleError          a checkpoint is missing or damaged
├── StorageError         the disk is full or read-only
├── ExportError          a bundle cannot be exported
├── BusyError            another process is writing under this name
├── DivergedError        a loss or gradient is not finite
└── UsageError           the call itself is wrong; exit code 2
....├── ConfigError      settings are wrong, all listed at once
....├── InputError       the text or token input is unusable
....├── DeviceError      the device asked for is not here
....└── ConflictError    the call contradicts the recorded run
"""

from collections.abc import Sequence


class MyptError(Exception):
    """An error that speaks to the user: what is wrong and where, then what to do.

    Args:
        what: one sentence on what is wrong and where.
        todo: one sentence on what to do about it.
        details: further lines, for example one for each wrong setting.
    """

    exit_code = 1

    def __init__(self, what: str, todo: str, details: Sequence[str] = ()) -> None:
        super().__init__("\n".join([what, *details, todo]))
        self.what = what
        self.todo = todo
        self.details = tuple(details)

    def __reduce__(self) -> tuple[type["MyptError"], tuple[str, str, tuple[str, ...]]]:
        """An error passes whole from a worker process to the one that tells it."""
        return type(self), (self.what, self.todo, self.details)


class BundleError(MyptError):
    """A checkpoint bundle is missing a file, or a file of it cannot be read."""


class StorageError(MyptError):
    """The disk refuses to take what must be written."""


class ExportError(MyptError):
    """A bundle cannot be exported without losing what it holds."""


class BusyError(MyptError):
    """Another process is writing what this call would write."""


class DivergedError(MyptError):
    """A loss or gradient is not finite; the weights were not touched by it."""


class UsageError(MyptError):
    """The call itself is wrong; nothing was started."""

    exit_code = 2


class ConfigError(UsageError):
    """One or more settings are wrong; `details` names each of them."""


class InputError(UsageError):
    """The input text is missing, empty, unreadable or too short."""


class DeviceError(UsageError):
    """The device asked for is not available on this machine."""


class ConflictError(UsageError):
    """The call contradicts what the recorded run is; `details` lists every difference."""
