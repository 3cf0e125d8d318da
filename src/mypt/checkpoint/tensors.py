"""Reads and writes the .pt files of a bundle: tensors and plain values."""

from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mypt.checkpoint.fit import Judge
from mypt.checkpoint.manifest import check_file, damaged, reading
from mypt.checkpoint.pt.header import NAMES_OF_ONE, is_dense, read_headers
from mypt.errors import BundleError, StorageError

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def torch_dtype(name: str) -> torch.dtype:
    """The torch dtype of `fp32`, `bf16` or `fp16`."""
    return _DTYPES[name]


def load_tensors(path: Path, *, judge: Judge | None = None, check: bool = True) -> dict[str, Any]:
    """Read a .pt file with `weights_only=True`, so that no code in it can run.

    Args:
        path: of the file.
        judge: raises a `BundleError` if the tensors that its head announces are not those of the model; nothing else of
            it is read before.
        check: whether to compare its hash, too.

    Raises:
        BundleError: it is missing or damaged, or judged to be another's.
    """
    headers = read_headers(path)
    if judge is not None:
        judge(headers)
    check_file(path, content=check)
    try:
        with reading(path):
            content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        return content
    except BundleError:
        raise
    except Exception as error:  # torch raises many types of errors for damaged files
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise damaged(path, f"is damaged: {reason}") from error


def save_tensors(content: dict[str, Any], path: Path) -> None:
    """Write a .pt file, in which each tensor has data of its own: of a view, what it shows and nothing beside it.

    Raises:
        OSError: the disk refused.
        StorageError: torch reports a failed write without an `OSError`.
    """
    try:
        with path.open("wb") as file:
            torch.save(_spanning(content, Counter()), file)
    except RuntimeError as error:  # torch's archive writer wraps the OSError
        cause = error.__context__
        if isinstance(cause, OSError):
            raise cause from error
        raise StorageError(
            f"{path} cannot be written: {str(error).splitlines()[0]}.", "Check the disk, then call again."
        ) from error


def _spanning(value: Any, names: Counter[int]) -> Any:
    """Nested dictionaries and lists in which every tensor spans its storage, as `read_headers` asks for."""
    if isinstance(value, Tensor) and value.layout is torch.strided:
        storage, elements = value.untyped_storage(), value.numel()
        own = elements * value.element_size() == storage.nbytes() and is_dense(value.shape, value.stride())
        names[storage.data_ptr()] += own and elements > 1
        return value if own and names[storage.data_ptr()] <= NAMES_OF_ONE else value.detach().contiguous().clone()
    if isinstance(value, dict):
        return {k: _spanning(v, names) for k, v in value.items()}
    return [_spanning(v, names) for v in value] if isinstance(value, list) else value


def copy_to_cpu(value: Any) -> Any:
    """Copy nested dictionaries and lists with every tensor on the CPU."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {k: copy_to_cpu(v) for k, v in value.items()}
    return [copy_to_cpu(v) for v in value] if isinstance(value, list) else value
