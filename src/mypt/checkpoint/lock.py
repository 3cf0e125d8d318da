"""Locks: only one process at a time may write a bundle and its log."""

import json
import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mypt.checkpoint.atomic import clean_up, storage_errors
from mypt.errors import BusyError


@contextmanager
def locked(target: Path, notice: Callable[[str], None], *family: Path) -> Iterator[None]:
    """Hold the lock on `target` and the bundles of its `family` while the block runs.

    The operating system releases a lock when its process dies, so a stale lock never blocks; it is taken over and
    reported through `notice`.

    Raises:
        BusyError: another process holds the lock; the message has its pid and host.
    """
    from filelock import FileLock, Timeout  # not needed to read bundles

    from mypt.schema.files.events import timestamp

    owner_file = _owner_file(target)
    with storage_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(target.with_name(f".{target.name}.lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise BusyError(
                f"{target} is being written by {_owner(owner_file)}.",
                "Wait until it ends, stop it, or choose another name.",
            ) from error
    try:
        if owner_file.exists():
            notice(f"Took over {target} from {_owner(owner_file)}, which ended unexpectedly.")
        for message in filter(None, map(clean_up, (target, *family))):
            notice(message)
        owner = {"pid": os.getpid(), "host": platform.node(), "since": timestamp()}
        with storage_errors(target):
            owner_file.write_text(json.dumps(owner) + "\n", encoding="utf-8")
        yield
    finally:
        with suppress(OSError):  # everything is saved; the next process reports that it took over
            owner_file.unlink(missing_ok=True)
        lock.release()


def is_abandoned(target: Path | None) -> bool:
    """True if `target` or its owner file exists and no live process holds the lock."""
    exists = target is not None and (target.exists() or _owner_file(target).exists())
    return exists and not is_held(target)


def is_held(target: Path | None) -> bool:
    """True if the owner file of `target` names a live process; processes on other hosts are assumed alive."""
    if target is None:
        return False
    try:
        owner = json.loads(_owner_file(target).read_text(encoding="utf-8"))
        if os.name == "posix" and owner["host"] == platform.node():
            os.kill(owner["pid"], 0)  # signal 0 only checks that the process exists
    except PermissionError:  # it exists, but belongs to another user
        return True
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return False
    return True


def _owner_file(target: Path) -> Path:
    return target.with_name(f".{target.name}.owner.json")


def _owner(path: Path) -> str:
    try:
        owner = json.loads(path.read_text(encoding="utf-8"))
        return f"process {owner['pid']} on {owner['host']} (since {owner['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
