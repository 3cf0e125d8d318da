"""A GGUF file: written by the package `gguf`, and read back."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from mypt.errors import ExportError, UsageError
from mypt.exchange.gguf import tensors, tokenizer
from mypt.schema.files.tokenizer import TokenizerFile
from mypt.schema.settings.config import GPTConfig
from mypt.schema.settings.export import GGUFDtype

if TYPE_CHECKING:
    from gguf import GGMLQuantizationType, GGUFWriter, ReaderTensor

Array = npt.NDArray[Any]
_FILE_TYPE: dict[GGUFDtype, int] = {"f32": 0, "f16": 1, "bf16": 32, "q8_0": 7}
_MOST = {"F16": 65504.0, "Q8_0": 127 * 65504.0}
"""The largest values that a dtype can hold; the others hold each number of fp32."""
_HALF_STEP = {"F32": 0.0, "F16": 2.0**-11, "BF16": 2.0**-8}
"""Half the distance of two neighbours, relative to them: what rounding may change."""


@dataclass(frozen=True)
class Content:
    """What a GGUF file holds.

    Attributes:
        weights: of a network, in fp32.
        config: of the network.
        vocabulary: goes with the weights.
        arch: the architecture of llama.cpp that computes the same.
        dtype: of matrices; vectors and the table of positions stay in fp32, as llama.cpp wants them.
        name: of the model.
        chat_template: how conversations are written, in Jinja.
    """

    weights: Mapping[str, Tensor]
    config: GPTConfig
    vocabulary: TokenizerFile
    arch: str
    dtype: GGUFDtype = "f32"
    name: str = "mypt"
    chat_template: str | None = None

    def fields(self) -> dict[str, Any]:
        """Each field but the architecture, which the writer of a file is told by itself."""
        return {
            "general.name": self.name,
            "general.file_type": _FILE_TYPE[self.dtype],
            "general.quantization_version": 2,
            **tensors.fields(self.config, self.arch),
            **tokenizer.fields(self.vocabulary, self.config.vocab_size),
            **({} if self.chat_template is None else {"tokenizer.chat_template": self.chat_template}),
        }

    def tensors(self) -> Iterator[tuple[str, Tensor, "GGMLQuantizationType"]]:
        """The name, the values in fp32, and the dtype of each tensor."""
        for name, tensor in tensors.tensors(self.weights, self.config, self.arch):
            yield name, tensor, _kind(name, tensor, self.dtype)


def write(path: Path, content: Content) -> None:
    """Write a model as a GGUF file.

    Raises:
        ExportError: the dtype cannot hold a weight.
        UsageError: the package `gguf` is missing.
    """
    gguf = _package()
    writer = gguf.GGUFWriter(path, content.arch)
    try:
        for key, value in content.fields().items():
            _add_field(writer, key, value)
        for name, tensor, kind in content.tensors():
            _check_range(name, tensor, kind)
            values = gguf.quants.quantize(np.ascontiguousarray(tensor.numpy()), kind)
            writer.add_tensor(name, values, raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()


def read_back(path: Path, content: Content) -> float:
    """Compare a file with what was to be written.

    Returns:
        The largest difference of a weight; 0 for f32.

    Raises:
        ExportError: a field or a tensor is missing, surplus, or differs by more than the rounding of its dtype.
    """
    reader, wanted = _package().GGUFReader(path), content.fields()
    found = {key: field.contents() for key, field in reader.fields.items() if not key.startswith("GGUF.")}
    found.pop("general.architecture")
    wrong = [key for key in wanted.keys() | found.keys() if _differ(wanted.get(key), found.get(key))]
    there, largest = {tensor.name: tensor for tensor in reader.tensors}, 0.0
    for name, tensor, kind in content.tensors():
        read = there.pop(name, None)
        difference = None if read is None else _difference(tensor.numpy(), read, kind)
        if difference is None:
            wrong.append(name)
        else:
            largest = max(largest, difference)
    if wrong := sorted([*wrong, *there]):
        raise ExportError(
            f"{path} was read back, and is not what was written: {', '.join(wrong[:5])}"
            + (f" and {len(wrong) - 5} more." if len(wrong) > 5 else "."),
            "Export again, on another disk.",
        )
    return largest


def _add_field(writer: "GGUFWriter", key: str, value: Any) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)


def _kind(name: str, tensor: Tensor, dtype: GGUFDtype) -> "GGMLQuantizationType":
    """The dtype of a tensor in the file; rows that Q8_0 cannot cut into its blocks of 32 are rounded to F16."""
    kinds = _package().GGMLQuantizationType
    if tensor.dim() < 2 or name == "position_embd.weight":
        dtype = "f32"
    elif dtype == "q8_0" and tensor.size(-1) % 32:
        dtype = "f16"
    kind: GGMLQuantizationType = kinds[dtype.upper()]
    return kind


def _check_range(name: str, tensor: Tensor, kind: "GGMLQuantizationType") -> None:
    most, largest = _MOST.get(kind.name), float(tensor.abs().max())
    if most is not None and not largest <= most:
        raise ExportError(
            f"{name} holds {largest:.6g}, and {kind.name} can hold nothing beyond {most:.0f}.",
            "Export with --dtype f32; a weight of that size usually means that the run diverged.",
        )


def _difference(wanted: Array, read: "ReaderTensor", kind: "GGMLQuantizationType") -> float | None:
    """The largest difference; None where it is more than rounding."""
    if read.tensor_type != kind or tuple(reversed(read.shape)) != wanted.shape:
        return None
    got = _package().quants.dequantize(read.data, kind)
    difference = np.abs(got - wanted)
    if kind.name == "Q8_0":
        step = np.abs(wanted).reshape(-1, 32).max(axis=1, keepdims=True) / 127
        allowed = (step / 2 + 127 * np.maximum(step * 2.0**-11, 2.0**-25)) * np.ones(32)
        within = difference.reshape(-1, 32) <= allowed * (1 + 1e-6)
    else:
        within = difference <= np.maximum(np.abs(wanted) * _HALF_STEP[kind.name], 2.0**-25 if kind.name == "F16" else 0)
    return float(difference.max()) if within.all() else None


def _differ(wanted: Any, found: Any) -> bool:
    return bool(np.float32(wanted) != np.float32(found)) if type(wanted) is type(found) is float else wanted != found


def _package() -> Any:
    try:
        import gguf
    except ImportError:
        raise UsageError(
            "A GGUF file is written by the package gguf, which is not installed.",
            "Install it: pip install 'mypt[gguf]'.",
        ) from None
    return gguf
