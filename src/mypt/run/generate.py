"""`mypt generate`: streams text from any bundle."""

from collections.abc import Iterator
from pathlib import Path

from mypt.checkpoint.manager import CheckpointManager
from mypt.model.generation import generate
from mypt.schema.settings.generation import GenerationConfig
from mypt.train.device.devices import resolve_device


def stream_text(name: str, out_dir: Path, config: GenerationConfig, device: str = "auto") -> Iterator[str]:
    """Yield the pieces of text that continue the prompt, as the model produces them.

    Raises:
        UsageError: there is no such bundle, or the prompt has characters that it does not know.
        BundleError: the bundle is damaged.
    """
    loaded = CheckpointManager.find(name, out_dir).load(resolve_device(device))
    prompt = [int(i) for i in loaded.tokenizer.encode(config.prompt)] or loaded.tokenizer.start_ids()
    return loaded.tokenizer.decode_stream(generate(loaded.model, prompt, config))
