"""Settings of an evaluation of a finished model: what it is measured on."""

from typing import Literal, Self

from pydantic import model_validator

from mypt.schema.base import Section, setting

EvaluatedSplit = Literal["train", "val"]


class EvaluateConfig(Section):
    """All settings of `mypt evaluate`."""

    input_file: tuple[str, ...] = setting(
        (),
        "Text to measure on, in any form that `mypt train` reads: a file, an https:// URL, or - for standard input; "
        "repeat for several files.",
        on_resume="harmless",
    )
    dataset_dir: str | None = setting(
        None, "Folder of token shards to measure on instead of a text; those of another tokenizer are read as text.",
        on_resume="harmless",
    )  # fmt: skip
    split: EvaluatedSplit = setting("val", "Which split of the shards.", on_resume="harmless")
    text_field: str = setting(
        "text", "Field or column that has the text, where an input has rows.", on_resume="harmless"
    )

    tasks: str | None = setting(
        None, "Tasks of lm-evaluation-harness to run instead: names such as arc_easy, or paths of their YAML files, "
        "separated by commas; needs the extra eval of mypt.",
        on_resume="harmless",
    )  # fmt: skip

    @property
    def task_names(self) -> list[str]:
        """The tasks, one by one."""
        return [name.strip() for name in (self.tasks or "").split(",") if name.strip()]

    @model_validator(mode="after")
    def _check_source(self) -> Self:
        sources = {"input_file": self.input_file, "dataset_dir": self.dataset_dir, "tasks": self.task_names}
        given = [name for name, value in sources.items() if value]
        if not given:
            raise ValueError(f"nothing to measure on: give one of {', '.join(sources)}")
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} are given; give one of them")
        for name, owner in {"split": "dataset_dir", "text_field": "input_file"}.items():
            if name in self.model_fields_set and owner not in given:
                raise ValueError(f"{name} is a setting of {owner}, and {given[0]} is given")
        return self
