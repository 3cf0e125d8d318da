"""Settings of where the text comes from and how it becomes tokens."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from pydantic import Field, field_validator, model_validator

from mypt.schema.base import Section, setting
from mypt.schema.files.state import Sampling
from mypt.schema.files.tokenizer import Tokenization

EVAL_SET_NAME = r"^[A-Za-z][A-Za-z0-9_-]{0,40}$"
TAKEN_NAMES = ("val", "train", "duration_s")
"""Names that an eval set cannot have, because the log's fields of an evaluation have them."""


def wrong_eval_set_names(names: Iterable[str]) -> list[str]:
    """A clause on each name that an eval set cannot have."""
    return [
        f"{name!r} cannot name an eval set; use letters, digits, - and _, and none of {', '.join(TAKEN_NAMES)}"
        for name in names
        if not re.match(EVAL_SET_NAME, name) or name in TAKEN_NAMES
    ]


class PhaseConfig(Section):
    """One phase of a curriculum."""

    name: str = Field(min_length=1, description="Name of the phase, shown at each evaluation.")
    dataset_dir: str = Field(description="Folder of the shards that it trains on.")
    until_iter: int | None = Field(None, gt=0, description="Step at which it ends; the last phase needs none.")
    description: str = Field("", description="A note on what it is for.")


class Curriculum(Section):
    """Phases that follow one another, each on its own data.

    Raises:
        pydantic.ValidationError: phases overlap, go backwards, leave a gap, or share a name.
    """

    phases: tuple[PhaseConfig, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _follow_one_another(self) -> Self:
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
        """Step at which the last phase ends; None if it goes on for as long as the run."""
        return self.phases[-1].until_iter


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

    dataset_dir: str | None = setting(
        None, "Folder of token shards to train on, in place of a text; see `mypt prepare`.", on_resume="refused"
    )
    sampling: Sampling | None = setting(
        None, "Order of the training windows: a shuffled epoch at a time, the default for shards, or random, the "
        "default for a text.",
        on_resume="refused",
    )  # fmt: skip
    use_loss_mask: bool = setting(
        False, "Let only those tokens count that the shards' masks name, as `mypt prepare --chat` makes them.",
        on_resume="refused",
    )  # fmt: skip
    eval_dataset_dir: str | None = setting(
        None, "A further set to evaluate on, named general: a folder of shards, or a text file.", on_resume="harmless"
    )
    eval_sets: dict[str, str] = setting(
        {}, "Further sets to evaluate on, each NAME=PATH of a folder of shards or a text file; repeat it for several.",
        on_resume="harmless", names=("--eval-set",),
    )  # fmt: skip
    curriculum: Curriculum | None = setting(
        None, "Phases, each with its name, dataset_dir and until_iter.", on_resume="refused", option=False, config=True
    )

    @field_validator("input_file", mode="before")
    @classmethod
    def _one_or_several(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("eval_sets", mode="before")
    @classmethod
    def _named_paths(cls, value: object) -> object:
        if not isinstance(value, list | tuple):
            return value
        unnamed = [pair for pair in value if "=" not in str(pair)]
        if unnamed:
            raise ValueError(f"{unnamed[0]} has no name; write it as NAME=PATH")
        return dict(str(pair).split("=", 1) for pair in value)

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.input_file and (self.dataset_dir or self.curriculum):
            raise ValueError("input_file is given together with dataset_dir or curriculum; give a text or shards")
        if self.use_loss_mask and not (self.dataset_dir or self.curriculum):
            raise ValueError("use_loss_mask needs a dataset_dir, for a text has no masks")
        if wrong := wrong_eval_set_names(self.every_eval_set):
            raise ValueError(wrong[0])
        if self.eval_dataset_dir and "general" in self.eval_sets:
            raise ValueError("eval_sets has a set named general, which is the name of eval_dataset_dir")
        return self

    def missing_paths(self) -> list[str]:
        """Every file or folder that is named and not there."""
        phases = self.curriculum.phases if self.curriculum else ()
        files = [p for p in self.input_file if p != "-" and "://" not in p]
        named = [*files, self.dataset_dir, *(p.dataset_dir for p in phases), *self.every_eval_set.values()]
        return [path for path in dict.fromkeys(named) if path and not Path(path).expanduser().exists()]

    @property
    def every_eval_set(self) -> dict[str, str]:
        """Path of each further set to evaluate on, by name."""
        return {**({"general": self.eval_dataset_dir} if self.eval_dataset_dir else {}), **self.eval_sets}
