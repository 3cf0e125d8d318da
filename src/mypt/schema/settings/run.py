"""All settings of a run, by section."""

from pathlib import Path

from mypt.schema.base import Record, Section, same_as
from mypt.schema.settings.config import GPTConfig
from mypt.schema.settings.data import DataConfig, DataPlaces
from mypt.schema.settings.output import OutputConfig
from mypt.schema.settings.training import TrainingConfig

SECTIONS: dict[str, type[Section]] = {
    "Data": DataConfig,
    "Architecture": GPTConfig,
    "Training": TrainingConfig,
    "Files": OutputConfig,
}
"""The sections of settings by heading in `--help`. Field names are unique across sections."""


class ReproducePlaces(DataPlaces):
    """Where the inputs of a run that is to be run again are, if not where its record says."""

    init_from_model: str | None = same_as(TrainingConfig, "init_from_model")


class RunSettings(Record):
    """The resolved settings of one call, and which of them were given."""

    data: DataConfig
    model: GPTConfig
    training: TrainingConfig
    output: OutputConfig
    given: dict[str, str]
    """Source of each setting that was given: `command line`, a config file or a preset."""
    preset: str | None = None
    config_file: Path | None = None
    description: dict[str, str] = {}
    """The config file's `name` and `description`."""
    ignored: tuple[str, ...] = ()
    """Unknown keys of the config file that were ignored."""

    def notes(self) -> list[str]:
        """Messages for the user about how the settings were resolved."""
        return [f"Ignored in {self.config_file}: {', '.join(self.ignored)}."] if self.ignored else []

    def values(self) -> dict[str, object]:
        """All settings by field name."""
        return {name: getattr(s, name) for s in self.sections() for name in type(s).model_fields}

    def sections(self) -> tuple[Section, ...]:
        """The four sections, in the order of `SECTIONS`."""
        return (self.data, self.model, self.training, self.output)
