"""A folder of Hugging Face: what it holds for a model, and whether it was read back as it was written."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from mypt.checkpoint.tensors import torch_dtype
from mypt.data.chat import stop_ids
from mypt.data.tokenizer import Tokenizer
from mypt.errors import ExportError, InputError
from mypt.exchange.hf.code import CLASS, CODE, CODE_FILE, code_config, code_tensors
from mypt.exchange.hf.config import to_hf as to_hf_config
from mypt.exchange.hf.reader import CONFIG, TENSORS, read_weights
from mypt.exchange.hf.tokenizer import tokenizer_config, tokenizer_text
from mypt.exchange.hf.vocabulary import SETTINGS, TOKENIZER
from mypt.exchange.hf.weights import to_hf
from mypt.exchange.homes import Home
from mypt.schema.files.tokenizer import END_OF_TEXT
from mypt.schema.settings.config import GPTConfig
from mypt.schema.settings.export import HFDtype
from mypt.schema.settings.generation import AnswerConfig

GENERATION = "generation_config.json"
_MOST_SUPPRESSED = 1024
"""Rows beyond the vocabulary that a generation_config.json lists; more of them would be a list that nobody reads."""


@dataclass(frozen=True)
class HFModel:
    """A model on its way into a folder.

    Attributes:
        weights: in fp32, by mypt's names.
        config: architecture.
        tokenizer: what the ids mean.
        dtype: of the weights in the folder.
        home: its class in transformers; None for one of mypt's own, whose code goes into the folder.
    """

    weights: Mapping[str, Tensor]
    config: GPTConfig
    tokenizer: Tokenizer
    dtype: HFDtype = "fp32"
    home: Home | None = None

    @property
    def class_name(self) -> str:
        """The class in transformers."""
        return CLASS if self.home is None else self.home.hf_class

    @cached_property
    def rounded(self) -> dict[str, Tensor]:
        """The weights as the folder's dtype holds them, in fp32.

        Raises:
            ExportError: naming a tensor and its value that the dtype cannot hold.
        """
        rounded = {name: weight.cpu().to(torch_dtype(self.dtype)).float() for name, weight in self.weights.items()}
        for name, weight in rounded.items():
            if not torch.isfinite(weight).all():
                worst = self.weights[name].cpu()[~torch.isfinite(weight)].flatten()[0].item()
                raise ExportError(
                    f"{name} holds {worst:.6g}, which {self.dtype} cannot hold.",
                    "Export with --dtype fp32; a weight of that size usually means that the run diverged.",
                )
        return rounded


def write(folder: Path, model: HFModel) -> None:
    """Write all that transformers reads; the folder is there and empty."""
    tokenizer, config = model.tokenizer, model.config
    end = tokenizer.file.special_ids.get(END_OF_TEXT)
    if model.home is None:
        content, tensors = code_config(config, model.dtype, end), code_tensors(model.weights, config)
        _write(folder / CODE_FILE, CODE)
    else:
        content, tensors = to_hf_config(config, model.home, model.dtype, end), to_hf(model.weights, config, model.home)
    _write(folder / CONFIG, _json(content))
    _write(folder / GENERATION, _json(_generation(model)))
    if tokenizer.kind != "ids":
        _write(folder / TOKENIZER, tokenizer_text(tokenizer))
        _write(folder / SETTINGS, _json(tokenizer_config(tokenizer, config.block_size)))
    held = {name: tensor.detach().to("cpu", torch_dtype(model.dtype)) for name, tensor in tensors.items()}
    save_file(held, folder / TENSORS, {"format": "pt"})
    (folder / TENSORS).chmod((folder / CONFIG).stat().st_mode)  # safetensors lets nobody else read it


def read_back(folder: Path, model: HFModel) -> float:
    """Compare a folder with the model that it was written from.

    Returns:
        The largest difference of a weight, which is what rounding made; 0 in fp32.

    Raises:
        ExportError: something in it is not what was written.
    """
    rounded, largest = model.rounded, 0.0
    try:
        read = read_weights(folder, model.config, model.home)
    except InputError as error:
        raise _not_written(folder, "; ".join(error.details[:5])) from error
    if rounded.keys() != read.keys():
        raise _not_written(folder, ", ".join(sorted(rounded.keys() ^ read.keys())[:5]))
    for name, weight in read.items():
        if not torch.equal(weight, rounded[name]):
            raise _not_written(folder, name)
        largest = max(largest, float((weight - model.weights[name].cpu()).abs().max()))
    return largest


def _not_written(folder: Path, what: str) -> ExportError:
    return ExportError(
        f"{folder} was read back, and is not what was written: {what}.", "Export again, on another disk."
    )


def _generation(model: HFModel) -> dict[str, Any]:
    """generation_config.json: samples as `mypt generate` does, and never a row beyond the vocabulary."""
    usual, tokenizer = AnswerConfig(), model.tokenizer
    end, ends = tokenizer.file.special_ids.get(END_OF_TEXT), sorted(stop_ids(tokenizer))
    beyond = range(tokenizer.vocab_size, model.config.vocab_size)
    return {
        "bos_token_id": end,
        "eos_token_id": ends or None,
        "pad_token_id": ends[0] if ends else None,
        "do_sample": True,
        "temperature": usual.temperature,
        "top_k": 0,
        "max_new_tokens": max(1, min(usual.max_new_tokens, model.config.block_size // 2)),
        **({"suppress_tokens": [*beyond]} if 0 < len(beyond) <= _MOST_SUPPRESSED else {}),
    }


def _json(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")
