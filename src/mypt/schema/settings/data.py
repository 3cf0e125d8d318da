"""Settings of the training and evaluation data."""

import re
from collections import Counter
from collections.abc import Iterable
from typing import Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from mypt.regular import expanded
from mypt.schema.base import Section, setting

Tokenization = Literal["gpt2", "char", "bpe"]
TokenKind = Literal[Tokenization, "ids", "hf"]
"""What the ids of data can be: of a tokenizer that can be chosen, ids alone, whose vocabulary is not known, or of a
tokenizer of Hugging Face, which came with an imported model."""
Sampling = Literal["epoch", "random"]
EVAL_SET_NAME = r"^[A-Za-z][A-Za-z0-9_-]{0,40}$"
RESERVED_NAMES = ("val", "train", "duration_s")
"""Names that an eval set cannot have, because fields of the log's eval event use them."""


def wrong_eval_set_names(names: Iterable[str]) -> list[str]:
    """One message for each invalid name of an eval set."""
    return [
        f"{name!r} cannot name an eval set; use letters, digits, - and _, and none of {', '.join(RESERVED_NAMES)}"
        for name in names
        if not re.match(EVAL_SET_NAME, name) or name in RESERVED_NAMES
    ]


class PhaseConfig(Section):
    """One phase of a curriculum."""

    name: str = Field(min_length=1, description="Name of the phase, shown at each evaluation.")
    dataset_dir: str = Field(description="Folder of token shards to train on.")
    until_iter: int | None = Field(None, gt=0, description="Step at which the phase ends; optional for the last phase.")
    description: str = Field("", description="Free-text description.")


class Curriculum(Section):
    """Consecutive training phases, each with its own data.

    Raises:
        pydantic.ValidationError: phases overlap, go backwards, leave a gap, or share a name.
    """

    description: str = Field("", description="Free-text description.")
    phases: tuple[PhaseConfig, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        start = 0
        for phase in self.phases[:-1]:
            if phase.until_iter is None:
                raise ValueError(f"phase {phase.name} has no until_iter, so the one after it never begins")
        for phase in self.phases:
            if phase.until_iter is not None and phase.until_iter <= start:
                raise ValueError(
                    f"phase {phase.name} ends at {phase.until_iter}, but the phase before it ends at {start}"
                )
            start = phase.until_iter or start
        names = [phase.name for phase in self.phases]
        if len(set(names)) < len(names):
            raise ValueError(f"two phases have the same name: {', '.join(names)}")
        return self

    @property
    def end(self) -> int | None:
        """Step at which the last phase ends; None if it is open-ended."""
        return self.phases[-1].until_iter


class DataPlaces(Section):
    """Where the data of a run are: of a new one, or where those of a recorded one have moved."""

    input_file: tuple[str, ...] = setting(
        (),
        "Text to train on: a file (text, JSON, JSON lines, CSV, TSV or Parquet, packed or not), an https:// URL, or - "
        "for standard input; repeat for several files. Defaults to Python's language reference as a sample.",
        on_resume="refused",
        common=True,
    )
    dataset_dir: str | None = setting(
        None,
        "Folder of token shards to train on instead of a text; see `mypt prepare`.",
        on_resume="refused",
        common=True,
    )
    phase_dirs: dict[str, str] = setting(
        {}, "Folders of token shards of a curriculum's phases, each NAME=PATH, in place of those in the config file or "
        "in the record; repeat for several.",
        on_resume="harmless", names=("--phase",),
    )  # fmt: skip
    eval_dataset_dir: str | None = setting(
        None, "Additional eval set, named general: a folder of shards or a text file.", on_resume="gold"
    )
    eval_sets: dict[str, str] = setting(
        {}, "Additional eval sets, each NAME=PATH of a folder of shards or a text file; repeat for several. A recorded "
        "one is left out from here on by NAME= without a path.",
        on_resume="gold", names=("--eval-set",),
    )  # fmt: skip

    @field_validator("input_file", mode="before")
    @classmethod
    def _as_tuple(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("eval_sets", "phase_dirs", mode="before")
    @classmethod
    def _parse_pairs(cls, value: object, info: ValidationInfo) -> object:
        if value is None:
            return {}
        if isinstance(value, dict):
            return {name: "" if path is None else path for name, path in value.items()}
        if not isinstance(value, list | tuple):
            return value
        names = Counter(str(pair).split("=", 1)[0] for pair in value if "=" in str(pair))
        problems = [f"{pair} has no name; write it as NAME=PATH" for pair in value if "=" not in str(pair)]
        kind = "set" if info.field_name == "eval_sets" else "phase"
        problems += [f"the {kind} {name} is given more than once" for name, times in names.items() if times > 1]
        if problems:
            raise ValueError("; ".join(problems))
        return dict(str(pair).split("=", 1) for pair in value)

    @model_validator(mode="after")
    def _check_places(self) -> Self:
        if self.input_file and self.dataset_dir:
            raise ValueError("input_file is given together with dataset_dir; give a text or shards")
        if wrong := wrong_eval_set_names(self.every_eval_set):
            raise ValueError("; ".join(wrong))
        if self.eval_dataset_dir and "general" in self.eval_sets:
            raise ValueError("eval_sets has a set named general, which is the name of eval_dataset_dir")
        if empty := [name for name, path in self.phase_dirs.items() if not path]:
            raise ValueError(f"phase {empty[0]} has no path; write it as NAME=PATH")
        return self

    @property
    def every_eval_set(self) -> dict[str, str]:
        """Path of each additional eval set, by name; empty for one that is left out."""
        general = {} if self.eval_dataset_dir is None else {"general": self.eval_dataset_dir}
        return {**general, **self.eval_sets}


class DataConfig(DataPlaces):
    """Training and evaluation data, and the tokenizer."""

    tokenization: Tokenization = setting(
        "gpt2", "Tokenizer: GPT-2's vocabulary (gpt2), characters (char), or byte pairs trained on the input (bpe).",
        on_resume="refused", common=True,
    )  # fmt: skip
    bpe_vocab_size: int = setting(
        4096, "Vocabulary size for bpe; at least 256, one token per byte.",
        unit="tokens", on_resume="refused", ge=256,
    )  # fmt: skip
    text_field: str = setting(
        "text", "Field or column that has the text, where an input has rows.", on_resume="refused"
    )
    sampling: Sampling | None = setting(
        None, "Order of training windows: shuffled epochs (epoch, the default for shards) or drawn with replacement "
        "(random, the default for a text).",
        on_resume="refused",
    )  # fmt: skip
    use_loss_mask: bool | None = setting(
        None, "Compute the loss only on tokens selected by the shards' loss masks, which `mypt prepare --chat` makes; "
        "defaults to on for data that have masks.",
        on_resume="refused",
    )  # fmt: skip
    curriculum: Curriculum | None = setting(
        None,
        "Training phases, each with name, dataset_dir and until_iter.",
        on_resume="refused",
        option=False,
        config=True,
    )

    @model_validator(mode="after")
    def _check_sources(self) -> Self:
        if self.input_file and self.curriculum:
            raise ValueError("input_file is given together with curriculum; give a text or shards")
        names = [p.name for p in self.curriculum.phases] if self.curriculum else []
        if unknown := [name for name in self.phase_dirs if self.curriculum and name not in names]:
            raise ValueError(f"phase_dirs names {unknown[0]}, but the phases are {', '.join(names)}")
        return self

    @property
    def phases(self) -> tuple[PhaseConfig, ...]:
        """The phases of the curriculum, each with the folder that it is to be read from; empty without one."""
        return tuple(
            phase.model_copy(update={"dataset_dir": self.phase_dirs.get(phase.name, phase.dataset_dir)})
            for phase in (self.curriculum.phases if self.curriculum else ())
        )

    def missing_paths(self) -> list[str]:
        """Paths in the settings that do not exist."""
        files = [p for p in self.input_file if p != "-" and "://" not in p]
        paths = [*files, self.dataset_dir, *(p.dataset_dir for p in self.phases), *self.every_eval_set.values()]
        return [path for path in dict.fromkeys(paths) if path and not expanded(path).exists()]
