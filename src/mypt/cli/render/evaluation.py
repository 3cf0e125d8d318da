"""What `mypt evaluate` found, as a page and as a table of several."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from mypt import units
from mypt.cli.render.tables import columns_table, pairs_table
from mypt.schema.files.events import Evaluation, metrics_of


def heading(found: Evaluation) -> str:
    """Which weights on what."""
    split = f" ({found.split})" if found.split else ""
    split += f" ({found.samples:,} samples)" if found.samples is not None else ""
    return f"{found.bundle}, step {found.iter:,}, on {found.source}{split}"


def figures_table(found: Evaluation) -> Table:
    """The figures of a text, with their standard errors over windows."""
    bpb_se = None
    if found.se is not None and found.bpb and found.loss:
        bpb_se = found.se * found.bpb / found.loss
    windows = f"{found.windows:,} {'window' if found.windows == 1 else 'windows'}"
    documents = f"{found.documents:,} {'document' if found.documents == 1 else 'documents'}"
    return pairs_table(
        None,
        [
            ("loss", f"{_number(found.loss)}{_error(found.se)} nats per token"),
            ("bits per byte", f"{_number(found.bpb)}{_error(bpb_se)}"),
            ("perplexity", "-" if found.perplexity is None else f"{found.perplexity:.6g}"),
            ("tokens", f"{found.tokens:,} in {windows} of {found.block_size:,}"),
            ("text", f"{units.size(found.text_bytes or 0)} in {documents}"),
        ],
    )


def task_table(found: Evaluation) -> Table:
    """The metrics of a task, with their standard errors."""
    metrics = found.metrics()
    rows = [
        (name, _number(value), _number(metrics.get(f"{name}_stderr")))
        for name, value in metrics.items()
        if not name.endswith("_stderr")
    ]
    figures = ("value", "standard error")
    return columns_table(None, ("metric", *figures), rows, right=figures, whole=figures)


def evaluations_table(events: Sequence[Mapping[str, Any]]) -> Table:
    """Evaluations of the same weights, one a row."""
    whole = ("time", "loss", "bits per byte")
    return columns_table(
        "Evaluations", (*whole, "of"), map(_row, events), right=whole[1:], whole=whole, spare=whole[:0:-1]
    )


def named(event: Mapping[str, Any]) -> str:
    """What an evaluation is about, in short: the last part of a path, with its split."""
    source = event["source"] if event["kind"] == "task" else Path(event["source"]).name
    return f"{source} {event['split']}" if event.get("split") else source


def _row(event: Mapping[str, Any]) -> tuple[str, ...]:
    metrics = ", ".join(f"{name} {_number(value)}" for name, value in metrics_of(event).items())
    of = f"{named(event)}: {metrics}" if metrics else named(event)
    loss = _number(event.get("loss")) + _error(event.get("se"))
    return event["timestamp"][:16].replace("T", " "), loss, _number(event.get("bpb")), of


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _error(se: float | None) -> str:
    return "" if se is None else f" ± {se:.4f}"
