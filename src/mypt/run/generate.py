"""`mypt generate`: streams text from any bundle."""

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from mypt.checkpoint.manager import CheckpointManager, Loaded
from mypt.data.text import STDIN, decode, input_errors
from mypt.errors import InputError
from mypt.model.generation import generate_text
from mypt.model.network import Network
from mypt.regular import expanded, open_regular
from mypt.run.chat import Conversation
from mypt.schema.settings.generation import GenerateConfig, PromptConfig
from mypt.train.device.devices import resolve_device

LARGEST_PROMPT = 1 << 24
"""Bytes of a prompt that are read."""


def read_prompt(config: PromptConfig) -> str:
    """The prompt of a call: its own words, standard input, or a file, without the newline that ends the last line.

    Raises:
        InputError: it cannot be read, is not UTF-8, or is too large.
    """
    if config.prompt_file is None and config.prompt != STDIN:
        return config.prompt
    path = STDIN if config.prompt_file is None else str(config.prompt_file)
    with input_errors(path):
        if config.prompt_file is None:
            data = sys.stdin.buffer.read(LARGEST_PROMPT + 1)
        else:
            with open_regular(expanded(config.prompt_file)) as file:
                data = file.read(LARGEST_PROMPT + 1)
    if len(data) > LARGEST_PROMPT:
        raise InputError(f"The prompt in {path} has more than {LARGEST_PROMPT:,} bytes.", "Give its end alone.")
    return decode(path, data).removesuffix("\n").removesuffix("\r")


def stream_samples(
    name: str, out_dir: Path, config: GenerateConfig, prompt: str, device: str, notice: Callable[[str], None]
) -> Iterator[Iterator[str]]:
    """Yield each sample, as the pieces of text that the model produces; the prompt is not in it.

    Args:
        name: of the bundle, or its path.
        out_dir: folder of all bundles.
        config: the settings.
        prompt: the text to continue.
        device: where to compute.
        notice: told what of the prompt is not seen.

    Raises:
        UsageError: there is no such bundle, it was never taught to talk, or the prompt has characters that it does not
            know or is too long to be answered.
        BundleError: the bundle is damaged.
    """
    loaded = CheckpointManager.find(name, out_dir).load(resolve_device(device))
    if config.chat:
        first = Conversation(loaded, config, config.system, notice)
        return _answers(first.answer(prompt), loaded, config, prompt)
    ids = loaded.tokenizer.prompt_ids(prompt, loaded.state.start_token)
    size = loaded.model.config.block_size
    if len(ids) > size:
        notice(f"The prompt has {len(ids):,} tokens, of which the model sees the last {size:,}, its block_size.")
    return _samples(loaded, config, ids)


def _answers(
    first: Iterator[str], loaded: Loaded[Network], config: GenerateConfig, prompt: str
) -> Iterator[Iterator[str]]:
    yield first
    for number in range(1, config.num_samples):
        of_this = config.model_copy(update={"seed": config.seed_of(number)})
        yield Conversation(loaded, of_this, config.system, lambda _: None).answer(prompt)


def _samples(loaded: Loaded[Network], config: GenerateConfig, ids: Sequence[int]) -> Iterator[Iterator[str]]:
    for number in range(config.num_samples):
        of_this = config.model_copy(update={"seed": config.seed_of(number)})
        yield generate_text(loaded.model, loaded.tokenizer, ids, of_this)
