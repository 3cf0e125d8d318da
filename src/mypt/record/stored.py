"""The JSON files of a bundle as the schema's models, read and written: for whoever goes on with it."""

import json
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from mypt.record.bundle import CONFIG_FILE, STATE_FILE, TOKENIZER_FILE, check_step, read_json
from mypt.record.commit import undisturbed
from mypt.record.manifest import damaged
from mypt.schema.config import GPTConfig
from mypt.schema.explain import explain_validation
from mypt.schema.state import TrainingState
from mypt.schema.tokenizer import TokenizerFile

_Model = TypeVar("_Model", bound=BaseModel)
MODELS: dict[str, type[BaseModel]] = {m.__name__: m for m in (GPTConfig, TrainingState, TokenizerFile)}


def read_config(bundle: Path) -> GPTConfig:
    """config.json of a bundle."""
    return _read(bundle / CONFIG_FILE, GPTConfig)


def read_tokenizer(bundle: Path) -> TokenizerFile:
    """tokenizer.json of a bundle."""
    return _read(bundle / TOKENIZER_FILE, TokenizerFile)


def read_state(bundle: Path) -> TrainingState:
    """training_state.json of a bundle."""
    return undisturbed(_read_state, bundle)


def write_json(path: Path, content: BaseModel) -> None:
    """Write a record as JSON indented by 2, in the order of its fields, UTF-8, with a final newline."""
    exclude_none = isinstance(content, TokenizerFile)
    text = json.dumps(content.model_dump(mode="json", exclude_none=exclude_none), indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8", newline="\n")


def _read_state(bundle: Path) -> TrainingState:
    state = _read(bundle / STATE_FILE, TrainingState)
    check_step(bundle, state)
    return state


def _read(path: Path, model: type[_Model]) -> _Model:
    return as_model(path, read_json(path), model)


def as_model(path: Path, content: object, model: type[_Model]) -> _Model:
    """The content of a JSON file as its model.

    Raises:
        BundleError: it does not fit; each reason is told.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise damaged(path, "is damaged: " + " ".join(explain_validation(error))) from error
