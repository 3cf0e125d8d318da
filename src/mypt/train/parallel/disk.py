"""Bundles in parts, on a disk that all processes see: each writes what it has, and reads what it is to have."""

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from mypt.checkpoint.atomic import copy_tree
from mypt.checkpoint.files import read_config
from mypt.checkpoint.fit import moments_fit
from mypt.checkpoint.layout import MANIFEST_FILE, MODEL_PARTS, OPTIMIZER_PARTS
from mypt.checkpoint.manager import AnyOptimizer, CheckpointManager, Described
from mypt.checkpoint.manifest import check_file, damaged
from mypt.checkpoint.parts.dcp import read_parts, write_part
from mypt.checkpoint.parts.heads import TIED, moment_headers, parts_of
from mypt.checkpoint.tensors import torch_dtype
from mypt.errors import StorageError
from mypt.model.cost import parameter_count
from mypt.regular import read_regular
from mypt.schema.files.manifest import FileHash
from mypt.schema.files.state import TrainingState
from mypt.train.observer import Observer
from mypt.train.parallel.group import Group
from mypt.train.parallel.parts import is_sharded, moments_of
from mypt.train.step import Stepper

LARGEST_WHOLE = 1_000_000_000
"""Weights of a model that is put together in the memory of the first process, which needs 12 bytes for each."""
PATIENCE_S = 5.0
"""How long a process looks for what another one has just written; a disk of the network may show it late."""


@dataclass(frozen=True)
class Parts:
    """What all processes have written of one step: where it is now, and the hashes of its files."""

    step: int
    bundle: Path
    files: Mapping[str, FileHash]


def saves_in_parts(stepper: Stepper, observer: Observer, lock: Path | None) -> bool:
    """Whether each process is to save its own part of weights and moments, as the settings say.

    Args:
        stepper: of this process.
        observer: notified where bundles of this size are gathered after all.
        lock: a file beside the bundles that the first process has just written, and which it alone knows.

    Raises:
        StorageError: they are set to, but not all of them see the folder of the bundles.
    """
    asked, config = stepper.training.save_in_parts, stepper.model.config
    if not is_sharded(stepper.model) or asked == "off":
        return False
    if asked == "auto" and parameter_count(config) <= LARGEST_WHOLE:
        return False
    seen = all_see(stepper.group, lock)
    if not seen and asked == "on":
        raise StorageError(
            "Not every process sees the folder of the bundles, so they cannot save their parts there.",
            "Choose a folder on a disk that all hosts share with --out-dir, or leave --save-in-parts out.",
        )
    if not seen:
        observer.notice("Not every process sees the folder of the bundles, so process 0 gathers what it saves.")
    return seen


def save_parts(stepper: Stepper, to: CheckpointManager | None, state: TrainingState, same: Parts | None) -> Parts:
    """Replace a bundle atomically, which all processes come to.

    Args:
        stepper: has this process's part of the weights and of the optimizer's state.
        to: the bundle, which the first process alone knows.
        state: its training state.
        same: what has been written of this very step, which is not written again; None if nothing has.

    Raises:
        StorageError: a process cannot write; the previous bundle is kept.
    """
    group = stepper.group
    described = Described(stepper.model.config, stepper.data.primary.tokenizer.file, state)
    with ExitStack() as held:
        folder: Path = group.first(lambda: held.enter_context(_of(to).replaced()).absolute())
        if same is None:
            files = _written(_weights(stepper, state), folder / MODEL_PARTS, group)
            files |= _written(_moments(stepper), folder / OPTIMIZER_PARTS, group)
        else:
            group.first(lambda: _link(same, folder))
            files = dict(same.files)
        group.first(lambda: _of(to).complete(folder, described, files))
        group.first(held.close)
    return Parts(state.step, group.first(lambda: _of(to).path.absolute()), files)


def read_own(optimizer: AnyOptimizer, group: Group, bundle: Path | None) -> bool:
    """Let each process read its own part of the moments in a bundle; False where all of them have to be read at once.

    Args:
        optimizer: of the same model and kind; in parts, other ones maybe than those of the bundle.
        group: the processes.
        bundle: which the first process alone knows; None for moments that lie in none.

    Raises:
        BundleError: it cannot be read, or does not fit.
    """
    own = moments_of(optimizer)
    parts: list[Path] = group.first(lambda: [] if bundle is None else _fitting(bundle.absolute(), own))
    if not parts or not all_see(group, parts[0].parents[1] / MANIFEST_FILE):
        return False
    group.each(lambda: _check(parts[group.rank :: group.size]))
    group.each(lambda: read_parts(own, parts[0].parent, group.rank))
    return True


def all_see(group: Group, file: Path | None) -> bool:
    """Whether all processes find the file of the first, as on a disk that they share; None is none."""
    told = group.first(lambda: None if file is None else (file.absolute(), read_regular(file)))
    return told is not None and all(group.each(lambda: _finds(*told)))


def _finds(file: Path, content: bytes) -> bool:
    for _ in range(int(PATIENCE_S * 10)):
        try:
            if read_regular(file) == content:
                return True
        except OSError:
            pass  # it is not there, or not yet
        time.sleep(0.1)
    return False


def _check(parts: Sequence[Path]) -> None:
    for part in parts:
        check_file(part)


def _fitting(bundle: Path, own: Mapping[str, Tensor]) -> list[Path]:
    """The parts of the moments of a bundle, which are those of the optimizer; none where they are in one file."""
    parts, folder = parts_of(bundle, OPTIMIZER_PARTS), bundle / OPTIMIZER_PARTS
    if parts:
        headers = moment_headers(bundle)
        moments_fit(folder, read_config(bundle))(headers)
        if {n: h.shape for n, h in headers.items()} != {n: tuple(moment.shape) for n, moment in own.items()}:
            raise damaged(folder, "does not fit the model: its moments are not of the shapes of the weights")
    return parts


def _written(content: Mapping[str, Tensor], folder: Path, group: Group) -> dict[str, FileHash]:
    of_all = group.each(lambda: write_part(content, folder, group.rank))
    return {name: hashed for of_one in of_all for name, hashed in of_one.items()}


def _of(checkpoint: CheckpointManager | None) -> CheckpointManager:
    assert checkpoint is not None, "the first process has one"
    return checkpoint


def _link(same: Parts, folder: Path) -> None:
    for name in (MODEL_PARTS, OPTIMIZER_PARTS):
        copy_tree(same.bundle / name, folder / name)


def _weights(stepper: Stepper, state: TrainingState) -> dict[str, Tensor]:
    """Shared out, in the dtype that is saved; of two names of one weight the first."""
    dtype, tied = torch_dtype(state.model_dtype), stepper.model.config.tie_weights
    named = stepper.model.state_dict().items()
    return {name: weight.detach().to(dtype) for name, weight in named if not (tied and name == TIED)}


def _moments(stepper: Stepper) -> dict[str, Tensor]:
    """Shared out as their weights are; a number that several weights have is copied for each, as safetensors ask."""
    return {name: moment if moment.dim() else moment.clone() for name, moment in moments_of(stepper.optimizer).items()}
