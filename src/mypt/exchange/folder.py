"""mypt.json in an exported folder: read, and compared with what lies there."""

from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from mypt.checkpoint.layout import EXPORT_FILE, LARGEST_EXPORT_RECORD
from mypt.checkpoint.manifest import file_hash
from mypt.errors import InputError
from mypt.schema.base import explain_validation
from mypt.schema.files.export import ExportRecord
from mypt.schema.json_files import decode_json, read_bounded


@dataclass(frozen=True)
class Changes:
    """What is not as it was exported; each a list of names.

    Attributes:
        lost: files that are gone.
        changed: files with another content.
        added: files that the export did not write.
    """

    lost: tuple[str, ...]
    changed: tuple[str, ...]
    added: tuple[str, ...]

    @property
    def all(self) -> list[str]:
        """One phrase for each file."""
        return [
            *(f"{name} was changed" for name in self.changed),
            *(f"{name} was added" for name in self.added),
            *(f"{name} was removed" for name in self.lost),
        ]


def read_record(folder: Path) -> ExportRecord:
    """Read mypt.json.

    Raises:
        InputError: it cannot be read, or is none.
    """
    path = folder / EXPORT_FILE
    todo = "Export the bundle again, to another place."
    try:
        return ExportRecord.model_validate(decode_json(read_bounded(path, LARGEST_EXPORT_RECORD)))
    except ValidationError as error:
        raise InputError(f"{path} is damaged.", todo, explain_validation(error)) from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}.", todo) from error


def changes(folder: Path, record: ExportRecord) -> Changes:
    """What in a folder is not as its record says; every file is hashed."""
    there = {path.name for path in folder.iterdir()} - {EXPORT_FILE}
    lost = sorted(name for name in record.files if not (folder / name).is_file())
    changed = [n for n, saved in record.files.items() if n not in lost and file_hash(folder / n) != saved]
    return Changes(tuple(lost), tuple(changed), tuple(sorted(there - record.files.keys())))
