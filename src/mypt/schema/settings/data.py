"""Settings of the training and evaluation data."""

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from mypt.schema.base import Section, setting

Tokenization = Literal["gpt2", "char", "bpe"]
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


class DataConfig(Section):
    """Training and evaluation data, and the tokenizer."""

    input_file: tuple[str, ...] = setting(
        (),
        "UTF-8 text to train on: a file, a .gz file, an https:// URL, or - for standard input; repeat for several "
        "files. Defaults to Python's language reference as a sample.",
        on_resume="refused",
    )
    tokenization: Tokenization = setting(
        "gpt2", "Tokenizer: GPT-2's vocabulary (gpt2), characters (char), or byte pairs trained on the input (bpe).",
        on_resume="refused",
    )  # fmt: skip
    bpe_vocab_size: int = setting(
        4096, "Vocabulary size for bpe; at least 256, one token per byte.",
        unit="tokens", on_resume="refused", ge=256,
    )  # fmt: skip

    dataset_dir: str | None = setting(
        None, "Folder of token shards to train on instead of a text; see `mypt prepare`.", on_resume="refused"
    )
    sampling: Sampling | None = setting(
        None, "Order of training windows: shuffled epochs (epoch, the default for shards) or drawn with replacement "
        "(random, the default for a text).",
        on_resume="refused",
    )  # fmt: skip
    use_loss_mask: bool = setting(
        False, "Compute the loss only on tokens selected by the shards' loss masks; see `mypt prepare --chat`.",
        on_resume="refused",
    )  # fmt: skip
    eval_dataset_dir: str | None = setting(
        None, "Additional eval set, named general: a folder of shards or a text file.", on_resume="harmless"
    )
    eval_sets: dict[str, str] = setting(
        {}, "Additional eval sets, each NAME=PATH of a folder of shards or a text file; repeat for several.",
        on_resume="harmless", names=("--eval-set",),
    )  # fmt: skip
    curriculum: Curriculum | None = setting(
        None,
        "Training phases, each with name, dataset_dir and until_iter.",
        on_resume="refused",
        option=False,
        config=True,
    )

    @field_validator("input_file", mode="before")
    @classmethod
    def _as_tuple(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("eval_sets", mode="before")
    @classmethod
    def _parse_pairs(cls, value: object) -> object:
        if value is None:
            return {}
        if not isinstance(value, list | tuple):
            return value
        names = Counter(str(pair).split("=", 1)[0] for pair in value if "=" in str(pair))
        problems = [f"{pair} has no name; write it as NAME=PATH" for pair in value if "=" not in str(pair)]
        problems += [f"the set {name} is given more than once" for name, times in names.items() if times > 1]
        if problems:
            raise ValueError("; ".join(problems))
        return dict(str(pair).split("=", 1) for pair in value)

    @model_validator(mode="after")
    def _check_sources(self) -> Self:
        if self.input_file and (self.dataset_dir or self.curriculum):
            raise ValueError("input_file is given together with dataset_dir or curriculum; give a text or shards")
        if self.use_loss_mask and not (self.dataset_dir or self.curriculum):
            raise ValueError("use_loss_mask needs a dataset_dir, because a text has no loss masks")
        if wrong := wrong_eval_set_names(self.every_eval_set):
            raise ValueError("; ".join(wrong))
        if self.eval_dataset_dir and "general" in self.eval_sets:
            raise ValueError("eval_sets has a set named general, which is the name of eval_dataset_dir")
        return self

    def missing_paths(self) -> list[str]:
        """Paths in the settings that do not exist."""
        phases = self.curriculum.phases if self.curriculum else ()
        files = [p for p in self.input_file if p != "-" and "://" not in p]
        paths = [*files, self.dataset_dir, *(p.dataset_dir for p in phases), *self.every_eval_set.values()]
        return [path for path in dict.fromkeys(paths) if path and not Path(path).expanduser().exists()]

    @property
    def every_eval_set(self) -> dict[str, str]:
        """Path of each additional eval set, by name."""
        return {**({"general": self.eval_dataset_dir} if self.eval_dataset_dir else {}), **self.eval_sets}
