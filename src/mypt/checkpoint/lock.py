"""One process at a time writes under a name."""

import json
import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mypt.checkpoint.atomic import storage_errors, tidy
from mypt.errors import BusyError


@contextmanager
def locked(target: Path, notice: Callable[[str], None], *family: Path) -> Iterator[None]:
    """Hold the right to write `target`, and the bundles of its `family`, while the block runs.

    The operating system gives a lock back when its process dies, so one that is left behind never stands in
    the way; it is taken over, and `notice` is told.

    Raises:
        BusyError: another process holds it; its pid and host are named.
    """
    from filelock import FileLock, Timeout  # readers only ask whether somebody writes

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
            notice(f"Took over {target} from {_owner(owner_file)}, which ended without a word.")
        for done in filter(None, map(tidy, (target, *family))):
            notice(done)
        me = {"pid": os.getpid(), "host": platform.node(), "since": timestamp()}
        with storage_errors(target):
            owner_file.write_text(json.dumps(me) + "\n", encoding="utf-8")
        yield
    finally:
        with suppress(OSError):  # the run itself is safe; the next one says that it took over
            owner_file.unlink(missing_ok=True)
        lock.release()


def is_left(target: Path | None) -> bool:
    """Whether `target`, or the word of a process that it writes it, is there, and no process writes it any more."""
    there = target is not None and (target.exists() or _owner_file(target).exists())
    return there and not is_held(target)


def is_held(target: Path | None) -> bool:
    """Whether a process that still lives says that it writes `target`; one on another host is believed."""
    if target is None:
        return False
    try:
        owner = json.loads(_owner_file(target).read_text(encoding="utf-8"))
        if os.name == "posix" and owner["host"] == platform.node():
            os.kill(owner["pid"], 0)  # signal 0 only asks
    except PermissionError:  # it lives, and is another user's
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
