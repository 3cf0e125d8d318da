"""Keeps what a name held before a run starts over or rewinds: under another name, with its log."""

from datetime import datetime
from pathlib import Path

from mypt.checkpoint.archive import archived_log_path, copy_bundle, log_of_run, move_bundle
from mypt.checkpoint.atomic import copy_file, rename_noreplace
from mypt.checkpoint.manager import CheckpointManager
from mypt.train.observer import Observer


def move_run(manager: CheckpointManager, log: Path, observer: Observer) -> None:
    """Rename the bundles and the log of a name, so that a fresh start loses nothing."""
    kept = _free_name(manager)
    kept_log = archived_log_path(log, manager.name, kept.name)
    for old, new in zip((manager.path, *manager.family()), (kept.path, *kept.family()), strict=True):
        if old.exists():
            own_log = log_of_run(old) or log
            move_bundle(old, new, kept.name, kept_log if own_log.absolute() == log.absolute() else own_log)
            observer.notice(f"Moved {old} aside to {new}.")
    if log.exists():
        rename_noreplace(log, kept_log)
        observer.notice(f"Moved {log} aside to {kept_log}.")


def copy_run(manager: CheckpointManager, log: Path, observer: Observer) -> None:
    """Copy the last bundle and the log to a name of their own, before a rewind to gold."""
    kept = _free_name(manager)
    kept_log = archived_log_path(log, manager.name, kept.name)
    if log.exists():
        copy_file(log, kept_log)
    copy_bundle(manager.path, kept.path, kept.name, kept_log)
    observer.notice(f"Kept a copy of {manager.path} in {kept.path}.")


def _free_name(manager: CheckpointManager) -> CheckpointManager:
    return CheckpointManager(f"{manager.name}_{datetime.now():%Y%m%d-%H%M%S}", manager.path.parent)
