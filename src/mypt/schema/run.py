"""Settings of a run beside the model and its training: where the text comes from, where the record goes."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, field_validator

from mypt.schema.config import GPTConfig
from mypt.schema.fields import Section, setting
from mypt.schema.training import TrainingConfig

Tokenization = Literal["gpt2", "char", "bpe"]


class DataConfig(Section):
    """Where the text comes from and how it becomes tokens."""

    input_file: tuple[str, ...] = setting(
        (),
        "Text to train on, UTF-8: a file, a .gz, an https:// address, or - for standard input; repeat it for "
        "several. Without any, Python's own language reference is used.",
        on_resume="refused",
    )
    tokenization: Tokenization = setting(
        "gpt2", "Tokens: gpt2's own vocabulary, one per char, or a bpe vocabulary trained on the input.",
        on_resume="refused",
    )  # fmt: skip
    bpe_vocab_size: int = setting(
        4096, "Size of the vocabulary that bpe trains; at least 256, one for each byte.",
        unit="tokens", on_resume="refused", ge=256,
    )  # fmt: skip

    @field_validator("input_file", mode="before")
    @classmethod
    def _one_or_several(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value


class OutputConfig(Section):
    """Where the record goes."""

    out_dir: Path = setting(Path("checkpoints"), "Folder of all bundles.", on_resume="harmless")
    log_file: Path | None = setting(
        None, "The run's log, one JSON event a line; logs/train/NAME_eval.jsonl when not given.",
        on_resume="harmless",
    )  # fmt: skip


SECTIONS: dict[str, type[Section]] = {
    "Data": DataConfig,
    "Architecture": GPTConfig,
    "Training": TrainingConfig,
    "Files": OutputConfig,
}
"""Every section of settings by its heading in `--help`. Field names are unique across sections."""


class RunSettings(BaseModel):
    """All settings of one call, resolved, and which of them somebody gave."""

    model_config = ConfigDict(frozen=True, protected_namespaces=())

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

    def values(self) -> dict[str, object]:
        """Every setting's value by its field name."""
        return {name: getattr(s, name) for s in self.sections() for name in type(s).model_fields}

    def sections(self) -> tuple[Section, ...]:
        """The four sections, in the order of `SECTIONS`."""
        return (self.data, self.model, self.training, self.output)
