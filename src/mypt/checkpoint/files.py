"""Reads and writes the JSON files of a bundle; docs/files.md describes them."""

import json
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from mypt.checkpoint.atomic import read_consistently
from mypt.checkpoint.layout import CONFIG_FILE, STATE_FILE, TOKENIZER_FILE
from mypt.checkpoint.manifest import MANIFEST_FILE, check_file, damaged, read_manifest
from mypt.schema.base import explain_validation
from mypt.schema.files.state import TrainingState
from mypt.schema.files.tokenizer import TokenizerFile
from mypt.schema.settings.config import GPTConfig

_Model = TypeVar("_Model", bound=BaseModel)


def read_config(bundle: Path) -> GPTConfig:
    """Read config.json."""
    return _read(bundle / CONFIG_FILE, GPTConfig)


def read_tokenizer(bundle: Path) -> TokenizerFile:
    """Read tokenizer.json."""
    return _read(bundle / TOKENIZER_FILE, TokenizerFile)


def read_state(bundle: Path) -> TrainingState:
    """Read training_state.json and check its step against the manifest."""
    return read_consistently(_read_state, bundle)


def write_json(path: Path, content: BaseModel) -> None:
    """Write a model as UTF-8 JSON in field order, indented by 2, with a final newline."""
    exclude_none = isinstance(content, TokenizerFile)
    text = json.dumps(content.model_dump(mode="json", exclude_none=exclude_none), indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8", newline="\n")


def _read_state(bundle: Path) -> TrainingState:
    state, saved = _read(bundle / STATE_FILE, TrainingState), read_manifest(bundle).step
    if state.step != saved:
        raise damaged(bundle / MANIFEST_FILE, f"is of step {saved} and the training state of step {state.step}")
    return state


def _read(path: Path, model: type[_Model]) -> _Model:
    """Read a JSON file of a bundle, after checking its hash."""
    check_file(path)
    try:
        return model.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise damaged(path, "is damaged: " + " ".join(explain_validation(error))) from error
    except OSError as error:
        raise damaged(path, f"is damaged: {error}") from error
