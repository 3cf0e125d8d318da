"""Setting a run aside: its bundles and its log get a name of their own, and nothing writes into them any more."""

import os
import shutil
from pathlib import Path

from mypt.checkpoint.atomic import move_aside, replacing, storage_errors
from mypt.checkpoint.files import read_state, write_json
from mypt.checkpoint.layout import STATE_FILE, log_of, stored_log
from mypt.checkpoint.manifest import MANIFEST_FILE, file_hash, read_manifest, write_text
from mypt.errors import BundleError


def copy_bundle(source: Path, target: Path, log: Path) -> None:
    """Give a bundle a second name, whole or not at all, under which its record names `log`.

    Its files are linked where the disk can do that, for no file of a bundle is ever changed in place. What was
    damaged stays recognisable: the hashes of the other files are carried over, not made again.

    Raises:
        BundleError: its training state or manifest cannot be read.
        StorageError: the disk refused.
    """
    state, manifest = read_state(source), read_manifest(source)
    with replacing(target) as folder:
        for path in source.iterdir():
            if path.name not in (STATE_FILE, MANIFEST_FILE):
                _link_or_copy(path, folder / path.name)
        write_json(folder / STATE_FILE, state.model_copy(update={"log_file": stored_log(log, target)}))
        files = {**manifest.files, STATE_FILE: file_hash(folder / STATE_FILE)}
        write_text(manifest.model_copy(update={"files": files}), folder)


def move_bundle(source: Path, target: Path, log: Path) -> None:
    """Give a bundle another name, under which its record names `log`; one that cannot be read is only renamed.

    Raises:
        StorageError: the disk refused; the bundle is still there under its old name.
    """
    try:
        copy_bundle(source, target, log)
    except BundleError:
        move_aside(source, target)
        return
    with storage_errors(source):
        shutil.rmtree(source)


def aside_log(log: Path, name: str, kept: str) -> Path:
    """Where the log of a run goes when the run `name` is set aside as `kept`."""
    return log.with_name(log.name.replace(name, kept, 1) if log.name.startswith(name) else f"{kept}_{log.name}")


def log_of_run(bundle: Path) -> Path | None:
    """The log that a bundle's record names; None where it names none or cannot be read."""
    try:
        return log_of(bundle, read_state(bundle))
    except BundleError:
        return None


def _link_or_copy(path: Path, to: Path) -> None:
    try:
        os.link(path, to)
    except OSError:  # the file system has no links, or not here
        shutil.copy2(path, to)
