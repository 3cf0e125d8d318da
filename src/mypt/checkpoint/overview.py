"""Lists all bundles of a folder, reading only their JSON files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mypt.checkpoint.atomic import read_consistently
from mypt.checkpoint.files import read_config, read_state
from mypt.checkpoint.layout import CONFIG_FILE, bundle_names
from mypt.checkpoint.lineage import Role, recorded_name, role_of
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
        run: name of the run that it is a part of; its own where that is not in the folder.
        role: what it is to that run.
        step: step of the weights.
        val_loss: of these weights, as the run measured it, nats per token; of an export, before rounding.
        val_bpb: the same in bits per byte.
        best_val_loss: lowest val loss of the run so far, nats per token.
        best_val_bpb: the same in bits per byte.
        tokens_processed: training tokens.
        bytes: what its files take.
        saved_at: wall-clock time of the save.
        tags: what its run is looked for by.
        note: what somebody noted on it.
        state: of its run, as `mypt board` has it; None where nobody looked for it.
        damage: what is wrong; None if all files have the recorded size and the JSON files the recorded hash.
    """

    name: str
    parameters: int | None = None
    run: str = ""
    role: Role | None = None
    step: int | None = None
    val_loss: float | None = None
    val_bpb: float | None = None
    best_val_loss: float | None = None
    best_val_bpb: float | None = None
    tokens_processed: int | None = None
    bytes: int = 0
    saved_at: str | None = None
    tags: tuple[str, ...] = ()
    note: str | None = None
    state: str | None = None
    damage: str | None = None


@dataclass(kw_only=True)
class Overview:
    """Output of `mypt inspect --json` without a name; `schema_version` increases when a field changes its meaning."""

    schema_version: Literal[1] = 1
    bundles: list[BundleSummary]


def overview(out_dir: Path, sort: SortKey = "name") -> list[BundleSummary]:
    """All bundles of a folder, sorted: names and losses ascending, everything else descending, unknown values last.

    Losses are those of their own weights.
    """
    bundles = [read_consistently(_summarize, out_dir / name) for name in bundle_names(out_dir)]
    names = {bundle.name for bundle in bundles}
    for bundle in bundles:
        if bundle.run not in names:
            bundle.run = bundle.name
    key = {"val": "val_loss", "bpb": "val_bpb", "tokens": "tokens_processed", "saved": "saved_at"}
    values = {bundle.name: getattr(bundle, key.get(sort, sort)) for bundle in bundles}
    known = [bundle for bundle in bundles if values[bundle.name] is not None]
    known.sort(key=lambda bundle: values[bundle.name], reverse=sort not in ("name", "val", "bpb"))
    return known + [bundle for bundle in bundles if values[bundle.name] is None]


def by_run(bundles: Sequence[BundleSummary]) -> list[list[BundleSummary]]:
    """The bundles of each run together, its own first, in the order of the first of each."""
    groups: dict[str, list[BundleSummary]] = {}
    for bundle in bundles:
        groups.setdefault(bundle.run, []).append(bundle)
    return [
        sorted(group, key=lambda bundle: (bundle.name != bundle.run, bundle.role != "gold"))
        for group in groups.values()
    ]


def _summarize(path: Path) -> BundleSummary:
    summary = BundleSummary(name=path.name, run=path.name)
    try:
        summary.parameters = parameter_count(read_config(path))
        state = read_state(path)
        summary.step, summary.saved_at = state.step, state.saved_at
        summary.val_loss, summary.val_bpb = state.progress.last_val_loss, state.progress.last_val_bpb
        summary.role = role_of(path, state)
        if summary.role in ("gold", "fp16"):
            summary.run = recorded_name(path, state)
        summary.tags, summary.note = state.tags, state.note
        summary.best_val_loss, summary.best_val_bpb = state.progress.best_val_loss, state.progress.best_val_bpb
        summary.tokens_processed = state.progress.tokens_processed
        for name in read_manifest(path).files:
            check_file(path / name, content=name == CONFIG_FILE)
            summary.bytes += (path / name).stat().st_size
    except BundleError as error:
        summary.damage = error.what
    return summary
