"""All settings of one call, in their sections."""

from pathlib import Path

from mypt.schema.base import Record, Section
from mypt.schema.settings.config import GPTConfig
from mypt.schema.settings.data import DataConfig
from mypt.schema.settings.output import OutputConfig
from mypt.schema.settings.training import TrainingConfig

SECTIONS: dict[str, type[Section]] = {
    "Data": DataConfig,
    "Architecture": GPTConfig,
    "Training": TrainingConfig,
    "Files": OutputConfig,
}
"""Every section of settings by its heading in `--help`. Field names are unique across sections."""


class RunSettings(Record):
    """All settings of one call, resolved, and which of them somebody gave."""

    data: DataConfig
    model: GPTConfig
    training: TrainingConfig
    output: OutputConfig
    given: dict[str, str]
    """The settings that were given, each with its source: `command line`, a config file or a preset."""
    preset: str | None = None
    config_file: Path | None = None
    description: dict[str, str] = {}
    """The config file's `name` and `description`."""
    ignored: tuple[str, ...] = ()
    """Fields of the config file that mypt does not have and was told to ignore."""

    def notes(self) -> list[str]:
        """What a user should know of how the settings came about."""
        return [f"Ignored in {self.config_file}: {', '.join(self.ignored)}."] if self.ignored else []

    def values(self) -> dict[str, object]:
        """Every setting's value by its field name."""
        return {name: getattr(s, name) for s in self.sections() for name in type(s).model_fields}

    def sections(self) -> tuple[Section, ...]:
        """The four sections, in the order of `SECTIONS`."""
        return (self.data, self.model, self.training, self.output)
