"""A folder for llama.cpp and Ollama: the GGUF file, its Modelfile, and the proof that the file holds the model."""

from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch

from mypt.data.tokenizer import Tokenizer
from mypt.errors import ExportError
from mypt.exchange.gguf import file
from mypt.exchange.gguf.llamacpp import LlamaCpp, is_installed
from mypt.exchange.gguf.modelfile import modelfile
from mypt.exchange.gguf.tokenizer import chat_template, notes
from mypt.exchange.hf.tokenizer import chat_jinja
from mypt.exchange.homes import home_of
from mypt.model.network import Network
from mypt.schema.settings.export import GGUFDtype

MODELFILE = "Modelfile"
_PROMPT, _TOKENS = 12, 36
_LIKELIEST, _TEXTS = 100, 50
_STRANGE = 0.1
"""Of the range of log probabilities: a difference that no rounding makes, and any exchanged weight does."""


@dataclass(frozen=True)
class LlamaProof:
    """What llama.cpp computed with a file, against the model itself.

    Attributes:
        difference: the largest of a log probability.
        tokens: how many most likely tokens were compared.
        same: how many of them were the same.
    """

    difference: float
    tokens: int
    same: int


@dataclass(frozen=True)
class GGUFProof:
    """How far a GGUF file is from its model.

    Attributes:
        arch: of llama.cpp.
        weights: the largest difference of a weight that was read back.
        gelu: the largest difference of a logit that GELU's other form makes; None where it is the same one.
        llama: what llama.cpp computed; None where it is not installed.
        notes: a sentence on each thing that llama.cpp will do otherwise with this file.
    """

    arch: str
    weights: float
    gelu: float | None
    llama: LlamaProof | None
    notes: tuple[str, ...]


def write_folder(folder: Path, name: str, model: Network, tokenizer: Tokenizer, dtype: GGUFDtype) -> GGUFProof:
    """Write NAME.gguf and a Modelfile into a folder, and prove them.

    Raises:
        UsageError: the architecture has no home in GGUF, or the package `gguf` is missing.
        ExportError: the dtype cannot hold a weight, or what was written is not the model.
    """
    config, path = model.config, folder / f"{name}.gguf"
    content = _content(name, model, tokenizer, dtype)
    file.write(path, content)
    (folder / MODELFILE).write_text(modelfile(path.name, config, tokenizer.file), encoding="utf-8", newline="\n")
    difference = file.read_back(path, content)
    llama = ask_llama(path, model, tokenizer) if is_installed() else None
    return GGUFProof(content.arch, difference, gelu_difference(model), llama, notes(tokenizer.file, config.vocab_size))


def read_back(folder: Path, name: str, model: Network, tokenizer: Tokenizer, dtype: GGUFDtype) -> float:
    """The largest difference of a weight in NAME.gguf from the model that it was written from.

    Raises:
        ExportError: it is not what was written.
    """
    return file.read_back(folder / f"{name}.gguf", _content(name, model, tokenizer, dtype))


def _content(name: str, model: Network, tokenizer: Tokenizer, dtype: GGUFDtype) -> file.Content:
    arch, template = home_of(model.config, "gguf").family, chat_template(tokenizer.file)
    chat = None if template is None else chat_jinja(template)
    return file.Content(model.state_dict(), model.config, tokenizer.file, arch, dtype, name, chat)


@torch.no_grad()
def gelu_difference(model: Network) -> float | None:
    """The largest difference of a logit between GELU's exact form and the tanh form, which alone llama.cpp has."""
    config = model.config
    if config.mlp_type != "gelu" or config.gelu == "tanh":
        return None
    other = Network(config.model_copy(update={"gelu": "tanh"})).to(model.device).eval()
    other.load_weights(model.state_dict())
    ids = _some_tokens(model, min(_TOKENS, config.block_size))
    return float((other(ids) - model.eval()(ids)).abs().max())


@torch.no_grad()
def ask_llama(path: Path, model: Network, tokenizer: Tokenizer) -> LlamaProof:
    """Compare what llama.cpp computes with a file, and the tokens it finds most likely, with a model.

    Its tokens of some texts are compared with the tokenizer's too.

    Raises:
        ExportError: llama.cpp does not load the file, or computes something else.
    """
    size, vocabulary = model.config.block_size, model.config.vocab_size
    prompt: list[int] = _some_tokens(model, max(1, min(_PROMPT, size // 3)))[0].tolist()
    with LlamaCpp(path, size) as llama:
        _check_texts(llama, path, tokenizer)
        ids = prompt + llama.greedy(prompt, min(_TOKENS, size - len(prompt)))
        own = model.eval()(torch.tensor([ids], device=model.device))[0].float().log_softmax(-1).cpu()  # (T, V)
        differences = [
            abs(own[end - 1, token].item() - found)
            for end in range(len(prompt), len(ids), 5)
            for token, found in llama.log_probabilities(ids[:end], min(vocabulary, _LIKELIEST)).items()
        ]
    largest, compared = max(differences, default=0.0), own[len(prompt) - 1 : -1]
    if not largest <= _STRANGE * float(own.max() - own.min()):
        raise ExportError(
            f"llama.cpp computes something else with {path}: a log probability differs by {largest:.3g}.",
            "Please report this as a bug, with config.json.",
        )
    same = int((compared.argmax(-1) == torch.tensor(ids[len(prompt) :])).sum())
    return LlamaProof(largest, len(compared), same)


def _check_texts(llama: LlamaCpp, path: Path, tokenizer: Tokenizer) -> None:
    if tokenizer.kind == "ids":
        return
    special, draw = {*tokenizer.file.special_ids.values()}, Random(0)
    ordinary = [i for i in range(tokenizer.vocab_size) if i not in special]
    for _ in range(_TEXTS):
        text = tokenizer.decode(draw.choices(ordinary, k=_TOKENS))
        if llama.token_ids(text) != tokenizer.encode(text).tolist():
            raise ExportError(
                f"llama.cpp reads {text[:40]!r} as other tokens with {path} than mypt does.",
                "Please report this as a bug, with tokenizer.json.",
            )


def _some_tokens(model: Network, count: int) -> torch.Tensor:
    """Token ids (1, count) that are the same each time."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(model.config.vocab_size, (1, count), generator=generator).to(model.device)
