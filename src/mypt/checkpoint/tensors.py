"""Reads and writes the .pt files of a bundle: tensors and plain values."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mypt.checkpoint.manifest import check_file, damaged
from mypt.errors import StorageError

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def torch_dtype(name: str) -> torch.dtype:
    """The torch dtype of `fp32`, `bf16` or `fp16`."""
    return _DTYPES[name]


def load_tensors(path: Path, *, check: bool = True) -> dict[str, Any]:
    """Read a .pt file with `weights_only=True`, so that no code in it can run; `check` compares its hash first.

    Raises:
        BundleError: it is missing or damaged.
    """
    check_file(path, content=check)
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        return content
    except Exception as error:  # torch raises many types of errors for damaged files
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise damaged(path, f"is damaged: {reason}") from error


def save_tensors(content: dict[str, Any], path: Path) -> None:
    """Write a .pt file.

    Raises:
        OSError: the disk refused.
        StorageError: torch reports a failed write without an `OSError`.
    """
    try:
        with path.open("wb") as file:
            torch.save(content, file)
    except RuntimeError as error:  # torch's archive writer wraps the OSError
        cause = error.__context__
        if isinstance(cause, OSError):
            raise cause from error
        raise StorageError(
            f"{path} cannot be written: {str(error).splitlines()[0]}.", "Check the disk, then call again."
        ) from error


def copy_to_cpu(value: Any) -> Any:
    """Copy nested dictionaries and lists with every tensor on the CPU."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {k: copy_to_cpu(v) for k, v in value.items()}
    return [copy_to_cpu(v) for v in value] if isinstance(value, list) else value
