"""Saves and loads a bundle: weights, optimizer, tokenizer, config and training state."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, Self, TypeVar

import torch
from torch import Tensor

from mypt.checkpoint.atomic import copy_tree, read_consistently, recover, replacing
from mypt.checkpoint.family import Family, added, check_bundle
from mypt.checkpoint.files import read_config, read_state, read_tokenizer, write_json
from mypt.checkpoint.layout import (
    CONFIG_FILE,
    MODEL_FILE,
    OPTIMIZER_FILE,
    OPTIMIZER_PARTS,
    STATE_FILE,
    TOKENIZER_FILE,
    bundle_path,
    check_name,
    folder_reference,
)
from mypt.checkpoint.manifest import damaged, write_manifest
from mypt.checkpoint.stored import load_moments, load_weights
from mypt.checkpoint.tensors import copy_to_cpu, save_tensors, torch_dtype
from mypt.data.tokenizer import Tokenizer
from mypt.model.network import Network
from mypt.schema.files.manifest import FileHash
from mypt.schema.files.state import ParentRecord, TrainingState
from mypt.schema.files.tokenizer import TokenizerFile
from mypt.schema.settings.config import GPTConfig
from mypt.schema.settings.output import DEFAULT_OUT_DIR


class AnyOptimizer(Protocol):
    """The part of torch's optimizer interface that training and bundles use."""

    param_groups: list[dict[str, Any]]

    def step(self) -> Any:
        """Update the weights."""

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients."""

    def state_dict(self) -> dict[str, Any]:
        """The state that a resume needs."""

    def load_state_dict(self, state_dict: dict[str, Any], /) -> Any:
        """Restore the result of `state_dict`."""


N = TypeVar("N", bound=Network)


@dataclass(frozen=True)
class Loaded(Generic[N]):
    """A bundle in memory, with the network in fp32 on the requested device."""

    model: N
    tokenizer: Tokenizer
    state: TrainingState


@dataclass(frozen=True)
class Described:
    """What a bundle says of its tensors."""

    config: GPTConfig
    tokenizer: TokenizerFile
    state: TrainingState


@dataclass(frozen=True)
class Content(Described):
    """The content of a bundle to be written, with tensors on the CPU.

    Attributes:
        weights: weights in `state.model_dtype`.
        optimizer: optimizer and loss-scaler state, for resuming.
    """

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
        """Collect the content; `copied` copies CPU tensors too, for writing while training continues."""
        dtype = torch_dtype(state.model_dtype)
        weights = {n: w.detach().to("cpu", dtype, copy=copied) for n, w in model.state_dict().items()}
        if model.config.tie_weights:
            weights["lm_head.weight"] = weights["token_embedding.weight"]
        saved = {"optimizer": optimizer.state_dict(), "scaler": scaler or {}} if optimizer else None
        return cls(model.config, tokenizer.file, state, weights, copy_to_cpu(saved) if copied else saved)


class CheckpointManager:
    """Saves and loads the bundle NAME: a folder with weights, config, tokenizer, training state and optimizer.

    Args:
        name: name of the model.
        out_dir: folder of all bundles.

    Raises:
        UsageError: the name is not a valid folder name.
    """

    def __init__(self, name: str, out_dir: str | Path = DEFAULT_OUT_DIR) -> None:
        self._set(Path(out_dir) / check_name(name))

    def _set(self, path: Path) -> None:
        self.name, self.path = path.name, path

    @classmethod
    def at(cls, path: Path) -> Self:
        """The manager of a folder whose name nobody chose, such as that of a gold bundle, or that is there already."""
        manager = cls.__new__(cls)
        manager._set(path)
        return manager

    @classmethod
    def find(cls, name: str, out_dir: str | Path = DEFAULT_OUT_DIR) -> Self:
        """The manager of an existing bundle, given by name or path.

        Raises:
            UsageError: there is no such bundle.
        """
        return cls.at(bundle_path(name, Path(out_dir)))

    @property
    def family(self) -> Family:
        """The bundles that a run of this name writes."""
        return Family(self.path)

    def gold(self) -> Self:
        """The manager of this run's gold bundle, NAME_gold."""
        return self.at(self.family.gold)

    def fp16(self) -> Self:
        """The manager of this run's fp16 export, NAME_fp16."""
        return self.at(self.family.fp16)

    def exists(self) -> bool:
        """True if the bundle exists; recovers it first if a save was interrupted."""
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
        """Replace the bundle atomically.

        Args:
            model: network; its weights are saved in `state.model_dtype`.
            tokenizer: tokenizer of the weights.
            state: training state.
            optimizer: optimizer, for resuming.
            scaler: state of the loss scaler, for resuming in fp16.

        Raises:
            StorageError: the bundle cannot be written; the previous one is kept.
        """
        self.write(Content.of(model, tokenizer, state, optimizer, scaler))

    def write(self, content: Content) -> None:
        """Replace the bundle by `content` atomically; what someone has laid into the folder meanwhile stays in it.

        Raises:
            StorageError: the bundle cannot be written; the previous one is kept.
            ConflictError: something that is no bundle has its name.
        """
        with self.replaced() as folder:
            save_tensors(content.weights, folder / MODEL_FILE)
            if content.optimizer is not None:
                save_tensors(content.optimizer, folder / OPTIMIZER_FILE)
            self.complete(folder, content, {})

    @contextmanager
    def replaced(self) -> Iterator[Path]:
        """A folder for a bundle that takes the place of this one where the block succeeds; raises as `write`."""
        check_bundle(self.path)
        with replacing(self.path) as folder:
            yield folder
            for name in added(self.path) if self.path.exists() else ():
                (folder / name).parent.mkdir(exist_ok=True)
                copy_tree(self.path / name, folder / name)

    def complete(self, folder: Path, described: Described, known: Mapping[str, FileHash]) -> None:
        """Write into a folder what a bundle says of the tensors that are in it, and its manifest last.

        Args:
            folder: with the tensors.
            described: what it says; the name of the optimizer's file is that of the one that is there.
            known: hashes of files.
        """
        write_json(folder / CONFIG_FILE, described.config)
        write_json(folder / TOKENIZER_FILE, described.tokenizer)
        optimizer = next((name for name in (OPTIMIZER_FILE, OPTIMIZER_PARTS) if (folder / name).exists()), None)
        update = {"folder": folder_reference(self.path, described.state.log_file), "optimizer_file": optimizer}
        write_json(folder / STATE_FILE, described.state.model_copy(update=update))
        write_manifest(folder, described.state.step, known)

    def load(self, device: str = "cpu") -> Loaded[Network]:
        """Load network, tokenizer and state.

        Raises:
            BundleError: a file is missing or damaged, or the weights do not fit config.json.
        """
        return self.load_as(Network, device)

    def load_as(self, build: Callable[[GPTConfig], N], device: str = "cpu") -> Loaded[N]:
        """Like `load`, with a network that `build` constructs from config.json."""
        return read_consistently(lambda path: _load(path, build, device), self.path)

    def parent_record(self, model: Network, state: TrainingState) -> ParentRecord:
        """What a run that starts from this bundle, of this state and with this model's weights, records of it."""
        return ParentRecord(
            name=self.name,
            path=str(self.path.absolute()),
            step=state.step,
            run_id=state.run_id,
            weights_sha256=weights_sha256(model),
        )

    def load_optimizer(self, optimizer: AnyOptimizer) -> dict[str, Any]:
        """Load the saved state into an optimizer of the same model; its hyperparameters are kept.

        Returns:
            The state of the loss scaler.

        Raises:
            BundleError: the file is missing, damaged, or belongs to another model.
        """
        content = load_moments(self.path, read_config(self.path))
        try:
            load_optimizer_state(content["optimizer"], optimizer)
            scaler = content["scaler"]
            if not isinstance(scaler, dict):
                raise TypeError("the state of its loss scale is no dictionary")
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
            raise damaged(self.path / OPTIMIZER_FILE, f"does not fit the model: {error}") from error
        return scaler


def weights_sha256(model: Network) -> str:
    """SHA-256 over names, shapes and fp32 values of a model's weights, independent of the file format."""
    digest = hashlib.sha256()
    for name, weight in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(weight.shape)}\n".encode())
        digest.update(weight.detach().to("cpu", torch.float32).contiguous().numpy().tobytes())
    return digest.hexdigest()


def load_optimizer_state(state: dict[str, Any], optimizer: AnyOptimizer) -> None:
    """Load the state of another optimizer of the same model; hyperparameters such as weight decay are kept."""
    hyperparameters = [{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups]
    optimizer.load_state_dict(state)
    for group, own in zip(optimizer.param_groups, hyperparameters, strict=True):
        group.update(own)


def _load(path: Path, build: Callable[[GPTConfig], N], device: str) -> Loaded[N]:
    config = read_config(path)
    tokenizer = Tokenizer(read_tokenizer(path))
    if tokenizer.vocab_size > config.vocab_size:
        raise damaged(
            path / TOKENIZER_FILE,
            f"has {tokenizer.vocab_size} tokens, but the model has a vocab_size of {config.vocab_size}",
        )
    weights = load_weights(path, config)
    model = build(config)
    try:
        model.load_weights(weights)
    except (ValueError, AttributeError) as error:
        raise damaged(path / MODEL_FILE, f"does not fit {CONFIG_FILE}: {error}") from error
    return Loaded(model.to(device), tokenizer, read_state(path))
