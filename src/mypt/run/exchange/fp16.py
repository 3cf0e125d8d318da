"""`mypt export-fp16`: a light bundle for deployment, and what the rounding cost."""

from dataclasses import dataclass
from pathlib import Path

import torch

from mypt.checkpoint.atomic import rehearse
from mypt.checkpoint.family import check_nothing_added, check_place, is_bundle, record_of, run_name
from mypt.checkpoint.fit import tensor_bytes
from mypt.checkpoint.layout import GOLD, MODEL_FILE, MODEL_PARTS, base_name
from mypt.checkpoint.lock import locked
from mypt.checkpoint.manager import CheckpointManager
from mypt.checkpoint.manifest import read_manifest
from mypt.data.loader import GPTDataLoader, LoaderOptions
from mypt.data.tokenizer import Tokenizer
from mypt.errors import ConflictError, ExportError, InputError
from mypt.model.network import Network
from mypt.run.data.recorded import recorded_loader
from mypt.schema.files.state import TrainingState
from mypt.train.device.devices import resolve_device
from mypt.train.device.precision import Precision
from mypt.train.evaluation.evaluate import evaluate
from mypt.train.observer import Observer


@dataclass(frozen=True)
class Rounding:
    """The largest change that rounding to fp16 made to a weight, and the tensor it is in."""

    error: float
    tensor: str


@dataclass(frozen=True)
class Export:
    """What an export made.

    Attributes:
        path: the new bundle.
        bytes_before: size of the weights at the source.
        bytes_after: size of the weights in fp16.
        rounding: the largest rounding error.
        val_loss_before: on the run's own eval windows; None if its text was not found.
        val_loss_after: the same, with the rounded weights.
    """

    path: Path
    bytes_before: int
    bytes_after: int
    rounding: Rounding
    val_loss_before: float | None
    val_loss_after: float | None


def export_bundle(name: str, out_dir: Path, out: Path | None, observer: Observer) -> Export:
    """Write the fp16 bundle of any bundle, given by name or by path.

    Args:
        name: the source.
        out_dir: folder of all bundles.
        out: where to write; by default beside the source, with `_fp16` after its name.
        observer: notified if the run's data are not there to measure the loss on.

    Raises:
        UsageError: there is no such bundle, or `out` is taken by something else.
        BusyError: another process writes there.
        ExportError: a weight does not fit into fp16.
    """
    source = CheckpointManager.find(name, out_dir)
    target = source.fp16() if out is None else CheckpointManager(out.name, out.parent)
    with locked(target.path, observer.notice):
        _check_target(source, target)
        rehearse(target.path)
        device = resolve_device("auto")
        with observer.busy("Loading the model"):
            loaded = source.load(device)
        loader = None
        try:
            if loaded.state.data is not None:
                loader = recorded_loader(loaded.state.data, loaded.model.config, loaded.tokenizer, LoaderOptions())
        except (InputError, ConflictError) as error:
            observer.notice(f"The val loss is not measured: {error.what}")
        with observer.busy("Exporting fp16"):
            return export_fp16(loaded.model, loaded.tokenizer, loaded.state, target, loader, source=source)


def export_fp16(
    model: Network,
    tokenizer: Tokenizer,
    state: TrainingState,
    target: CheckpointManager,
    loader: GPTDataLoader | None,
    val_loss_before: float | None = None,
    source: CheckpointManager | None = None,
) -> Export:
    """Write a model as an fp16 bundle without optimizer, and measure what that cost.

    Args:
        model: in fp32; its weights are left as they are.
        tokenizer: goes with the weights.
        state: goes with the weights, marked as no longer exactly resumable.
        target: the bundle to write.
        loader: the run's data; without it no loss is measured.
        val_loss_before: if it is known already.
        source: the bundle that the model came from; by default the size before is that of fp32 weights.

    Raises:
        ExportError: naming the tensor and the value that fp16 cannot hold.
    """
    weights = model.state_dict()
    rounding = _largest_rounding(weights)
    precision = Precision.of(state.training_config, str(model.device))
    after = None
    if loader is not None:
        training = state.training_config
        if val_loss_before is None:
            val_loss_before = evaluate(model, loader, "val", training, precision).loss
        exact = {n: w.clone() for n, w in weights.items()}
        try:
            for weight in weights.values():
                weight.copy_(weight.half())
            after = evaluate(model, loader, "val", training, precision).loss
        finally:
            model.load_state_dict(exact)
    fp16 = state.model_copy(update={"optimizer_file": None, "exact_resume": False, "model_dtype": "fp16"})
    target.save(model, tokenizer, fp16)
    before = _bytes_of_weights(source.path) if source else sum(4 * p.numel() for p in model.parameters())
    return Export(
        path=target.path, bytes_before=before, bytes_after=_bytes_of_weights(target.path),
        rounding=rounding, val_loss_before=val_loss_before, val_loss_after=after,
    )  # fmt: skip


def _bytes_of_weights(bundle: Path) -> int:
    sizes = tensor_bytes(read_manifest(bundle).files)
    return sizes.get(MODEL_FILE) or sizes[MODEL_PARTS]


def _largest_rounding(weights: dict[str, torch.Tensor]) -> Rounding:
    largest = Rounding(0.0, next(iter(weights)))
    for name, weight in weights.items():
        rounded = weight.half().to(weight.dtype)
        if not torch.isfinite(rounded).all():
            worst = weight[~torch.isfinite(rounded)].flatten()[0].item()
            raise ExportError(
                f"{name} holds {worst:.6g}, and fp16 can hold nothing beyond 65504.",
                "Deploy the bundle itself; a weight of that size usually means that the run diverged.",
            )
        error = float((weight - rounded).abs().max())
        if error > largest.error:
            largest = Rounding(error, name)
    return largest


def _check_target(source: CheckpointManager, target: CheckpointManager) -> None:
    """An export replaces nothing but an earlier export of the same run, and takes no place that a run needs.

    Raises:
        ConflictError: it would.
    """
    todo = "Choose another place with --out."
    there, own = record_of(target.path), record_of(source.path)
    check_place(target.path)
    if not target.exists():
        place = target.path.with_name(base_name(target.name))
        if target.name.endswith(GOLD) and is_bundle(place):
            raise ConflictError(f"{target.path} is where {place.name} keeps its gold bundle.", todo)
        return
    if target.path.resolve() == source.path.resolve() or there is None or there.optimizer_file is not None:
        raise ConflictError(f"{target.path} is a bundle that training goes on from; an export would replace it.", todo)
    if own is not None and there.run_id != own.run_id:
        raise ConflictError(f"{target.path} is an export of another run, {run_name(target.path)}.", todo)
    check_nothing_added(target.path)
