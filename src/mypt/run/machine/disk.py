"""What the disk of the bundles can do, tried out in a folder that is removed again."""

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from mypt import units
from mypt.checkpoint.atomic import flush, storage_errors, switches_at_once
from mypt.checkpoint.lock import keeps_out
from mypt.errors import StorageError
from mypt.run.machine.fact import Fact

_LITTLE_BYTES = 5 << 30
"""Room below which even a model of 100M parameters, with its gold bundle, will not be saved."""
_PROBE_BYTES = 8 << 20


def disk_facts(out_dir: Path) -> Iterator[Fact]:
    """What is found of the folder of all bundles, or of the nearest folder above it that is there.

    Raises:
        StorageError: nothing can be written there.
    """
    folder = next(path for path in (out_dir.absolute(), *out_dir.absolute().parents) if path.is_dir())
    free = shutil.disk_usage(folder).free
    little = "That is little for bundles; --out-dir chooses another disk." if free < _LITTLE_BYTES else ""
    yield Fact("disk", "folder", f"{folder} ({_kind_of(folder)})")
    yield Fact("disk", "room", f"{units.size(free)} free", little)
    with storage_errors(folder, "--out-dir"), TemporaryDirectory(prefix=".mypt-doctor-", dir=folder) as name:
        yield from _tried(Path(name))


def _tried(folder: Path) -> Iterator[Fact]:
    began = time.perf_counter()
    (folder / "probe").write_bytes(os.urandom(_PROBE_BYTES))
    flush(folder / "probe")
    speed = _PROBE_BYTES / (time.perf_counter() - began)
    yield Fact("disk", "writing", f"{units.size(int(speed))} a second, flushed")
    yield _can(
        "switching", lambda: switches_at_once(folder), "names change places at once", "names change places in turn",
        wrong="A crash between the two renames of a save leaves no bundle of that name; the next call puts it back.",
    )  # fmt: skip
    yield _can(
        "locks", lambda: keeps_out(folder), "keep other processes out", "keep nobody out",
        wrong="Let no two processes train the same name, or choose another disk with --out-dir.",
    )  # fmt: skip
    yield _can("links", lambda: _links(folder), "copies of bundles share their bytes", "copies of bundles take room")
    yield _can("names", lambda: not (folder / "PROBE").exists(), "upper and lower case differ", "case does not count")


def _can(name: str, tried: Callable[[], bool], yes: str, no: str, wrong: str = "") -> Fact:
    with suppress(OSError, StorageError):
        if tried():
            return Fact("disk", name, yes)
    return Fact("disk", name, no, wrong)


def _links(folder: Path) -> bool:
    os.link(folder / "probe", folder / "link")
    return True


def _kind_of(folder: Path) -> str:
    """The file system that a folder is on, such as `ext4`, as Linux says."""
    if sys.platform != "linux":
        return "file system not known"
    places: list[tuple[int, str]] = []
    for line in Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines():
        _, place, kind, *_ = line.split(" ")
        if folder.is_relative_to(place.replace("\\040", " ")):
            places.append((len(place), kind))
    return max(places, default=(0, "file system not known"))[1]
