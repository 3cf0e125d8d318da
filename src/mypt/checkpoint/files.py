"""Reads and writes the JSON files of a bundle; docs/files.md describes them."""

import json
from math import isfinite
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from mypt.checkpoint.atomic import read_consistently
from mypt.checkpoint.layout import CONFIG_FILE, LARGEST_BYTES, MANIFEST_FILE, STATE_FILE, TOKENIZER_FILE
from mypt.checkpoint.manifest import check_file, damaged, read_manifest, reading
from mypt.schema.base import explain_validation
from mypt.schema.files.state import TrainingState
from mypt.schema.files.tokenizer import TokenizerFile
from mypt.schema.json_files import decode_json, read_bounded
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
    """Write a model as UTF-8 JSON in field order, indented by 2, with a final newline.

    A number that is not finite is written as the text `nan`, `inf` or `-inf`, and a byte of a path that is no UTF-8,
    which Python keeps as a surrogate, as the escape of that.
    """
    values = content.model_dump(mode="json", exclude_none=isinstance(content, TokenizerFile))
    text = json.dumps(_spelled(values), indent=2, ensure_ascii=False, allow_nan=False)
    path.write_bytes((text + "\n").encode("utf-8", "backslashreplace"))


def _spelled(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _spelled(v) for name, v in value.items()}
    if isinstance(value, list):
        return [_spelled(v) for v in value]
    return str(value) if isinstance(value, float) and not isfinite(value) else value


def _read_state(bundle: Path) -> TrainingState:
    state, saved = _read(bundle / STATE_FILE, TrainingState), read_manifest(bundle).step
    if state.step != saved:
        raise damaged(bundle / MANIFEST_FILE, f"is of step {saved} and the training state of step {state.step}")
    return state


def _read(path: Path, model: type[_Model]) -> _Model:
    """Read a JSON file of a bundle, after checking its hash."""
    check_file(path)
    try:
        with reading(path):
            return model.model_validate(decode_json(read_bounded(path, LARGEST_BYTES[path.name])))
    except ValidationError as error:
        raise damaged(path, "is damaged: " + " ".join(explain_validation(error))) from error
    except ValueError as error:
        raise damaged(path, f"is damaged: {error}") from error
