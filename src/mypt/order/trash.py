"""`mypt rm`: what is removed lies in the trash of its folder, with what it was and when, until it is deleted."""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError

from mypt.checkpoint.atomic import flush, real_path, rename_noreplace, replacing_file, storage_errors
from mypt.checkpoint.files import write_json
from mypt.checkpoint.layout import display_path, log_reference
from mypt.errors import ConflictError, UsageError, did_you_mean
from mypt.order.runs import KeptRun, find_run, held, run_at
from mypt.order.usage import bytes_of
from mypt.regular import read_regular
from mypt.schema.order.trash import Removed

TRASH = ".trash"
RECORD_FILE = "removed.json"
_OF_NO_USE = ".tmp-"
"""What the name of a folder of the trash begins with while it has no record yet, and once nothing is to come back."""


@dataclass(frozen=True)
class Entry:
    """One removal: a folder of the trash and its record."""

    folder: Path
    record: Removed

    @property
    def out_dir(self) -> Path:
        """The folder of bundles whose trash it is in."""
        return self.folder.parent.parent

    @property
    def log(self) -> Path | None:
        """Where its log was."""
        return self.out_dir.absolute().parent / self.record.log if self.record.log else None


def entries(out_dir: Path) -> list[Entry]:
    """What is in the trash of a folder, oldest first; what has no record that can be read is left alone."""
    return sorted(_entries(out_dir), key=lambda entry: (entry.record.removed_at, entry.folder.name))


def _entries(out_dir: Path) -> Iterator[Entry]:
    trash = out_dir / TRASH
    for folder in trash.iterdir() if trash.is_dir() else ():
        with suppress(OSError, ValueError, ValidationError):
            if not folder.name.startswith(".") and not folder.is_symlink():
                yield Entry(folder, Removed.model_validate(json.loads(read_regular(folder / RECORD_FILE))))


def remove(names: Sequence[str], out_dir: Path, notice: Callable[[str], None], *, purge: bool) -> list[str]:
    """Move runs, or single bundles by their names, into the trash, or delete them and what the trash has of them.

    All of them are looked at before the first is touched.

    Raises:
        UsageError: one of them is not there.
        BusyError: a process writes one of them, or the trash.
        StorageError: the disk refused; the same call goes on from there.
    """
    told = []
    with held([out_dir / TRASH], notice):
        sweep(out_dir)
        runs = [run for name in names if (run := _run_to_remove(name, out_dir, purge=purge)) is not None]
        with held([run.family.path for run in runs], notice):
            for run in runs:
                if not (now := run_at(run.family.path)).bundles:  # it went with its run
                    continue
                entry = put_away(now)
                told.append(f"{', '.join(entry.record.bundles)} is in {display_path(entry.folder)} now.")
        if not purge:
            return told
        gone = [entry for entry in entries(out_dir) if entry.record.name in [Path(name).name for name in names]]
        return [delete(entry) for entry in gone]


def _run_to_remove(name: str, out_dir: Path, *, purge: bool) -> KeptRun | None:
    in_trash = purge and any(entry.record.name == Path(name).name for entry in entries(out_dir))
    try:
        return find_run(name, out_dir)
    except UsageError:
        if in_trash:
            return None
        raise


def put_away(run: KeptRun) -> Entry:
    """Move a run into the trash; the caller holds the locks of both.

    The record comes first, then the log, and the run's own bundle last, by which a call finds what a kill has left.
    """
    out_dir = run.family.path.parent
    begun = next((entry for entry in entries(out_dir) if _is_begun(entry, run)), None)
    entry = begun or _begin(run)
    if run.log is not None and run.log_is_its_own:
        _carry(run.log, entry.folder / run.log.name)
    for bundle in reversed(run.bundles):
        rename_noreplace(bundle, entry.folder / bundle.name)
    return entry


def _is_begun(entry: Entry, run: KeptRun) -> bool:
    """Whether a kill has left the rest of a removal where it was."""
    state = run.state
    same = entry.record.name == run.name and (state is None or state.run_id == entry.record.run_id)
    names = {bundle.name for bundle in run.bundles}
    return same and names <= {*entry.record.bundles} and not any((entry.folder / name).exists() for name in names)


def _begin(run: KeptRun) -> Entry:
    path, state = run.family.path, run.state
    now = datetime.now()
    record = Removed(
        name=run.name,
        removed_at=now.isoformat(timespec="seconds"),
        bundles=tuple(bundle.name for bundle in run.bundles),
        log=log_reference(run.log, path) if run.log is not None and run.log_is_its_own else None,
        run_id=None if state is None else state.run_id,
        step=None if state is None else state.step,
        best_val_loss=None if state is None else state.progress.best_val_loss,
        bytes=bytes_of(run),
    )
    folder = path.parent / TRASH / f"{run.name}_{now:%Y%m%d-%H%M%S-%f}"
    beginning = folder.with_name(f"{_OF_NO_USE}{folder.name}")
    with storage_errors(folder):
        beginning.mkdir(parents=True)
        write_json(beginning / RECORD_FILE, record)
        flush(beginning / RECORD_FILE)
        beginning.rename(folder)
        flush(folder.parent)
    return Entry(folder, record)


def _carry(log: Path, target: Path) -> None:
    """Move a log, which may lie on another disk than the bundles."""
    try:
        log.rename(target)
    except OSError:
        with storage_errors(target):
            with replacing_file(target) as temporary:
                shutil.copy2(log, temporary)
            log.unlink()


def restore(names: Sequence[str], out_dir: Path, notice: Callable[[str], None]) -> list[str]:
    """Put back what was removed last under each name.

    Raises:
        BusyError: a process writes the trash.
        UsageError: the trash has nothing of that name.
        ConflictError: its place is taken.
        StorageError: the disk refused; the same call goes on from there.
    """
    with held([out_dir / TRASH], notice):
        sweep(out_dir)
        last = {entry.record.name: entry for entry in entries(out_dir)}
        for name in names:
            if name not in last:
                todo = f"It has: {', '.join(last)}." if last else "It is empty."
                raise UsageError(f"There is no {name!r} in the trash of {out_dir}{did_you_mean(name, last)}", todo)
        chosen = [last[name] for name in names]
        with held([out_dir / entry.record.name for entry in chosen], notice):
            for entry in chosen:
                _check_places_are_free(entry)
            return [_put_back(entry) for entry in chosen]


def _moves(entry: Entry) -> list[tuple[Path, Path]]:
    """What of an entry is in the trash still, and where it belongs."""
    moves = [(entry.folder / name, entry.out_dir / name) for name in entry.record.bundles]
    moves += [(entry.folder / entry.log.name, entry.log)] if entry.log else []
    return [(here, place) for here, place in moves if here.exists() or here.is_symlink()]


def _check_places_are_free(entry: Entry) -> None:
    for _, place in _moves(entry):
        if place.exists() or place.is_symlink():
            raise ConflictError(
                f"{display_path(place.absolute())} is there already.",
                "Rename that first: a run and its log with `mypt mv`.",
            )


def _put_back(entry: Entry) -> str:
    for here, place in _moves(entry):
        with storage_errors(place):
            place.parent.mkdir(parents=True, exist_ok=True)
        if place == entry.log:
            _carry(here, place)
        else:
            rename_noreplace(here, place)
    delete(entry)
    return f"{', '.join(entry.record.bundles)} is back in {entry.out_dir}."


def delete(entry: Entry) -> str:
    """Delete what an entry of the trash has; what its links lead to on other disks, too.

    Once this has begun, nothing of it is taken for a run any more.
    """
    going = entry.folder.with_name(f"{_OF_NO_USE}{entry.folder.name}")
    with storage_errors(going):
        entry.folder.rename(going)
    sweep(entry.out_dir)
    return f"{entry.record.name}, removed on {entry.record.removed_at[:10]}, is deleted."


def sweep(out_dir: Path) -> None:
    """Delete what a kill has left of entries that were being made or deleted."""
    trash = out_dir / TRASH
    for going in trash.glob(f"{_OF_NO_USE}*") if trash.is_dir() else ():
        with storage_errors(going):
            for link in filter(Path.is_symlink, going.iterdir()):
                shutil.rmtree(real_path(link), ignore_errors=True)
            shutil.rmtree(going)
    _remove_if_empty(trash)


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()
