"""manifest.json: what a bundle consists of, written last."""

from dataclasses import dataclass


@dataclass(frozen=True)
class FileHash:
    """Size and SHA-256 of one file."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """Every other file of the bundle by its name, and the step that they all belong to."""

    step: int
    files: dict[str, FileHash]
