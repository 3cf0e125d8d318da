"""All bundles of a folder at a glance, each from its small files alone."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mypt.checkpoint.atomic import undisturbed
from mypt.checkpoint.files import read_config, read_state
from mypt.checkpoint.layout import CONFIG_FILE, bundle_names
from mypt.checkpoint.manifest import check_file, read_manifest
from mypt.errors import BundleError
from mypt.model.cost import parameter_count

SortKey = Literal["name", "parameters", "step", "val", "bpb", "tokens", "saved"]


@dataclass(kw_only=True)
class BundleRow:
    """One bundle; what cannot be read of a damaged one is None.

    Attributes:
        name: of the bundle.
        parameters: of the model.
        step: of the weights.
        best_val_loss: lowest val loss of the run so far, nats per token.
        best_val_bpb: the same in bits per byte.
        tokens_processed: training tokens.
        saved_at: wall-clock time of the save.
        damage: what is wrong with it; None if every file is there in its size and the JSON files are as saved.
    """

    name: str
    parameters: int | None = None
    step: int | None = None
    best_val_loss: float | None = None
    best_val_bpb: float | None = None
    tokens_processed: int | None = None
    saved_at: str | None = None
    damage: str | None = None


@dataclass(kw_only=True)
class Overview:
    """What `mypt inspect --json` prints without a name; `schema_version` grows when a field changes its meaning."""

    schema_version: Literal[1] = 1
    bundles: list[BundleRow]


def overview(out_dir: Path, sort: SortKey = "name") -> list[BundleRow]:
    """Every bundle of a folder, sorted: names and val losses upward, all else downward, what is unknown last."""
    rows = [undisturbed(_row, out_dir / name) for name in bundle_names(out_dir)]
    key = {"val": "best_val_loss", "bpb": "best_val_bpb", "tokens": "tokens_processed", "saved": "saved_at"}
    values = {row.name: getattr(row, key.get(sort, sort)) for row in rows}
    known = [row for row in rows if values[row.name] is not None]
    known.sort(key=lambda row: values[row.name], reverse=sort not in ("name", "val", "bpb"))
    return known + [row for row in rows if values[row.name] is None]


def _row(path: Path) -> BundleRow:
    row = BundleRow(name=path.name)
    try:
        row.parameters = parameter_count(read_config(path))
        state = read_state(path)
        row.step, row.saved_at = state.step, state.saved_at
        row.best_val_loss, row.best_val_bpb = state.progress.best_val_loss, state.progress.best_val_bpb
        row.tokens_processed = state.progress.tokens_processed
        for name in read_manifest(path).files:
            check_file(path / name, content=name == CONFIG_FILE)
    except BundleError as error:
        row.damage = error.what
    return row
