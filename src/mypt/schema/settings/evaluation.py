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

    @model_validator(mode="after")
    def _check_source(self) -> Self:
        if not self.input_file and self.dataset_dir is None:
            raise ValueError("nothing to measure on: give input_file or dataset_dir")
        if self.input_file and self.dataset_dir is not None:
            raise ValueError("input_file and dataset_dir are both given; give one of them")
        return self
