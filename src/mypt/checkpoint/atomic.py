"""Whole or absent: a folder is written aside, flushed to disk, and switched into place in one move."""

import errno
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from mypt.errors import BundleError, MyptError, StorageError

RECOVER_TRIES = 10
RECOVER_PAUSE_S = 0.05
"""A process that is alive takes far less than these pauses from its first rename to its second."""
READ_TRIES = 20
_Found = TypeVar("_Found")
_REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the disk is read-only",
    errno.EACCES: "writing there is not permitted",
    errno.EPERM: "writing there is not permitted",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.EEXIST: "a file of that name is in the way",
}


@contextmanager
def storage_errors(path: Path, options: str = "--out-dir or --log-file") -> Iterator[None]:
    """Turn an operating system's refusal to write into a `StorageError` that names `path` and what moves it."""
    try:
        yield
    except OSError as error:
        reason = _REASONS.get(error.errno or 0, error.strerror or str(error))
        raise StorageError(
            f"{path} cannot be written: {reason}.",
            f"Make room or choose another place with {options}, then call again.",
        ) from error


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yield an empty folder; when the block ends well it takes the place of `target`, whole.

    Until then, and whenever the block fails, `target` stays as it was. Where the operating system can
    exchange two names (Linux, macOS) there is no instant without a whole `target`; elsewhere there is one
    between two renames, and `recover` mends a crash in it.

    Raises:
        StorageError: the disk refused; `target` is untouched.
    """
    aside, old = _aside(target), _old(target)
    with storage_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        for leftover in (aside, old):
            shutil.rmtree(leftover, ignore_errors=True)
        aside.mkdir()
        try:
            yield aside
            _flush_tree(aside)
            _switch(aside, target, old)
            _flush(target.parent)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
            if target.exists():
                shutil.rmtree(old, ignore_errors=True)


def undisturbed(read: Callable[[Path], _Found], target: Path) -> _Found:
    """What `read(target)` gives, read again whenever a save replaced `target` in the middle of it.

    Raises:
        BundleError: a save came in between every time; or what `read` raises of a `target` that stayed.
    """
    for _ in range(READ_TRIES):
        before = _identity(target)
        try:
            found = read(target)
        except (MyptError, OSError):
            if _identity(target) == before:
                raise
        else:
            if _identity(target) == before:
                return found
    raise BundleError(
        f"{target} was saved anew each of the {READ_TRIES} times that it was read.", "Call again when the run is done."
    )


def _identity(target: Path) -> tuple[int, int] | None:
    try:
        found = target.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def recover(target: Path) -> bool:
    """Put `target` back if a crash fell between the two renames of a switch; True if it had to."""
    for _ in range(RECOVER_TRIES):
        if target.exists() or not _old(target).exists():
            return False
        time.sleep(RECOVER_PAUSE_S)
    _old(target).rename(target)
    return True


def recover_all(folder: Path) -> list[str]:
    """Put back every bundle of a folder that a crash left between two names; a sentence on each."""
    hidden = sorted(folder.glob(".*.old")) if folder.is_dir() else []
    targets = [path.with_name(path.name[1:].removesuffix(".old")) for path in hidden]
    return [_put_back(target) for target in targets if recover(target)]


def tidy(target: Path) -> str | None:
    """Put right what a crash left beside `target`; a sentence on what was done, None if there was nothing.

    Only for the process that holds the right to write `target`.
    """
    if recover(target):
        return _put_back(target)
    leftovers = [p for p in (_aside(target), _old(target)) if p.exists()]
    for leftover in leftovers:
        shutil.rmtree(leftover, ignore_errors=True)
    return f"Removed what an interrupted save of {target} had left behind." if leftovers else None


def move_aside(old: Path, new: Path) -> None:
    """Rename a file or folder to a name that is free.

    Raises:
        StorageError: the disk refused, or the name is taken.
    """
    with storage_errors(new):
        if new.exists():
            raise FileExistsError(errno.EEXIST, "exists")
        old.rename(new)


def copy_file(old: Path, new: Path) -> None:
    """Copy a file and flush the copy to disk.

    Raises:
        StorageError: the disk refused.
    """
    with storage_errors(new):
        shutil.copy2(old, new)
        _flush(new)


def _put_back(target: Path) -> str:
    return f"Put {target} back, which a crash had left between two names."


def settle(aside: Path, target: Path) -> None:
    """Give a finished file its name, once its content is on the disk; what had the name is replaced."""
    _flush(aside)
    aside.replace(target)
    _flush(target.parent)


def _aside(target: Path) -> Path:
    return target.with_name(f".{target.name}.writing")


def _old(target: Path) -> Path:
    return target.with_name(f".{target.name}.old")


def _switch(new: Path, target: Path, old: Path) -> None:
    if not target.exists():
        new.rename(target)
    elif not _exchange(new, target):
        target.rename(old)
        new.rename(target)


def _exchange(a: Path, b: Path) -> bool:
    """Swap two names atomically; False where the system or the file system cannot."""
    import ctypes  # readers of bundles need none of it

    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if sys.platform == "linux":
            at_cwd, rename_exchange = -100, 2
            return bool(libc.renameat2(at_cwd, os.fsencode(a), at_cwd, os.fsencode(b), rename_exchange) == 0)
        if sys.platform == "darwin":
            rename_swap = 2
            return bool(libc.renamex_np(os.fsencode(a), os.fsencode(b), rename_swap) == 0)
    except (AttributeError, OSError, TypeError):
        return False
    return False


def _flush_tree(folder: Path) -> None:
    for path in folder.iterdir():
        _flush(path)
    _flush(folder)


def _flush(path: Path) -> None:
    if path.is_dir() and os.name == "nt":
        return  # Windows cannot open a folder to flush it
    flags = os.O_RDONLY if path.is_dir() else os.O_RDWR
    handle = os.open(path, flags)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
