"""What the model writes at an evaluation, for people to read; nothing of the run depends on it."""

import time

from mypt.data.tokenizer import Tokenizer
from mypt.errors import ConfigError, DivergedError, InputError
from mypt.model.generation import generate_text
from mypt.schema.files.events import Sample, timestamp
from mypt.schema.files.state import TrainingState
from mypt.schema.settings.generation import GenerationConfig
from mypt.schema.settings.training import TrainingConfig
from mypt.train.step import Stepper

TOKENS = 100


def check_prompt(training: TrainingConfig, tokenizer: Tokenizer) -> None:
    """Make sure that the prompt of the settings can be continued.

    Raises:
        ConfigError: the tokenizer does not know it.
    """
    try:
        tokenizer.encode(training.sample_prompt or "")
    except InputError as error:
        raise ConfigError(f"sample_prompt {training.sample_prompt!r}: {error.what}", error.todo) from error


def sample(stepper: Stepper, state: TrainingState) -> Sample | None:
    """Continue the prompt of the settings as `mypt generate` does with the seed of the run; None if there is none.

    A generator of its own draws the tokens, so that no batch and no dropout comes out otherwise.
    """
    training, model, tokenizer = state.training_config, stepper.model, stepper.data.primary.tokenizer
    if not training.sample_prompt:
        return None
    began, separator, pieces = time.perf_counter(), model.separator, []
    config = GenerationConfig(max_new_tokens=TOKENS, seed=training.seed)
    model.separator = None
    try:
        for piece in generate_text(model, tokenizer, tokenizer.prompt_ids(training.sample_prompt), config):
            pieces.append(piece)
    except DivergedError:
        pass  # which the losses tell, with what to do
    finally:
        model.separator = separator
        model.train()
    return Sample(
        iter=state.step, timestamp=timestamp(), duration_s=time.perf_counter() - began, seed=training.seed,
        prompt=training.sample_prompt, text="".join(pieces),
    )  # fmt: skip
