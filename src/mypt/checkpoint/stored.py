"""The weights of a bundle and the state of its optimizer, whole, be they in one file or in parts."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mypt.checkpoint.fit import moments_fit, weights_fit
from mypt.checkpoint.layout import MODEL_FILE, MODEL_PARTS, OPTIMIZER_FILE, OPTIMIZER_PARTS
from mypt.checkpoint.manifest import check_file, damaged
from mypt.checkpoint.parts.dcp import read_parts
from mypt.checkpoint.parts.heads import EMBEDDING, TIED, moment_headers, parts_of, weight_headers
from mypt.checkpoint.pt.header import TensorHeader
from mypt.checkpoint.tensors import load_tensors, torch_dtype
from mypt.schema.settings.config import GPTConfig

_STATE = "optimizer.state"
_NAMED = re.compile(rf"{re.escape(_STATE)}\.\d{{1,9}}\.\w+", re.ASCII)


def moment_name(number: int, name: str) -> str:
    """The name that a moment of an optimizer's weight has in parts: that which it has in optimizer.pt."""
    return f"{_STATE}.{number}.{name}"


def load_weights(bundle: Path, config: GPTConfig, *, check: bool = True) -> dict[str, Tensor]:
    """The weights of a bundle.

    Args:
        bundle: its folder.
        config: its config.json.
        check: whether to compare hashes, too.

    Raises:
        BundleError: they are missing or damaged, or not those of the config.
    """
    parts = parts_of(bundle, MODEL_PARTS)
    if not parts:
        path = bundle / MODEL_FILE
        return load_tensors(path, judge=weights_fit(path, config), check=check)
    headers = weight_headers(bundle, config)
    weights_fit(bundle / MODEL_PARTS, config)(headers)
    tied = config.tie_weights and headers.pop(TIED) is not None
    weights = _read(parts, headers, check)
    return weights | {TIED: weights[EMBEDDING]} if tied else weights


def load_moments(bundle: Path, config: GPTConfig, *, check: bool = True) -> dict[str, Any]:
    """What optimizer.pt holds: the state of the optimizer and of the loss scale, which parts have none of.

    Arguments and errors as for `load_weights`.
    """
    parts = parts_of(bundle, OPTIMIZER_PARTS)
    if not parts:
        path = bundle / OPTIMIZER_FILE
        return load_tensors(path, judge=moments_fit(path, config), check=check)
    headers = moment_headers(bundle)
    moments_fit(bundle / OPTIMIZER_PARTS, config)(headers)
    if strange := next((name for name in headers if not _NAMED.fullmatch(name)), None):
        raise damaged(bundle / OPTIMIZER_PARTS, f"does not fit the model: {strange} is no moment of a weight")
    return {"optimizer": {"state": _by_weight(_read(parts, headers, check)), "param_groups": []}, "scaler": {}}


def _read(parts: Sequence[Path], headers: Mapping[str, TensorHeader], check: bool) -> dict[str, Tensor]:
    for path in parts:
        check_file(path, content=check)
    content = {name: torch.empty(header.shape, dtype=torch_dtype(header.dtype)) for name, header in headers.items()}
    read_parts(content, parts[0].parent)
    return content


def _by_weight(named: Mapping[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    """Moments by the number of their weight and their own name."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, moment in named.items():
        number, _, own = name.removeprefix(f"{_STATE}.").partition(".")
        state.setdefault(int(number), {})[own] = moment
    return dict(sorted(state.items()))
