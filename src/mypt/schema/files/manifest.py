"""manifest.json: the hashes of a bundle's files, written last; see docs/files.md."""

from typing import Annotated

from pydantic import Field

from mypt.schema.base import Record


class FileHash(Record):
    """Size and SHA-256 of one file."""

    bytes: int
    sha256: str


class Manifest(Record):
    """The step of the bundle and its files by name."""

    step: int
    files: dict[Annotated[str, Field(pattern=r"^((model|optimizer)/)?[^/\\\x00]+$")], FileHash]
