"""The .pt files of a bundle: tensors and plain values, in and out."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mypt.checkpoint.manifest import check_file, damaged
from mypt.errors import StorageError


def load_tensors(path: Path) -> dict[str, Any]:
    """Read a .pt file that holds tensors and plain values only; no code in it can run.

    Raises:
        BundleError: it is missing or damaged.
    """
    check_file(path)
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        return content
    except Exception as error:  # torch raises a different error for nearly every way to be damaged
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise damaged(path, f"is damaged: {reason}") from error


def save_tensors(content: dict[str, Any], path: Path) -> None:
    """Write a .pt file.

    Raises:
        OSError: the disk refused.
        StorageError: torch says that it cannot be written.
    """
    try:
        with path.open("wb") as file:
            torch.save(content, file)
    except RuntimeError as error:  # torch's archive writer hides the system's own error
        cause = error.__context__
        if isinstance(cause, OSError):
            raise cause from error
        raise StorageError(
            f"{path} cannot be written: {str(error).splitlines()[0]}.", "Check the disk, then call again."
        ) from error


def copied_to_ram(value: Any) -> Any:
    """The same values with every tensor copied to RAM."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {k: copied_to_ram(v) for k, v in value.items()}
    return [copied_to_ram(v) for v in value] if isinstance(value, list) else value
