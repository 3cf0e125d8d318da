"""Reads a folder of Hugging Face: config.json, safetensors in one file or several, and the tokenizer."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from torch import Tensor

from mypt.checkpoint.layout import EXPORT_FILE
from mypt.errors import UsageError
from mypt.exchange.hf.architecture import from_hf
from mypt.exchange.hf.code import MODEL_TYPE, from_code, weights_of_code
from mypt.exchange.hf.config import to_hf
from mypt.exchange.hf.incoming_weights import own_weights, weights_alone
from mypt.exchange.hf.vocabulary import Vocabulary, read_vocabulary
from mypt.exchange.homes import Home, home_of
from mypt.exchange.incoming import FLOATS, Incoming, not_finite, refused
from mypt.regular import open_regular
from mypt.schema.base import is_folder_name
from mypt.schema.files.tokenizer import TokenizerFile
from mypt.schema.json_files import decode_json, read_bounded
from mypt.schema.settings.config import GPTConfig

CONFIG, TENSORS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
_LARGEST_JSON = 1 << 26
_PICKLES = ("pytorch_model*.bin", "*.pt", "*.pth", "*.ckpt")
_CONVERT = (
    "AutoModelForCausalLM.from_pretrained(FOLDER).save_pretrained(NEW) of transformers writes safetensors; "
    "do that where you trust the file."
)
_TODO = "Import a model of the GPT-2 or Llama family, whole and in safetensors of fp32, bf16 or fp16."


class Folder:
    """A folder of Hugging Face, of which each fault that is met is a reason to refuse it.

    Args:
        path: of it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.reasons: list[str] = []
        self.read: list[Path] = []
        self.places: dict[str, str] = {}

    def has(self, name: str) -> bool:
        """Whether there is anything of this name, such as a link to what was never downloaded."""
        return os.path.lexists(self.path / name)

    def json(self, name: str) -> dict[str, Any] | None:
        """The content of a JSON file; None if it is not there or cannot be read."""
        if not self.has(name):
            return None
        path = self.path / name
        try:
            content = decode_json(read_bounded(path, _LARGEST_JSON))
        except (OSError, ValueError) as error:
            self._cannot_be_read(name, error)
            return None
        if not isinstance(content, dict):
            self.reasons.append(f"{name} is no JSON object.")
            return None
        self.read.append(path)
        return content

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor of the model, in the dtype that it has there."""
        found: dict[str, Tensor] = {}
        in_files: dict[str, str] = {}
        for path in self._shards():
            for name, tensor in self._of_file(path):
                if name in found:
                    self.reasons.append(f"{name} is in two files.")
                found[name], in_files[name] = tensor, path.name
        if not self.reasons:
            wrong = (name for name, file in self.places.items() if in_files.get(name) != file)
            self.reasons += [f"{INDEX} says that {name} is in {self.places[name]}, where it is not." for name in wrong]
        return found

    def _shards(self) -> list[Path]:
        if self.has(TENSORS):
            return [self.path / TENSORS]
        index = self.json(INDEX)
        if index is None:
            pickled = sorted({p.name for pattern in _PICKLES for p in self.path.glob(pattern)})
            what = f"Its weights are Python pickles, which can run code: {', '.join(pickled)}. {_CONVERT}"
            if pickled or not self.has(INDEX):
                self.reasons.append(what if pickled else f"There is neither {TENSORS} nor {INDEX}.")
            return []
        places = index.get("weight_map")
        if not isinstance(places, dict) or not places or not all(map(is_folder_name, places.values())):
            self.reasons.append(f"{INDEX} names no files of tensors.")
            return []
        self.places = places
        names = sorted(set(places.values()))
        self.reasons += [f"The shard {name} is missing." for name in names if not self.has(name)]
        return [self.path / name for name in names if self.has(name)]

    def _of_file(self, path: Path) -> Iterator[tuple[str, Tensor]]:
        from safetensors import SafetensorError, safe_open

        self.read.append(path)
        try:
            open_regular(path).close()
            with safe_open(path, "pt") as file:
                names = file.keys()
                for name in names:
                    yield name, file.get_tensor(name)
        except (SafetensorError, OSError, ValueError, AttributeError, KeyError) as error:
            self._cannot_be_read(path.name, error)

    def _cannot_be_read(self, name: str, error: Exception) -> None:
        self.reasons.append(f"{name} cannot be read: {getattr(error, 'strerror', None) or error}.")


def read_folder(path: Path, tokenizer: TokenizerFile | None = None) -> tuple[Incoming, list[Path]]:
    """Read the model in a folder, and say which files were read.

    Args:
        path: of the folder.
        tokenizer: what the ids mean; None for the tokenizer in the folder.

    Raises:
        InputError: it cannot be imported, with every reason.
    """
    folder = Folder(path)
    content, coded = folder.json(CONFIG), False
    if content is None:
        config, reasons = None, [] if folder.has(CONFIG) else [f"There is no {CONFIG}."]
    else:
        coded = content.get("model_type") == MODEL_TYPE
        config, reasons = from_code(content) if coded else from_hf(content)
    folder.reasons += reasons
    config = _recorded(folder, config) or config
    weights = _weights(folder, config, None if config is None or coded else home_of(config, "hf"))
    vocabulary = Vocabulary(tokenizer) if tokenizer else read_vocabulary(folder.json, path, config)
    folder.reasons += vocabulary.reasons
    if content is None or config is None or vocabulary.file is None or folder.reasons:
        raise refused(path, folder.reasons, _TODO)
    return Incoming(str(content["model_type"]), config, weights, vocabulary.file, vocabulary.notes), folder.read


def read_weights(path: Path, config: GPTConfig, home: Home | None) -> dict[str, Tensor]:
    """The weights of a known architecture, in fp32 by mypt's names.

    Args:
        path: of the folder.
        config: of the network.
        home: whose names they have; None for those of a folder with mypt's code.

    Raises:
        InputError: they are not those of this architecture, with every reason.
    """
    folder = Folder(path)
    weights = _weights(folder, config, home)
    if folder.reasons:
        raise refused(path, folder.reasons, _TODO)
    return weights


def _recorded(folder: Folder, stated: GPTConfig | None) -> GPTConfig | None:
    """The architecture that an export of mypt records, with what config.json has no words for; None if it is another's.

    A folder in which another model was saved since then has that one's config.json, which the record does not give.
    """
    content = (folder.json(EXPORT_FILE) or {}).get("config")
    try:
        config = GPTConfig.model_validate(content)
        same = from_hf(to_hf(config, home_of(config, "hf"), "fp32", None)) == (stated, [])
    except (ValidationError, UsageError):
        return None
    return config if same else None


def _weights(folder: Folder, config: GPTConfig | None, home: Home | None) -> dict[str, Tensor]:
    """The weights in fp32; what is wrong with the tensors is among the folder's reasons.

    Args:
        folder: where they are.
        config: of the network; None if there is none.
        home: whose names they have; None for those of a folder with mypt's code.
    """
    before = len(folder.reasons)
    tensors = folder.tensors()
    if home is not None:
        tensors, twice = weights_alone(tensors, home)
        folder.reasons += twice
    folder.reasons += [
        f"{name} is {tensor.dtype}, and weights are fp32, bf16 or fp16."
        for name, tensor in tensors.items()
        if tensor.dtype not in FLOATS
    ]
    whole = len(folder.reasons) == before
    folder.reasons += not_finite(tensors)
    if config is None or not whole:
        return {}
    weights, wrong = weights_of_code(tensors, config) if home is None else own_weights(tensors, config, home)
    folder.reasons += wrong
    return {name: weight.float() for name, weight in weights.items()}
