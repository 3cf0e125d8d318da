"""Lists all bundles of a folder, reading only their JSON files."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mypt.checkpoint.atomic import read_consistently
from mypt.checkpoint.files import read_config, read_state
from mypt.checkpoint.layout import CONFIG_FILE, bundle_names
from mypt.checkpoint.manifest import check_file, read_manifest
from mypt.errors import BundleError
from mypt.model.cost import parameter_count
from mypt.schema.settings.output import SortKey


@dataclass(kw_only=True)
class BundleSummary:
    """One bundle; fields that cannot be read from a damaged one are None.

    Attributes:
        name: name of the bundle.
        parameters: parameter count of the model.
        step: step of the weights.
        best_val_loss: lowest val loss of the run so far, nats per token.
        best_val_bpb: the same in bits per byte.
        tokens_processed: training tokens.
        saved_at: wall-clock time of the save.
        tags: what its run is looked for by.
        note: what somebody noted on it.
        damage: what is wrong; None if all files have the recorded size and the JSON files the recorded hash.
    """

    name: str
    parameters: int | None = None
    step: int | None = None
    best_val_loss: float | None = None
    best_val_bpb: float | None = None
    tokens_processed: int | None = None
    saved_at: str | None = None
    tags: tuple[str, ...] = ()
    note: str | None = None
    damage: str | None = None


@dataclass(kw_only=True)
class Overview:
    """Output of `mypt inspect --json` without a name; `schema_version` increases when a field changes its meaning."""

    schema_version: Literal[1] = 1
    bundles: list[BundleSummary]


def overview(out_dir: Path, sort: SortKey = "name") -> list[BundleSummary]:
    """All bundles of a folder, sorted: names and losses ascending, everything else descending, unknown values last."""
    bundles = [read_consistently(_summarize, out_dir / name) for name in bundle_names(out_dir)]
    key = {"val": "best_val_loss", "bpb": "best_val_bpb", "tokens": "tokens_processed", "saved": "saved_at"}
    values = {bundle.name: getattr(bundle, key.get(sort, sort)) for bundle in bundles}
    known = [bundle for bundle in bundles if values[bundle.name] is not None]
    known.sort(key=lambda bundle: values[bundle.name], reverse=sort not in ("name", "val", "bpb"))
    return known + [bundle for bundle in bundles if values[bundle.name] is None]


def _summarize(path: Path) -> BundleSummary:
    summary = BundleSummary(name=path.name)
    try:
        summary.parameters = parameter_count(read_config(path))
        state = read_state(path)
        summary.step, summary.saved_at = state.step, state.saved_at
        summary.tags, summary.note = state.tags, state.note
        summary.best_val_loss, summary.best_val_bpb = state.progress.best_val_loss, state.progress.best_val_bpb
        summary.tokens_processed = state.progress.tokens_processed
        for name in read_manifest(path).files:
            check_file(path / name, content=name == CONFIG_FILE)
    except BundleError as error:
        summary.damage = error.what
    return summary
