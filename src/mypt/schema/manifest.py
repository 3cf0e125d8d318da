"""manifest.json: what a bundle consists of, written last."""

from pydantic import BaseModel, ConfigDict


class FileHash(BaseModel):
    """Size and SHA-256 of one file."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    bytes: int
    sha256: str


class Manifest(BaseModel):
    """Every other file of the bundle by its name, and the step that they all belong to."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    step: int
    files: dict[str, FileHash]
