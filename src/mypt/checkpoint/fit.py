"""Whether the tensors that the head of a file announces are those of the model that config.json describes."""

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from mypt.checkpoint.layout import CONFIG_FILE, OPTIMIZER_FILE, OPTIMIZER_PARTS, PART
from mypt.checkpoint.manifest import damaged
from mypt.checkpoint.pt.header import TensorHeader
from mypt.model.cost import parameter_count
from mypt.model.shapes import misfits, weight_count
from mypt.schema.files.manifest import FileHash
from mypt.schema.settings.config import GPTConfig

Headers = Mapping[str, TensorHeader]
Judge = Callable[[Headers], None]

MOMENTS = 8
"""Values that an optimizer keeps for each weight, at most; AdamW keeps two."""
_EACH_TENSOR, _LEAST = 1 << 12, 1 << 21
"""Bytes of a file for each tensor, for its name, its place and its share of the list, and of a file without any."""
_TOLD = 5


def weights_fit(path: Path, config: GPTConfig) -> Judge:
    """Judges the weights in `path`, by their names and shapes.

    Raises:
        BundleError: they are not those of the config.
    """

    def judge(headers: Headers) -> None:
        if wrong := misfits(config, {name: header.shape for name, header in headers.items()}):
            more = f"; and {len(wrong) - _TOLD:,} more" if len(wrong) > _TOLD else ""
            raise damaged(path, f"does not fit {CONFIG_FILE}: {'; '.join(wrong[:_TOLD])}{more}")

    return judge


def moments_fit(path: Path, config: GPTConfig) -> Judge:
    """Judges the state of an optimizer in `path`, whose names and shapes only the optimizer knows, by its size.

    Raises:
        BundleError: there is more of it than any optimizer keeps for the weights of the config.
    """

    def judge(headers: Headers) -> None:
        values, most = sum(header.numel for header in headers.values()), MOMENTS * parameter_count(config)
        if values > most or len(headers) > MOMENTS * weight_count(config):
            raise damaged(
                path,
                f"does not fit {CONFIG_FILE}: it has {values:,} values in {len(headers):,} tensors for "
                f"{parameter_count(config):,} weights in {weight_count(config):,}",
            )

    return judge


def tensor_bytes(files: Mapping[str, FileHash]) -> dict[str, int]:
    """Bytes of the files of tensors of a bundle; of parts their sum, by the name of their folder."""
    sizes: Counter[str] = Counter()
    for name, saved in files.items():
        if name.endswith((".pt", PART)):
            sizes[name.partition("/")[0]] += saved.bytes
    return dict(sizes)


def largest_file(name: str, config: GPTConfig) -> int:
    """Bytes that a file of tensors, or a folder of its parts, has at most, before anything in it is looked at."""
    tensors, values = weight_count(config), parameter_count(config) + config.vocab_size * config.n_embd
    times = MOMENTS if name in (OPTIMIZER_FILE, OPTIMIZER_PARTS) else 1
    return times * (8 * values + _EACH_TENSOR * tensors) + _LEAST
