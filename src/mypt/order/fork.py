"""`mypt fork`: a run goes on as two, the second of which names the first as its origin."""

from pathlib import Path

from mypt.checkpoint.atomic import copy_tree, replacing
from mypt.checkpoint.family import Family, record_of
from mypt.checkpoint.files import read_state
from mypt.checkpoint.layout import check_spelling, display_path, log_of
from mypt.checkpoint.lineage import recorded_name
from mypt.errors import ConflictError, UsageError
from mypt.order.runs import find_run, held, place_named
from mypt.run.fork import own_identity, settle
from mypt.schema.files.state import TrainingState
from mypt.train.observer import Observer


def fork(old: str, new: str, out_dir: Path, observer: Observer) -> list[str]:
    """Copy the bundles of a run, or one bundle, to a name that becomes a run of its own, with its own id and log.

    The files of tensors are second names of those that are there, where the disk has such: a copy takes no room.

    Returns:
        What was made.

    Raises:
        UsageError: there is no such run, or the new name can be none.
        ConflictError: the new name is taken.
        BundleError: the bundle cannot be read.
        BusyError: a process writes one of them.
        StorageError: the disk refused; the same call goes on from there.
    """
    source, target = place_named(old, out_dir), Family(place_named(new, out_dir))
    if source == target.path:
        raise UsageError(f"{old} has that name already.", "Give another one.")
    with held((source, target.path), observer.notice):
        run = find_run(old, out_dir)
        check_spelling(target.path)
        target.check_free_for_a_run(fresh=False)
        origin = read_state(run.family.path)
        copies = {bundle: target.paths[run.family.paths.index(bundle)] for bundle in run.bundles}
        missing = {bundle: place for bundle, place in copies.items() if not _is_begun(place, bundle, target)}
        if not missing and _is_done(target, origin):
            raise ConflictError(f"{target.path} is that already.", "Choose another name.")
        for bundle in sorted(missing, key=run.bundles.index, reverse=True):  # its own last, which makes it a run
            with replacing(copies[bundle]) as folder:
                copy_tree(bundle, folder)
        state = _identity(target, origin)
        settle(target, state, observer)
        log = log_of(target.path, state)
        places = [display_path(place) for place in target.paths if place.exists()]
        return [f"{', '.join(places)}" + (f" with the log {display_path(log)}" if log else "") + "."]


def _identity(target: Family, origin: TrainingState) -> TrainingState:
    """The record of the new run; the one that a call which was killed has begun with."""
    there = read_state(target.path)
    if there.run_id != origin.run_id:
        return there
    return own_identity(target.path, target.path.name, there, None)


def _is_done(target: Family, origin: TrainingState) -> bool:
    states = [record_of(path) for path in target.paths if path.exists()]
    return all(state is not None and state.run_id != origin.run_id for state in states)


def _is_begun(place: Path, bundle: Path, target: Family) -> bool:
    """Whether a copy is there, as a call that was killed has left it.

    Raises:
        ConflictError: something else is.
    """
    if not place.exists() and not place.is_symlink():
        return False
    there, own = record_of(place), record_of(bundle)
    if there is not None and own is not None and there.step == own.step:
        forked = recorded_name(place, there) == target.path.name and there.forked_from[-1:] != ()
        if there.run_id == own.run_id or (forked and there.forked_from[-1].run_id == own.run_id):
            return True
    raise ConflictError(f"{place} is there already.", "Choose another name, or remove that with `mypt rm`.")
