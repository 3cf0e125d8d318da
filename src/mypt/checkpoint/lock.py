"""Locks: only one process at a time may write the bundles of a run, and its log."""

import json
import os
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from mypt.checkpoint.atomic import clean_up, marked, real_path, storage_errors
from mypt.checkpoint.layout import base_name
from mypt.errors import BusyError
from mypt.regular import open_regular, read_regular

WAIT_S = 0.5
"""A reader that asks whether a lock is held has it for an instant; a writer waits that much longer."""


@dataclass(frozen=True)
class Holder:
    """The process that writes a bundle, or the last one that did and never gave its lock back.

    Attributes:
        name: the bundle that it writes; "" where that is not known.
        pid: its number on its host.
        host: name of the host.
        since: local time of its start, ISO 8601.
        alive: True if it holds the lock, False if it ended without giving it back, None if it was on another host,
            whose locks may not show here.
    """

    name: str
    pid: int
    host: str
    since: str
    alive: bool | None

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} (since {self.since})" if self.pid else "another process"


@contextmanager
def locked(target: Path, notice: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock on `target`, and on every name that the same run may write, while the block runs.

    The names `a`, `a_gold` and `a_fp16` have one lock, and one that is a link has that of the folder it leads to as
    well. The operating system releases a lock when its process dies, so a stale lock never blocks; it is taken over
    and reported through `notice`.

    Raises:
        BusyError: another process holds the lock; the message has its pid and host.
    """
    with ExitStack() as held:
        if not target.parent.exists():
            held.callback(_remove_if_empty, target.parent)
        for lock_file in _lock_files(target):
            held.enter_context(_exclusive(lock_file, target))
        if (last := holder(target, held=False)) is not None:
            notice(f"Took over {target} from {last}, which ended unexpectedly.")
        for message in filter(None, map(clean_up, _to_tidy(target))):
            notice(message)
        with storage_errors(target):
            _write_owner(target)
        try:
            yield
        finally:
            with suppress(OSError):  # everything is saved; the next process reports that it took over
                owner_file(target).unlink(missing_ok=True)


def holder(target: Path, *, held: bool | None = None) -> Holder | None:
    """Who writes `target` or another bundle of its names; None if nobody does and everyone gave the lock back.

    Args:
        target: a bundle.
        held: whether a process holds the lock; by default the operating system is asked.
    """
    held = any(map(_is_held, _lock_files(target))) if held is None else held
    try:
        owner = json.loads(read_regular(owner_file(target)))
        pid, host, since = int(owner["pid"]), str(owner["host"]), str(owner["since"])
        alive = True if held else False if host == platform.node() else None
        return Holder(str(owner.get("name", "")), pid, host, since, alive)
    except FileNotFoundError:
        return Holder("", 0, platform.node(), "", True) if held else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Holder("", 0, platform.node(), "", held)


def keeps_out(folder: Path) -> bool:
    """Whether a lock in a folder is seen by whoever asks for it."""
    target = folder / "probe"
    with _exclusive(folder / ".probe.lock", target):
        return _is_held(folder / ".probe.lock")


@contextmanager
def _exclusive(lock_file: Path, target: Path) -> Iterator[None]:
    """Hold one lock; its file is removed while it is still held, so that no other process has it in hand."""
    from filelock import FileLock, Timeout  # not needed to read bundles

    with storage_errors(target):
        lock_file.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(lock_file)
        try:
            lock.acquire(timeout=WAIT_S, poll_interval=WAIT_S / 10)
        except Timeout as error:
            raise BusyError(
                f"{target} is being written by {holder(target, held=True)}.",
                "Wait until it ends, stop it, or choose another name.",
            ) from error
    try:
        yield
    finally:
        if os.name == "posix":  # Windows removes no file that is open
            with suppress(OSError):
                lock_file.unlink()
        lock.release()


def _is_held(lock_file: Path) -> bool:
    """Whether any process holds a lock, asked of the operating system."""
    if not lock_file.exists():
        return False
    return _is_held_on_windows(lock_file) if sys.platform == "win32" else _is_held_on_posix(lock_file)


def _is_held_on_windows(lock_file: Path) -> bool:
    from filelock import FileLock, Timeout

    lock = FileLock(lock_file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False


def _is_held_on_posix(lock_file: Path) -> bool:
    """Ask for a share, which needs no permission to write and keeps no other reader out."""
    import fcntl

    try:
        with open_regular(lock_file) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # gone by now, or a file system without locks
        return False
    return False


def _to_tidy(target: Path) -> list[Path]:
    """What a crash may have left half saved: `target`, and every other name that its lock covers."""
    family = {path for path in marked(target.parent) if base_name(path.name) == base_name(target.name)}
    return sorted(family | {target})


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):  # something was written there
        folder.rmdir()


def _lock_files(target: Path) -> list[Path]:
    """The lock of a name, and that of the folder it leads to where it is a link."""
    named = {path.parent.resolve() / path.name for path in (target, real_path(target))}
    return sorted({path.with_name(f".{base_name(path.name)}.lock") for path in named})


def owner_file(target: Path) -> Path:
    """Where it stands who holds the lock on a bundle, while someone does."""
    return target.with_name(f".{base_name(target.name)}.owner.json")


def _write_owner(target: Path) -> None:
    now = datetime.now().isoformat(timespec="seconds")
    owner = {"name": target.name, "pid": os.getpid(), "host": platform.node(), "since": now}
    path = owner_file(target)
    path.unlink(missing_ok=True)
    with path.open("x", encoding="utf-8") as file:  # which follows no link
        file.write(json.dumps(owner) + "\n")
