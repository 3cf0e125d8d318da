"""A checkpoint of nanoGPT, ckpt.pt."""

import re
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile, is_zipfile

import torch
from pydantic import ValidationError
from torch import Tensor

from mypt.exchange.gpt2 import of_gpt2, own_name
from mypt.exchange.incoming import FLOATS, Incoming, not_finite, refused, vocabulary_without_file
from mypt.model.shapes import misfits
from mypt.schema.base import explain_validation
from mypt.schema.settings.config import GPTConfig

_SIZES = ("n_layer", "n_head", "n_embd", "block_size", "vocab_size")
_PREFIXES = ("_orig_mod.", "module.", "transformer.")
_MASK = re.compile(r"h\.\d+\.attn\.bias")
"""The causal mask, which older versions saved among the weights."""
_TODO = "Give the ckpt.pt that nanoGPT's train.py writes; another model goes through Hugging Face's safetensors."


def read_nanogpt(path: Path) -> Incoming:
    """Read the weights and the architecture of a checkpoint; no code in it is run.

    Raises:
        InputError: it is none, or holds more than tensors and plain values, with all reasons.
    """
    content = _load(path)
    arguments: Any = content.get("model_args")
    state: Any = content.get("model")
    if not isinstance(arguments, dict) or not isinstance(state, dict):
        raise refused(path, ["It has no model and model_args, which a checkpoint of nanoGPT has."], _TODO)
    found = {_bare(str(name)): tensor for name, tensor in state.items()}
    found = {name: tensor for name, tensor in found.items() if not _MASK.fullmatch(name)}
    tensors = {name: tensor for name, tensor in found.items() if isinstance(tensor, Tensor) and tensor.dtype in FLOATS}
    reasons = [f"{name} is no tensor of fp32, bf16 or fp16." for name in found if name not in tensors]
    embedding, head = tensors.get("wte.weight"), tensors.get("lm_head.weight")
    tied = head is None or (embedding is not None and torch.equal(head, embedding))
    reasons += not_finite(tensors)
    config = _config(arguments, tied, reasons)
    if config is not None:
        shapes = {own_name(name): tuple(tensor.shape) for name, tensor in tensors.items()}
        if tied and "token_embedding.weight" in shapes:
            shapes["lm_head.weight"] = shapes["token_embedding.weight"]
        reasons += [f"{line}." for line in misfits(config, shapes)]
    if config is None or reasons:
        raise refused(path, reasons, _TODO)
    notes = ("The optimizer's state is not imported, so training starts anew from these weights.",)
    weights = of_gpt2({name: tensor.float() for name, tensor in tensors.items()})
    return Incoming("nanogpt", config, weights, vocabulary_without_file(config.vocab_size), notes)


def _load(path: Path) -> dict[str, Any]:
    if damaged := _damaged_part(path):
        raise refused(path, [f"It is damaged: {damaged} is not what was saved."], "Copy the file again.")
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many types of errors for what is no checkpoint
        reason = "It is damaged, or no file of torch."
        if is_zipfile(path):
            reason = "It is damaged, or holds Python objects beside tensors and plain values, which could run code."
        todo = 'Save it again by torch.save({"model": ..., "model_args": ...}) with tensors and plain values alone.'
        raise refused(path, [reason], todo) from error
    if not isinstance(content, dict):
        raise refused(path, ["It is no dictionary, as a checkpoint of nanoGPT is."], _TODO)
    result: dict[str, Any] = content
    return result


def _damaged_part(path: Path) -> str | None:
    """The first part of the file that does not have its checksum, at which torch does not look."""
    if not is_zipfile(path):
        return None
    try:
        with ZipFile(path) as file:
            return file.testzip()
    except (BadZipFile, OSError, ValueError, NotImplementedError, EOFError) as error:
        return f"a part ({error})"


def _bare(name: str) -> str:
    """A name without what torch.compile, parallel training and the model's first level put before it."""
    while prefix := next((p for p in _PREFIXES if name.startswith(p)), None):
        name = name.removeprefix(prefix)
    return name


def _config(arguments: dict[str, Any], tied: bool, reasons: list[str]) -> GPTConfig | None:
    """The architecture; None, and further reasons, if there is none."""
    if missing := [name for name in _SIZES if name not in arguments]:
        reasons.append(f"Its model_args have no {', '.join(missing)}.")
        return None
    known = {name: arguments[name] for name in _SIZES}
    try:
        return GPTConfig(
            **known, bias=arguments.get("bias", True), dropout=arguments.get("dropout") or 0.0, tie_weights=tied,
            gelu="exact",
        )  # fmt: skip
    except ValidationError as error:
        reasons += [f"model_args: {line}" for line in explain_validation(error)]
        return None
