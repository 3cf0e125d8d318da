"""Settings of an export for other programs."""

from typing import Literal, Self, get_args

from pydantic import model_validator

from mypt.schema.base import Section, setting

Format = Literal["hf", "gguf"]
"""A folder of Hugging Face, or a file of llama.cpp."""
HFDtype = Literal["fp32", "bf16", "fp16"]
GGUFDtype = Literal["f32", "f16", "bf16", "q8_0"]
ExportDtype = Literal["fp32", "bf16", "fp16", "f32", "f16", "q8_0"]
ExportedBundle = Literal["last", "gold"]
_DTYPES: dict[Format, tuple[ExportDtype, ...]] = {"hf": get_args(HFDtype), "gguf": get_args(GGUFDtype)}


class ExportConfig(Section):
    """All settings of `mypt export`."""

    format: Format = setting(
        "hf", "Who is to open it: hf for transformers, vLLM and what else reads folders of Hugging Face; gguf for "
        "llama.cpp and Ollama.",
        on_resume="harmless",
    )  # fmt: skip
    dtype: ExportDtype | None = setting(
        None, "Precision of the weights: fp32, bf16 or fp16 for hf, by default fp32; f32, f16, bf16 or q8_0 for gguf, "
        "by default f16.",
        on_resume="harmless",
    )  # fmt: skip
    bundle: ExportedBundle | None = setting(
        None, "Which bundle of the run: that of the last step, or gold; by default gold where its val loss is lower.",
        on_resume="harmless",
    )  # fmt: skip
    with_code: bool = setting(
        False, "Where transformers has no class for the architecture, add the code of one, which imports mypt.",
        on_resume="harmless",
    )  # fmt: skip

    @model_validator(mode="after")
    def _check_format(self) -> Self:
        if self.dtype is not None and self.dtype not in (known := _DTYPES[self.format]):
            raise ValueError(f"dtype {self.dtype} is none of {self.format}; choose one of {', '.join(known)}")
        if self.with_code and self.format == "gguf":
            raise ValueError("with_code is for format hf: a GGUF file holds no code")
        return self

    @property
    def hf_dtype(self) -> HFDtype:
        """The dtype of a folder of Hugging Face."""
        return next((dtype for dtype in get_args(HFDtype) if dtype == self.dtype), "fp32")

    @property
    def gguf_dtype(self) -> GGUFDtype:
        """The dtype of a GGUF file."""
        return next((dtype for dtype in get_args(GGUFDtype) if dtype == self.dtype), "f16")
