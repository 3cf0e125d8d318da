"""manifest.json: the hashes of a bundle's files, written last and checked whenever a file is read."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from mypt.checkpoint.layout import (
    FP16,
    GOLD,
    LARGEST_BYTES,
    MANIFEST_FILE,
    MODEL_FILE,
    MODEL_PARTS,
    PART,
    STATE_FILE,
    base_name,
    command,
    names_in,
    place_of,
)
from mypt.errors import BundleError
from mypt.regular import open_regular
from mypt.schema.base import is_folder_name
from mypt.schema.files.manifest import FileHash, Manifest
from mypt.schema.json_files import decode_json, read_bounded


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Tell of a file of a bundle that the system does not let be read, which says nothing about what is in it.

    Raises:
        BundleError: in place of an `OSError`.
    """
    try:
        yield
    except OSError as error:
        raise BundleError(
            f"{path} cannot be read: {error.strerror or error}.", "Check that you may read it, and the disk."
        ) from error


def damaged(path: Path, why: str) -> BundleError:
    """The error for an unusable file of a bundle; says which other bundles of the run are whole."""
    return BundleError(f"{path} {why}.", _way_on(place_of(path)[0]))


def _way_on(bundle: Path) -> str:
    """What can be done without a bundle: with a copy of its file, or with those of its run that lie beside it."""
    own = _record(bundle)
    name = own.get("name")
    run = bundle.with_name(name if is_folder_name(name) else base_name(bundle.name))
    family = [run, run.with_name(run.name + GOLD), run.with_name(run.name + FP16)]
    whole = [p for p in family if p != bundle and _is_whole(p) and _is_of(p, run.name, own.get("run_id"))]
    exported = bundle.with_name(bundle.name.removesuffix(FP16))
    ways = ["Restore the file from a copy"]
    if bundle == run and family[1] in whole:
        ways.append(f"go on from the run's best evaluation with `{command('resume', run, '--from', 'gold')}`")
    if exported in whole:
        ways.append(f"remove it and make it again with `{command('export-fp16', exported)}`")
    if whole:
        ways.append(f"use {' or '.join(p.name for p in whole)} of the same run in its place")
    return ", or ".join(ways) + "."


def _is_whole(bundle: Path) -> bool:
    """Whether every file has the size that it was saved with, and every JSON file the content."""
    try:
        files = _manifest(_content(bundle / MANIFEST_FILE)).files.items()
        return all(
            (bundle / name).stat().st_size == saved.bytes
            and (name.endswith((".pt", PART)) or (saved.bytes <= _largest(name) and file_hash(bundle / name) == saved))
            for name, saved in files
        )
    except (OSError, ValueError):
        return False


def _is_of(bundle: Path, name: str, run_id: str | None) -> bool:
    record = _record(bundle)
    return record.get("name") in (None, name) and run_id in (None, record.get("run_id"))


def _record(bundle: Path) -> dict[str, Any]:
    """A training state as it stands in the file, for what can be read of one that may be damaged."""
    try:
        state = decode_json(_content(bundle / STATE_FILE))
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def write_manifest(folder: Path, step: int, known: Mapping[str, FileHash] | None = None) -> None:
    """Hash every file of a folder that is not known yet, as read back from disk, and write the manifest."""
    known = known or {}
    files = {name: known.get(name) or file_hash(folder / name) for name in sorted({*names_in(folder), *known})}
    write_text(Manifest(step=step, files=files), folder)


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a bundle.

    Raises:
        BundleError: it is missing or damaged.
    """
    path = folder / MANIFEST_FILE
    try:
        with reading(path):
            if not path.is_file():
                raise damaged(path, "is missing")
            return _manifest(_content(path))
    except ValueError as error:
        raise damaged(path, "is damaged") from error


def hash_of_weights(manifest: Manifest) -> str:
    """What tells the weights of a bundle from others: the hash of their file, or that of the hashes of their parts."""
    if (whole := manifest.files.get(MODEL_FILE)) is not None:
        return whole.sha256
    parts = sorted(file.sha256 for name, file in manifest.files.items() if name.startswith(f"{MODEL_PARTS}/"))
    return hashlib.sha256("".join(parts).encode()).hexdigest()


@lru_cache(maxsize=4)  # it is needed for each file of the bundle
def _manifest(content: bytes) -> Manifest:
    manifest = Manifest.model_validate_json(content)
    if content != _as_text(manifest).encode("utf-8"):  # the manifest has no hash of its own
        raise ValueError("the manifest is not in canonical form")
    return manifest


def _content(path: Path) -> bytes:
    return read_bounded(path, _largest(path.name))


def _largest(name: str) -> int:
    return LARGEST_BYTES.get(name, LARGEST_BYTES[MANIFEST_FILE])


def write_text(manifest: Manifest, folder: Path) -> None:
    """Write a manifest into its bundle."""
    (folder / MANIFEST_FILE).write_text(_as_text(manifest), encoding="utf-8", newline="\n")


def _as_text(manifest: Manifest) -> str:
    return json.dumps(manifest.model_dump(), indent=2, ensure_ascii=False) + "\n"


def check_file(path: Path, *, content: bool = True) -> None:
    """Compare the size and, for `content`, the hash of a file of a bundle with the manifest.

    Raises:
        BundleError: it is missing, not in the manifest, or was changed since it was saved.
    """
    with reading(path):
        if not path.is_file():
            raise damaged(path, "is missing")
        bundle, name = place_of(path)
        saved, size = read_manifest(bundle).files.get(name), path.stat().st_size
        if saved is None:
            raise damaged(path, "is not one of the files that were saved with this bundle")
        if size != saved.bytes:
            raise damaged(path, f"is damaged: it has {size:,} bytes and was saved with {saved.bytes:,}")
        if size > LARGEST_BYTES.get(path.name, size):
            raise damaged(
                path, f"has {size:,} bytes, more than the {LARGEST_BYTES[path.name]:,} that such a file can have"
            )
        if content and file_hash(path).sha256 != saved.sha256:
            raise damaged(path, "is damaged or was changed since it was saved: its SHA-256 does not match the manifest")


def file_hash(path: Path) -> FileHash:
    """Size and SHA-256 of a file."""
    with open_regular(path) as file:
        return FileHash(bytes=path.stat().st_size, sha256=hashlib.file_digest(file, "sha256").hexdigest())
