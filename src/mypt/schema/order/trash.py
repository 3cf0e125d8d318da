"""removed.json: what lies in a folder of the trash, so that it can be put back; see docs/files.md."""

from typing import Annotated, Literal

from pydantic import AfterValidator

from mypt.schema.base import Record, is_folder_name, place


def _name(name: str) -> str:
    """A name that leads to no other folder."""
    if not is_folder_name(name):
        raise ValueError("is no name of a folder")
    return name


Name = Annotated[str, AfterValidator(_name)]


class Removed(Record):
    """The file.

    Attributes:
        schema_version: increases when a field changes its meaning.
        name: what was removed: a run, or one of its bundles.
        removed_at: wall-clock time, ISO 8601.
        bundles: names of the bundles that it had.
        log: where its log was; None if that stayed.
        run_id: id of the run.
        step: step of its weights.
        best_val_loss: lowest val loss of the run.
        bytes: what it took on the disk.
    """

    schema_version: Literal[1] = 1
    name: Name
    removed_at: str
    bundles: tuple[Name, ...]
    log: Annotated[str, AfterValidator(place)] | None = None
    run_id: str | None = None
    step: int | None = None
    best_val_loss: float | None = None
    bytes: int = 0
