"""Saves a model with everything that belongs to it as one bundle, and loads it back."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor

from mypt.checkpoint.atomic import recover, replacing, undisturbed
from mypt.checkpoint.files import read_config, read_state, read_tokenizer, write_json
from mypt.checkpoint.layout import (
    CONFIG_FILE,
    MODEL_FILE,
    OPTIMIZER_FILE,
    STATE_FILE,
    TOKENIZER_FILE,
    bundle_path,
    check_name,
)
from mypt.checkpoint.manifest import damaged, write_manifest
from mypt.checkpoint.tensors import copied_to_ram, load_tensors, save_tensors
from mypt.data.tokenizer import Tokenizer
from mypt.model.network import Network
from mypt.schema.files.state import TrainingState
from mypt.schema.files.tokenizer import TokenizerFile
from mypt.schema.settings.config import GPTConfig
from mypt.schema.settings.output import DEFAULT_OUT_DIR


class AnyOptimizer(Protocol):
    """What training and bundles need of an optimizer; torch's have it."""

    param_groups: list[dict[str, Any]]

    def step(self) -> Any:
        """Move the weights by their gradients."""

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""

    def state_dict(self) -> dict[str, Any]:
        """What a resume needs."""

    def load_state_dict(self, state_dict: dict[str, Any], /) -> Any:
        """Take over what `state_dict` gave."""


_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


N = TypeVar("N", bound=Network)


@dataclass(frozen=True)
class Loaded(Generic[N]):
    """A bundle in memory.

    Attributes:
        model: in fp32, on the device asked for.
        tokenizer: the one its weights were trained with.
        state: its training_state.json.
    """

    model: N
    tokenizer: Tokenizer
    state: TrainingState


@dataclass(frozen=True)
class Content:
    """What goes into a bundle, its tensors in RAM.

    Attributes:
        config: the architecture.
        tokenizer: goes with the weights.
        state: `state.optimizer_file` is None exactly if there is no optimizer.
        weights: in `state.model_dtype`.
        optimizer: its state and the loss scale's, for resuming.
    """

    config: GPTConfig
    tokenizer: TokenizerFile
    state: TrainingState
    weights: dict[str, Tensor]
    optimizer: dict[str, Any] | None = None

    @classmethod
    def of(
        cls,
        model: Network,
        tokenizer: Tokenizer,
        state: TrainingState,
        optimizer: AnyOptimizer | None = None,
        scaler: dict[str, Any] | None = None,
        *,
        copied: bool = False,
    ) -> "Content":
        """Gather it; `copied` where training goes on before it is written, even if the tensors are in RAM already."""
        dtype = _DTYPES[state.model_dtype]
        weights = {n: w.detach().to("cpu", dtype, copy=copied) for n, w in model.state_dict().items()}
        if model.config.tie_weights:
            weights["lm_head.weight"] = weights["token_embedding.weight"]
        of_optimizer = {"optimizer": optimizer.state_dict(), "scaler": scaler or {}} if optimizer else None
        if copied and of_optimizer is not None:
            of_optimizer = copied_to_ram(of_optimizer)
        return cls(model.config, tokenizer.file, state, weights, of_optimizer)


class CheckpointManager:
    """The bundle of one name: a folder with weights, config, tokenizer, training state and optimizer.

    Args:
        name: the model's name.
        out_dir: folder of all bundles.

    Raises:
        UsageError: the name cannot name a folder.
    """

    def __init__(self, name: str, out_dir: str | Path = DEFAULT_OUT_DIR) -> None:
        self.name = check_name(name)
        self.path = Path(out_dir) / name

    @classmethod
    def find(cls, name: str, out_dir: str | Path = DEFAULT_OUT_DIR) -> "CheckpointManager":
        """The manager of an existing bundle, given by name or by path.

        Raises:
            UsageError: there is none.
        """
        path = bundle_path(name, Path(out_dir))
        return cls(path.name, path.parent)

    def gold(self) -> "CheckpointManager":
        """The manager of this run's best checkpoint, NAME_gold."""
        return CheckpointManager(f"{self.name}_gold", self.path.parent)

    def fp16(self) -> "CheckpointManager":
        """The manager of this run's light bundle, NAME_fp16."""
        return CheckpointManager(f"{self.name}_fp16", self.path.parent)

    def family(self) -> tuple[Path, ...]:
        """The other bundles that a run of this name writes."""
        return (self.gold().path, self.fp16().path)

    def exists(self) -> bool:
        """Whether there is a bundle of this name; one that a crash left between two names is put back."""
        recover(self.path)
        return self.path.exists()

    def save(
        self,
        model: Network,
        tokenizer: Tokenizer,
        state: TrainingState,
        optimizer: AnyOptimizer | None = None,
        scaler: dict[str, Any] | None = None,
    ) -> None:
        """Replace the bundle by the given state, whole or not at all.

        Args:
            model: its weights are saved in `state.model_dtype`.
            tokenizer: goes with the weights.
            state: `state.optimizer_file` is None exactly if no optimizer is given.
            optimizer: its state, for resuming.
            scaler: the loss scale's state, for resuming in fp16.

        Raises:
            StorageError: the disk refused; the bundle before stays as it was.
        """
        self.write(Content.of(model, tokenizer, state, optimizer, scaler))

    def write(self, content: Content) -> None:
        """Replace the bundle by `content`, whole or not at all.

        Raises:
            StorageError: the disk refused; the bundle before stays as it was.
        """
        with replacing(self.path) as folder:
            save_tensors(content.weights, folder / MODEL_FILE)
            write_json(folder / CONFIG_FILE, content.config)
            write_json(folder / TOKENIZER_FILE, content.tokenizer)
            write_json(folder / STATE_FILE, content.state)
            if content.optimizer is not None:
                save_tensors(content.optimizer, folder / OPTIMIZER_FILE)
            write_manifest(folder, content.state.step)

    def load(self, device: str = "cpu") -> Loaded[Network]:
        """Load network, tokenizer and state.

        Raises:
            BundleError: a file is missing or damaged, or the weights do not fit config.json.
        """
        return self.load_as(Network, device)

    def load_as(self, build: Callable[[GPTConfig], N], device: str = "cpu") -> Loaded[N]:
        """The same, with a network that `build` makes of config.json."""
        return undisturbed(lambda path: _load(path, build, device), self.path)

    def load_optimizer(self, optimizer: AnyOptimizer) -> dict[str, Any]:
        """Put the saved state into an optimizer of the same model; its settings, such as decay, stay its own.

        Returns:
            The loss scale's state.

        Raises:
            BundleError: the file is missing, damaged, or of another model.
        """
        path = self.path / OPTIMIZER_FILE
        content = load_tensors(path)
        try:
            carry_over(content["optimizer"], optimizer)
            scaler: dict[str, Any] = content["scaler"]
        except (KeyError, TypeError, ValueError) as error:
            raise damaged(path, f"does not fit the model: {error}") from error
        return scaler


def weights_sha256(model: Network) -> str:
    """A hash of a model's weights that does not depend on how a file stores them: names, shapes, fp32 values."""
    digest = hashlib.sha256()
    for name, weight in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(weight.shape)}\n".encode())
        digest.update(weight.detach().to("cpu", torch.float32).contiguous().numpy().tobytes())
    return digest.hexdigest()


def carry_over(state: dict[str, Any], optimizer: AnyOptimizer) -> None:
    """Load the state of another optimizer of the same model; settings, such as decay, stay the optimizer's own."""
    settings = [{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups]
    optimizer.load_state_dict(state)
    for group, own in zip(optimizer.param_groups, settings, strict=True):
        group.update(own)


def _load(path: Path, build: Callable[[GPTConfig], N], device: str) -> Loaded[N]:
    config = read_config(path)
    model = build(config)
    tokenizer = Tokenizer(read_tokenizer(path))
    if tokenizer.vocab_size > config.vocab_size:
        raise damaged(
            path / TOKENIZER_FILE,
            f"has {tokenizer.vocab_size} tokens, but the model knows {config.vocab_size}",
        )
    weights: dict[str, Tensor] = load_tensors(path / MODEL_FILE)
    try:
        model.load_weights(weights)
    except (ValueError, AttributeError) as error:
        raise damaged(path / MODEL_FILE, f"does not fit {CONFIG_FILE}: {error}") from error
    return Loaded(model.to(device), tokenizer, read_state(path))
