"""manifest.json: what a bundle consists of, written last."""

from mypt.schema.base import Record


class FileHash(Record):
    """Size and SHA-256 of one file."""

    bytes: int
    sha256: str


class Manifest(Record):
    """Every other file of the bundle by its name, and the step that they all belong to."""

    step: int
    files: dict[str, FileHash]
