"""Opens regular files alone: what else has a name may never end, such as a device, a pipe or a socket."""

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
"""A pipe that nobody writes to is opened at once, and then refused."""


def expanded(path: str | Path) -> Path:
    """A path in which `~` at the start is the home of the user, and `~name` of one that the system knows."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - of an unknown name, Path.expanduser raises


class NotRegularError(OSError):
    """There is something of this name, and it is neither a file nor a folder."""

    def __init__(self, path: Path) -> None:
        super().__init__(errno.EINVAL, "it is a device, a pipe or a socket, not a file", str(path))


def open_regular(path: Path, buffering: int = 1 << 16) -> BufferedReader:
    """Open a file to be read as bytes.

    Raises:
        OSError: it is no regular file, or the system refuses.
    """
    try:
        handle = os.open(path, _FLAGS)
    except ValueError as error:
        raise OSError(errno.EINVAL, f"it has no name that a file can have ({error})", str(path)) from error
    mode = os.fstat(handle).st_mode
    if stat.S_ISREG(mode):
        return BufferedReader(os.fdopen(handle, "rb", buffering=0), buffering)
    os.close(handle)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder", str(path))
    raise NotRegularError(path)


def read_regular(path: Path) -> bytes:
    """The bytes of a file; raises as `open_regular`."""
    with open_regular(path) as file:
        return file.read()
