"""`mypt mv`: a run gets another name, and stays the same run."""

import filecmp
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from mypt.checkpoint.atomic import flush, real_path, remove, rename_noreplace, replacing_file, storage_errors
from mypt.checkpoint.family import Family, copy_bundle, record_of, run_name
from mypt.checkpoint.layout import check_spelling, command, display_path, log_path
from mypt.checkpoint.lineage import role_of
from mypt.checkpoint.manifest import hash_of_weights, read_manifest
from mypt.errors import BundleError, ConflictError, UsageError
from mypt.log.replay import has_run
from mypt.order.runs import KeptRun, find_run, held, place_named, run_at


def move(old: str, new: str, out_dir: Path, notice: Callable[[str], None]) -> list[str]:
    """Rename the bundles of a run and its log, and let its records say the new name.

    The log gets the new name first and loses the old one last, so that every record leads to it throughout. Each bundle
    is there under one of its names at every instant; the same call goes on where another one was killed.

    Returns:
        What was renamed.

    Raises:
        UsageError: there is no such run, or the new name can be none.
        ConflictError: the new name is taken.
        BusyError: a process writes the run.
        StorageError: the disk refused; the same call goes on from there.
    """
    target = Family(place_named(new, out_dir))
    source = place_named(old, out_dir)
    if source == target.path:
        raise UsageError(f"{old} has that name already.", "Give another one.")
    with held((source, target.path), notice):
        return _move(_run_to_move(old, target, out_dir), target)


def _run_to_move(old: str, target: Family, out_dir: Path) -> KeptRun:
    """The run, or what a call that was killed has left of it."""
    run = run_at(place_named(old, out_dir))
    if not run.bundles:
        moved = run_at(target.path)
        left = None if moved.log is None else moved.log.with_name(log_path(run.name).name)
        links = any(path.is_symlink() for path in run.family.paths)
        is_left = left is not None and left.is_file() and moved.log is not None and _same_file(left, moved.log)
        if not moved.bundles or not (is_left or links):
            find_run(old, out_dir)
        return KeptRun(run.family, (), left if is_left else None, is_left)
    _check_is_a_run(run)
    check_spelling(target.path)
    target.check_free_for_a_run(fresh=False)
    return run


def _check_is_a_run(run: KeptRun) -> None:
    path, state = run.family.path, record_of(run.family.path)
    if state is not None and (role := role_of(path, state)) in ("gold", "fp16"):
        name = run_name(path)
        raise ConflictError(
            f"{path} is the {role} bundle of {name}, and has no name of its own.",
            f"Rename {name}, or let `{command('fork', path, 'NEW')}` make a run of it."
            if role == "gold"
            else f"Rename {name}.",
        )


def _move(run: KeptRun, target: Family) -> list[str]:
    places = {path: _counterpart(path, run.family, target) for path in run.family.paths}
    for source, place in places.items():
        if (place.exists() or place.is_symlink()) and not _is_begun(source, place, run, target.path.name):
            raise ConflictError(f"{place} is there already.", "Choose another name, or remove that with `mypt rm`.")
    log = new_log = run.log
    if run.log is not None and run.has_the_usual_log:
        new_log = run.log.with_name(log_path(target.path.name).name)
        _second_name(run.log, new_log)
    told = []
    for source in run.bundles:
        _move_bundle(source, places[source], target.path.name, new_log or log_path(target.path.name).absolute())
        told.append(f"{display_path(source)} is {display_path(places[source])} now.")
    for source in filter(Path.is_symlink, run.family.paths):
        if not source.exists():  # its folder was renamed, on whichever disk that is
            source.unlink()
    if log is not None and new_log is not None and log != new_log:
        told.append(f"{display_path(log)} is {display_path(new_log)} now.")
        if run.log_is_its_own:
            with storage_errors(log):
                log.unlink()
    return told


def _counterpart(path: Path, old: Family, new: Family) -> Path:
    return new.paths[old.paths.index(path)]


def _is_begun(source: Path, place: Path, run: KeptRun, name: str) -> bool:
    """Whether what is at a new place is there because a call like this one was killed."""
    if not place.exists():  # a link whose folder was not renamed yet
        return source.is_symlink() and place.resolve() == real_path(source).with_name(place.name)
    there, own = record_of(place), record_of(source)
    if there is None or run_name(place) != name:
        return False
    if own is not None:
        with suppress(BundleError):
            same = hash_of_weights(read_manifest(place)) == hash_of_weights(read_manifest(source))
            return same and (there.run_id, there.step) == (own.run_id, own.step)
        return False
    others = {state.run_id for state in map(record_of, run.bundles) if state is not None}
    if there.run_id in others - {None}:
        return True
    return not run.bundles and (run.log is None or has_run(run.log, there.run_id))


def _move_bundle(source: Path, target: Path, name: str, log: Path) -> None:
    place = real_path(source)
    with storage_errors(target):
        if place != source and not target.is_symlink():
            target.symlink_to(place.with_name(target.name))
        if record_of(source) is None:
            rename_noreplace(place, place.with_name(target.name) if place != source else target)
            return
        if not target.exists():
            copy_bundle(source, target, name, log)
        remove(place)


def _second_name(log: Path, new: Path) -> None:
    """Let a log be there under another name too.

    Raises:
        ConflictError: something else has that name.
    """
    if new.exists():
        if _same_file(log, new):
            return
        raise ConflictError(f"{display_path(new)} is there already.", "Choose another name, or rename that log.")
    with storage_errors(new):
        try:
            os.link(log, new)
        except OSError:
            with replacing_file(new) as temporary:
                shutil.copy2(log, temporary)
        flush(new.parent)


def _same_file(a: Path, b: Path) -> bool:
    return a.samefile(b) or filecmp.cmp(a, b, shallow=False)
