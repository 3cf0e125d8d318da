"""The JSON files of a bundle for verbs that only look at it: the same fields, without loading the models.

What a file holds was checked by its model when it was saved, and its hash says that it is still the same.
"""

from pathlib import Path
from typing import TYPE_CHECKING, cast

from mypt.record.bundle import CONFIG_FILE, STATE_FILE, TOKENIZER_FILE, check_step, read_json
from mypt.record.commit import undisturbed
from mypt.schema.plain import UnfitError, plain

if TYPE_CHECKING:  # what is returned has the fields of these, see `schema.plain.Plain`
    from mypt.schema.config import GPTConfig
    from mypt.schema.state import TrainingState
    from mypt.schema.tokenizer import TokenizerFile


def look_at_config(bundle: Path) -> "GPTConfig":
    """The fields of config.json."""
    return cast("GPTConfig", _look(bundle / CONFIG_FILE, "GPTConfig"))


def look_at_tokenizer(bundle: Path) -> "TokenizerFile":
    """The fields of tokenizer.json."""
    return cast("TokenizerFile", _look(bundle / TOKENIZER_FILE, "TokenizerFile"))


def look_at_state(bundle: Path) -> "TrainingState":
    """The fields of training_state.json."""
    return undisturbed(_look_at_state, bundle)


def _look_at_state(bundle: Path) -> "TrainingState":
    state = cast("TrainingState", _look(bundle / STATE_FILE, "TrainingState"))
    check_step(bundle, state)
    return state


def _look(path: Path, model: str) -> object:
    content = read_json(path)
    try:
        return plain(model, content)
    except UnfitError:  # the model says what is wrong, or can convert what another program wrote
        from mypt.record.stored import MODELS, as_model

        return as_model(path, content, MODELS[model])
