"""Reads names, shapes and dtypes from the header of a .pt file, without torch or any tensor data."""

import pickle
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from mypt.checkpoint.manifest import check_file, damaged

_DTYPES = {
    "DoubleStorage": "fp64", "FloatStorage": "fp32", "HalfStorage": "fp16", "BFloat16Storage": "bf16",
    "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8",
    "ByteStorage": "uint8", "BoolStorage": "bool",
}  # fmt: skip


@dataclass(frozen=True)
class TensorHeader:
    """Shape, dtype, such as `fp32`, and storage of one tensor; tensors that share memory have the same storage."""

    shape: tuple[int, ...]
    dtype: str
    storage: str

    @property
    def numel(self) -> int:
        """Number of elements."""
        return prod(self.shape)


def read_headers(path: Path) -> dict[str, TensorHeader]:
    """The tensors of a .pt file by name; those in nested dictionaries have dotted names.

    Raises:
        BundleError: the file is missing or damaged.
    """
    check_file(path, content=False)
    try:
        with zipfile.ZipFile(path) as archive:
            (member,) = (n for n in archive.namelist() if n.endswith("/data.pkl"))
            with archive.open(member) as content:
                return _flatten(_HeaderUnpickler(content).load())
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise damaged(path, f"is damaged: {type(error).__name__}: {error}") from error


class _HeaderUnpickler(pickle.Unpickler):
    """Builds a `TensorHeader` for each tensor and refuses every other class, so that no code can run."""

    def find_class(self, module: str, name: str) -> Any:
        known: dict[tuple[str, str], Callable[..., Any]] = {
            ("collections", "OrderedDict"): dict,
            ("torch._utils", "_rebuild_tensor_v2"): _header,
            ("torch._utils", "_rebuild_parameter"): lambda data, *_: data,
        }
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        return known[module, name]

    def persistent_load(self, pid: Any) -> tuple[str, str]:
        _, dtype, key, *_ = pid
        return dtype, key


def _header(storage: tuple[str, str], offset: int, shape: tuple[int, ...], *_: Any) -> TensorHeader:
    dtype, key = storage
    return TensorHeader(shape=tuple(shape), dtype=dtype, storage=f"{key}+{offset}")


def _flatten(node: Any, prefix: str = "") -> dict[str, TensorHeader]:
    if isinstance(node, TensorHeader):
        return {prefix: node}
    headers: dict[str, TensorHeader] = {}
    if isinstance(node, dict):
        for key, value in node.items():
            headers |= _flatten(value, f"{prefix}.{key}" if prefix else str(key))
    return headers
