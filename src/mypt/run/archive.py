"""Keeps what a name held before a run starts over or rewinds: under another name, with its log."""

from collections.abc import Sequence
from datetime import datetime
from itertools import count
from pathlib import Path

from mypt.checkpoint.atomic import copy_file, rename_noreplace
from mypt.checkpoint.family import Family, archived_log_path, copy_bundle, move_bundle
from mypt.checkpoint.layout import display_path, log_path
from mypt.errors import BundleError
from mypt.log.locate import own_log
from mypt.train.observer import Observer


def move_aside(family: Family, paths: Sequence[Path], observer: Observer) -> None:
    """Rename bundles of a name, so that a new run of this name loses nothing.

    The run's log goes with its own bundle if it has the usual name; under another name it may be that of other runs
    as well, so it stays.

    Args:
        family: the name.
        paths: those of its bundles that are to be moved.
        observer: notified of each.
    """
    name, usual = family.path.name, log_path(family.path.name)
    log = own_log(family.path) or usual.absolute()
    kept = _free_family(family, log)
    moves = family.path in paths and log.name == usual.name and log.is_file()
    for old in paths:
        new, own = kept.path.with_name(old.name.replace(name, kept.path.name, 1)), own_log(old) or log
        moved = archived_log_path(own, name, kept.path.name) if moves and own == log else own
        move_bundle(old, new, kept.path.name, moved)
        observer.notice(f"Moved {old} aside to {new}.")
    if moves:
        kept_log = archived_log_path(log, name, kept.path.name)
        rename_noreplace(log, kept_log)
        observer.notice(f"Moved {display_path(log)} aside to {display_path(kept_log)}.")


def keep_copy(family: Family, observer: Observer) -> None:
    """Copy the last bundle and the log to a name of their own, before a rewind to gold; move what cannot be read."""
    log = own_log(family.path) or log_path(family.path.name).absolute()
    kept = _free_family(family, log)
    kept_log = archived_log_path(log, family.path.name, kept.path.name)
    try:
        copy_bundle(family.path, kept.path, kept.path.name, kept_log)
    except BundleError:
        rename_noreplace(family.path, kept.path)
        observer.notice(f"Moved {family.path}, which is damaged, aside to {kept.path}.")
        return
    if log.is_file():
        copy_file(log, kept_log)
    observer.notice(f"Kept a copy of {family.path} in {kept.path}.")


def _free_family(family: Family, log: Path) -> Family:
    """The name and the time of day, and a number where that is taken."""
    name = f"{family.path.name}_{datetime.now():%Y%m%d-%H%M%S}"
    for number in count(1):
        kept = Family(family.path.with_name(name if number == 1 else f"{name}_{number}"))
        places = (*kept.paths, archived_log_path(log, family.path.name, kept.path.name))
        if not any(path.exists() or path.is_symlink() for path in places):
            break
    return kept
