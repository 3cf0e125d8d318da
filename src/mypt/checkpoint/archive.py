"""Archives a run: renames its bundles and its log."""

import os
import shutil
from pathlib import Path

from mypt.checkpoint.atomic import rename_noreplace, replacing, storage_errors
from mypt.checkpoint.files import read_state, write_json
from mypt.checkpoint.layout import STATE_FILE, log_of, log_reference
from mypt.checkpoint.manifest import MANIFEST_FILE, file_hash, read_manifest, write_text
from mypt.errors import BundleError


def copy_bundle(source: Path, target: Path, name: str, log: Path) -> None:
    """Copy a bundle atomically; the copy's training state is that of a run called `name`, and points to `log`.

    Files are hard-linked where possible, since no file of a bundle is ever modified in place. Existing hashes are
    kept rather than recomputed, so that damage to the source is still detected in the copy.

    Raises:
        BundleError: the training state or the manifest cannot be read.
        StorageError: the copy cannot be written.
    """
    state, manifest = read_state(source), read_manifest(source)
    with replacing(target) as folder:
        for path in source.iterdir():
            if path.name not in (STATE_FILE, MANIFEST_FILE):
                _link_or_copy(path, folder / path.name)
        write_json(folder / STATE_FILE, state.model_copy(update={"name": name, "log_file": log_reference(log, target)}))
        files = {**manifest.files, STATE_FILE: file_hash(folder / STATE_FILE)}
        write_text(manifest.model_copy(update={"files": files}), folder)


def move_bundle(source: Path, target: Path, name: str, log: Path) -> None:
    """Rename a bundle and let its training state tell `name` and `log`; an unreadable bundle is only renamed.

    Raises:
        StorageError: the disk refused; the bundle keeps its old name.
    """
    try:
        copy_bundle(source, target, name, log)
    except BundleError:
        rename_noreplace(source, target)
        return
    with storage_errors(source):
        shutil.rmtree(source)


def archived_log_path(log: Path, name: str, new_name: str) -> Path:
    """Path of a run's log once the run `name` is archived as `new_name`."""
    return log.with_name(log.name.replace(name, new_name, 1) if log.name.startswith(name) else f"{new_name}_{log.name}")


def log_of_run(bundle: Path) -> Path | None:
    """The log that a bundle's training state points to; None if there is none or it cannot be read."""
    try:
        return log_of(bundle, read_state(bundle))
    except BundleError:
        return None


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # no hard links on this file system
        shutil.copy2(source, target)
