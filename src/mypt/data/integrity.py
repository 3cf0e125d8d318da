"""Whether the files of a dataset are those that were made and recorded: by a glance at every start, or read whole."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from mypt.checkpoint.manifest import file_hash
from mypt.data.shards import ShardFile, Shards, described, open_shards
from mypt.errors import InputError
from mypt.schema.files.dataset import METADATA_FILE
from mypt.schema.files.state import DataRecord

WHOLE_BYTES = 1 << 34
"""Files without metadata are hashed whole, once, as a run starts, if all of them have up to so many bytes."""

Reading = Callable[[Path], None]
"""Notified of each file before it is read whole."""


def quietly(_: Path) -> None:
    """Notified of each file, and tells nobody."""


def check_newer(shards: Shards) -> None:
    """Read whole each file that is newer than the metadata, which are written last, and compare its hash.

    Raises:
        InputError: one is not what was made.
    """
    if shards.metadata is None:
        return
    made = (shards.folder / METADATA_FILE).stat().st_mtime_ns
    newer = [file for file in shards.files if file.path.stat().st_mtime_ns > made]
    for problem in _changed(newer, quietly):
        raise InputError(problem, "Copy the whole dataset again, or make it again.")


def changed_files(shards: Shards, reading: Reading = quietly) -> Iterator[str]:
    """Read every file that has a hash in the metadata; a message for each that does not fit it."""
    return _changed(shards.files, reading)


def sealed(record: DataRecord) -> DataRecord:
    """The record of a set with a hash of its whole content, where there are no metadata that have one."""
    if record.dataset_dir is None or record.content_sha256 is not None or described(Path(record.dataset_dir)):
        return record
    shards = open_shards(record.dataset_dir, eval_only=record.train_tokens == 0)
    if sum(f.path.stat().st_size for f in shards.files) > WHOLE_BYTES:
        return record
    return record.model_copy(update={"content_sha256": content_hash(shards)})


def metadata_hash(shards: Shards) -> str:
    """SHA-256 of the files that say what the shards mean: metadata and tokenizer, or the vocabulary of nanoGPT."""
    digest = hashlib.sha256()
    for path in shards.described_by:
        digest.update(f"{path.name} {file_hash(path).sha256}\n".encode())
    return digest.hexdigest()


def content_hash(shards: Shards, reading: Reading = quietly) -> str:
    """SHA-256 of the names and contents of all shards."""
    digest = hashlib.sha256()
    for file in shards.files:
        reading(file.path)
        name = file.path.relative_to(shards.folder).as_posix()
        digest.update(f"{name} {file_hash(file.path).sha256}\n".encode())
    return digest.hexdigest()


def _changed(files: Iterable[ShardFile], reading: Reading) -> Iterator[str]:
    for file in files:
        if file.sha256 is None:
            continue
        reading(file.path)
        if file_hash(file.path).sha256 != file.sha256:
            yield f"{file.path} was changed since it was made: its SHA-256 does not match the metadata."
