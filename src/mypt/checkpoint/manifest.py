"""manifest.json: the hashes of a bundle's files, written last and checked whenever a file is read."""

import hashlib
import json
from functools import lru_cache
from pathlib import Path

from mypt.errors import BundleError
from mypt.schema.files.manifest import FileHash, Manifest

MANIFEST_FILE = "manifest.json"


def damaged(path: Path, why: str) -> BundleError:
    """The error for an unusable file of a bundle."""
    return BundleError(
        f"{path} {why}.", "Restore the file from a copy, or use another bundle of the same run, such as its _fp16."
    )


def write_manifest(folder: Path, step: int) -> None:
    """Hash every file of a folder, as read back from disk, and write the manifest."""
    files = {p.name: file_hash(p) for p in sorted(folder.iterdir())}
    write_text(Manifest(step=step, files=files), folder)


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a bundle.

    Raises:
        BundleError: it is missing or damaged.
    """
    path = folder / MANIFEST_FILE
    if not path.is_file():
        raise damaged(path, "is missing")
    try:
        return _manifest(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise damaged(path, "is damaged") from error


@lru_cache(maxsize=4)  # it is needed for each file of the bundle
def _manifest(content: bytes) -> Manifest:
    manifest = Manifest.model_validate_json(content)
    if content != _as_text(manifest).encode("utf-8"):  # the manifest has no hash of its own
        raise ValueError("the manifest is not in canonical form")
    return manifest


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
    if not path.is_file():
        raise damaged(path, "is missing")
    saved = read_manifest(path.parent).files.get(path.name)
    if saved is None:
        raise damaged(path, "is not one of the files that were saved with this bundle")
    if path.stat().st_size != saved.bytes:
        raise damaged(path, f"is damaged: it has {path.stat().st_size:,} bytes and was saved with {saved.bytes:,}")
    if content and file_hash(path).sha256 != saved.sha256:
        raise damaged(path, "is damaged or was changed since it was saved: its SHA-256 does not match the manifest")


def file_hash(path: Path) -> FileHash:
    """Size and SHA-256 of a file."""
    with path.open("rb") as file:
        return FileHash(bytes=path.stat().st_size, sha256=hashlib.file_digest(file, "sha256").hexdigest())
