"""Atomic replacement of folders and files: write to a temporary name, fsync, then swap the names."""

import errno
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from mypt.errors import BundleError, MyptError, StorageError
from mypt.signals import held_back

RECOVER_TRIES = 10
RECOVER_PAUSE_S = 0.05
"""A live process needs far less than RECOVER_TRIES x RECOVER_PAUSE_S between its two renames."""
READ_TRIES = 20
T = TypeVar("T")
_REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the disk is read-only",
    errno.EACCES: "writing there is not permitted",
    errno.EPERM: "writing there is not permitted",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.EEXIST: "a file of that name is in the way",
    errno.EXDEV: "this file system cannot rename the folder that is there, such as one of a container's image",
    errno.EBUSY: "the folder is mounted there, or in use",
    errno.ENAMETOOLONG: "the name is too long for this file system",
}


@contextmanager
def storage_errors(path: Path, options: str = "--out-dir or --log-file") -> Iterator[None]:
    """Turn an `OSError` into a `StorageError` that names `path` and the `options` that choose another place."""
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
    """Yield an empty temporary folder that replaces `target` atomically when the block succeeds.

    If the block raises, `target` is left as it was. Where the operating system can exchange two names (Linux,
    macOS), `target` exists at every instant; elsewhere it is missing between two renames, and `recover` repairs a
    crash at that point. A marker beside `target` says that a save is under way; without it, nothing of these names
    is taken for a leftover.

    Raises:
        StorageError: the folder cannot be written, or something else has the name of a temporary folder; `target` is
            untouched.
    """
    target = real_path(target)
    with storage_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with _marking(target):
            writing = _writing(target)
            writing.mkdir()
            yield writing
            _flush_tree(writing)
            with held_back():
                _switch(writing, target, _old(target))
            flush(target.parent)


def remove(target: Path) -> None:
    """Remove a folder so that at no instant its name leads to a part of it.

    Raises:
        StorageError: the disk refused.
    """
    target = real_path(target)
    with storage_errors(target), _marking(target):
        target.rename(_writing(target))


@contextmanager
def _marking(target: Path) -> Iterator[None]:
    """Let a marker say that the temporary names beside `target` are mypt's; what they lead to is removed at the end.

    Raises:
        StorageError: something else has one of them.
    """
    writing, old, marker = _writing(target), _old(target), _marker(target)
    clean_up(target)
    for taken in filter(Path.exists, (writing, old)):
        raise StorageError(
            f"{taken} is in the way of saving {target}, and no save of mypt has left it.",
            "Give it another name, or choose another place with --out-dir.",
        )
    marker.unlink(missing_ok=True)
    marker.touch(exist_ok=False)  # which follows no link
    try:
        flush(target.parent)
        yield
    finally:
        with held_back():
            shutil.rmtree(writing, ignore_errors=True)
            if target.exists():
                shutil.rmtree(old, ignore_errors=True)
            if not (writing.exists() or old.exists()):
                marker.unlink(missing_ok=True)


def real_path(target: Path) -> Path:
    """Where a bundle lies; another place than its name where that is a link, such as one to another disk."""
    return target.resolve() if target.is_symlink() else target


def rehearse(target: Path) -> None:
    """Replace a folder by a copy of itself, to learn before any work is done whether a save will be able to.

    Raises:
        StorageError: the folder cannot be replaced, and is untouched.
    """
    if target.exists():
        with replacing(target) as folder:
            copy_tree(target, folder)


def copy_tree(source: Path, target: Path) -> None:
    """Copy a file, or what is in a folder, which is never changed in place: as second names where there are links."""
    if source.is_dir():
        shutil.copytree(source, target, copy_function=_link_or_copy, dirs_exist_ok=True)
    else:
        _link_or_copy(source, target)


def _link_or_copy(source: str | Path, target: str | Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def read_consistently(read: Callable[[Path], T], target: Path) -> T:
    """Return `read(target)`, retrying if a save replaces `target` while it is being read.

    Raises:
        BundleError: every attempt was interrupted by a save. Errors of `read` pass through if `target` was stable.
    """
    for _ in range(READ_TRIES):
        before = _identity(target)
        try:
            result = read(target)
        except (MyptError, OSError):
            if _identity(target) == before:
                raise
        else:
            if _identity(target) == before:
                return result
    raise BundleError(
        f"{target} was replaced by a new save during each of {READ_TRIES} attempts to read it.",
        "Call again when the run is done.",
    )


def _identity(target: Path) -> tuple[int, int] | None:
    try:
        stat = target.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_mtime_ns


def recover(target: Path) -> bool:
    """Restore `target` after a crash between the two renames of a replacement; True if it was restored."""
    target = real_path(target)
    for _ in range(RECOVER_TRIES):
        if target.exists() or not (_old(target).exists() and _marker(target).exists()):
            return False
        time.sleep(RECOVER_PAUSE_S)
    try:
        _old(target).rename(target)
    except OSError:  # a disk that is read-only: what is there can still be read
        return False
    return True


def recover_all(folder: Path) -> list[str]:
    """Recover every bundle of a folder; returns a message for each one restored."""
    return [_restored(target) for target in marked(folder) if recover(target)]


def marked(folder: Path) -> list[Path]:
    """The bundles of a folder that a save was, or still is, under way for."""
    markers = sorted(folder.glob(".*.saving")) if folder.is_dir() else []
    return [path.with_name(path.name[1:].removesuffix(".saving")) for path in markers]


def clean_up(target: Path) -> str | None:
    """Recover `target` and remove what a save left that its marker says was interrupted; a message if there was any.

    Only the process that holds the lock on `target` may call it.
    """
    restored = recover(target)
    target = real_path(target)
    if not _marker(target).exists():
        return None
    leftovers = [p for p in (_writing(target), _old(target)) if p.exists()]
    for leftover in leftovers:
        shutil.rmtree(leftover, ignore_errors=True)
    _marker(target).unlink(missing_ok=True)
    if restored:
        return _restored(target)
    return f"Removed the leftovers of an interrupted save of {target}." if leftovers else None


def rename_noreplace(old: Path, new: Path) -> None:
    """Rename a file or folder; never replaces an existing `new`.

    Raises:
        StorageError: `new` exists, or the disk refused.
    """
    with storage_errors(new):
        if new.exists():
            raise FileExistsError(errno.EEXIST, "exists")
        old.rename(new)


def copy_file(old: Path, new: Path) -> None:
    """Copy a file and fsync the copy.

    Raises:
        StorageError: the disk refused.
    """
    with storage_errors(new):
        shutil.copy2(old, new)
        flush(new)


@contextmanager
def replacing_file(target: Path) -> Iterator[Path]:
    """Yield the name of a file that takes the place of `target` when the block succeeds, and is removed if it does not.

    What is no plain file, such as /dev/stdout, is written itself.
    """
    if target.exists() and not target.is_file():
        with _with_a_reader(target):
            yield target
        return
    target = real_path(target)
    temporary = target.with_name(f".{os.getpid()}.{target.name}")
    try:
        yield temporary
        with held_back():
            commit_file(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _with_a_reader(target: Path) -> Iterator[None]:
    """Hold what is written to open; a named pipe that nobody reads is refused rather than waited for."""
    handle = os.open(target, os.O_WRONLY | os.O_NONBLOCK) if target.is_fifo() else None
    try:
        yield
    finally:
        if handle is not None:
            os.close(handle)


def commit_file(temporary: Path, target: Path) -> None:
    """Fsync a finished temporary file and rename it to `target`, replacing what was there."""
    flush(temporary)
    temporary.replace(target)
    flush(target.parent)


def _restored(target: Path) -> str:
    return f"Restored {target} after a crash in the middle of a save."


def _writing(target: Path) -> Path:
    return target.with_name(f".{target.name}.writing")


def _old(target: Path) -> Path:
    return target.with_name(f".{target.name}.old")


def _marker(target: Path) -> Path:
    return target.with_name(f".{target.name}.saving")


def _switch(new: Path, target: Path, old: Path) -> None:
    if not target.exists():
        new.rename(target)
    elif not _exchange(new, target):
        target.rename(old)
        new.rename(target)


def switches_at_once(folder: Path) -> bool:
    """Whether two names in a folder, which this makes, can change places in one step."""
    a, b = folder / "a", folder / "b"
    a.mkdir()
    b.mkdir()
    return _exchange(a, b)


def _exchange(a: Path, b: Path) -> bool:
    """Swap two names atomically; False if the platform or the file system does not support it."""
    import ctypes  # not needed to read bundles

    with suppress(AttributeError, OSError, TypeError):
        libc = ctypes.CDLL(None, use_errno=True)
        if sys.platform == "linux":
            at_cwd, rename_exchange = -100, 2
            return bool(libc.renameat2(at_cwd, os.fsencode(a), at_cwd, os.fsencode(b), rename_exchange) == 0)
        if sys.platform == "darwin":
            rename_swap = 2
            return bool(libc.renamex_np(os.fsencode(a), os.fsencode(b), rename_swap) == 0)
    return False


def _flush_tree(folder: Path) -> None:
    for path in (*folder.rglob("*"), folder):
        flush(path)


def flush(path: Path) -> None:
    """Wait until a file, or the list of what is in a folder, is on the disk."""
    if path.is_dir() and os.name == "nt":
        return  # Windows cannot open a folder to flush it
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
