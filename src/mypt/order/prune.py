"""`mypt prune`: what is superseded in a folder, and how it goes."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from mypt.checkpoint.family import record_of
from mypt.checkpoint.lock import holder
from mypt.errors import BusyError
from mypt.order.runs import KeptRun, held, run_at
from mypt.order.trash import TRASH, Entry, delete, entries, put_away, sweep
from mypt.order.usage import bytes_of, runs_of, total_of
from mypt.schema.files.state import TrainingState

_ARCHIVED = re.compile(r"(?P<name>.+)_(?P<when>\d{8}-\d{6})(_\d+)?")
"""What `run/archive.py` calls a run that another one of its name has replaced."""


@dataclass(frozen=True)
class Superseded:
    """What can go.

    Attributes:
        name: of the run, the bundle, or what the trash has.
        why: in words.
        bytes: what it takes; what it shares with others stays.
        what: the run or bundle, or the entry of the trash.
    """

    name: str
    why: str
    bytes: int
    what: KeptRun | Entry


def superseded(out_dir: Path, trash_days: float) -> list[Superseded]:
    """Archived runs that a newer one of the name has replaced, exports that are older than their run, and old trash.

    Nothing that a process writes, and neither gold nor the last step of a run that was not archived.
    """
    found = []
    for run in runs_of(out_dir):
        if (writer := holder(run.family.path)) is not None and writer.alive is not False:
            continue
        if (why := _replaced(run)) is not None:
            found.append(Superseded(run.name, why, bytes_of(run), run))
        elif (export := _old_export(run)) is not None:
            found.append(Superseded(export.name, "an export of an earlier step", bytes_of(export), export))
    for entry in entries(out_dir):
        age = datetime.now() - _moment(entry.record.removed_at)
        if age >= timedelta(days=trash_days):
            found.append(
                Superseded(entry.record.name, f"in the trash for {age.days} days", total_of([entry.folder]), entry)
            )
    return found


def prune(chosen: Sequence[Superseded], out_dir: Path, notice: Callable[[str], None], *, purge: bool) -> list[str]:
    """Move what can go into the trash, and delete what lies there already; with `purge` delete all of it.

    Raises:
        BusyError: a process writes the trash.
        StorageError: the disk refused.
    """
    told = []
    with held([out_dir / TRASH], notice):
        for found in chosen:
            entry = found.what
            if isinstance(entry, KeptRun):
                try:
                    with held([entry.family.path], notice):
                        entry = put_away(run_at(entry.family.path))
                except BusyError as busy:
                    told.append(f"{found.name} stays: {busy.what}")
                    continue
                if not purge:
                    told.append(f"{found.name} is in the trash.")
                    continue
            told.append(delete(entry))
        sweep(out_dir)
    return told


def _replaced(run: KeptRun) -> str | None:
    """Why an archived run can go; None where it cannot, as it is none or has been gone on with since."""
    named = _ARCHIVED.fullmatch(run.name)
    if named is None or not run.bundles:
        return None
    newer = record_of(run.family.path.with_name(named["name"]))
    when = datetime.strptime(named["when"], "%Y%m%d-%H%M%S")
    states = [record_of(bundle) for bundle in run.bundles]
    if newer is None or any(state is None or _saved(state) > when for state in states) or _saved(newer) < when:
        return None
    return f"replaced by a newer {named['name']}"


def _old_export(run: KeptRun) -> KeptRun | None:
    """The fp16 bundle of a run that has gone on since."""
    own, export = record_of(run.family.path), record_of(run.family.fp16)
    if own is None or export is None or run.family.fp16 not in run.bundles:
        return None
    is_old = export.run_id == own.run_id is not None and export.step < own.step and export.optimizer_file is None
    return run_at(run.family.fp16) if is_old else None


def _saved(state: TrainingState) -> datetime:
    return _moment(state.saved_at or "")


def _moment(text: str) -> datetime:
    """A recorded moment, on this clock; long ago where it is none."""
    try:
        return datetime.fromisoformat(text).replace(tzinfo=None)
    except ValueError:
        return datetime.min
