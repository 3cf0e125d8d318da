"""What `mypt evaluate` found, as a page."""

from math import log

from rich.table import Table

from mypt import units
from mypt.cli.render.tables import pairs_table
from mypt.schema.files.evaluation import TextEvaluation


def heading(found: TextEvaluation) -> str:
    """Which weights on which text."""
    split = f" ({found.split})" if found.split else ""
    return f"{found.bundle}, step {found.step:,}, on {found.text}{split}"


def text_table(found: TextEvaluation) -> Table:
    """The figures of a text, with their standard errors over windows."""
    bpb_se = None if found.se is None or not found.text_bytes else found.se * found.tokens / log(2) / found.text_bytes
    windows = f"{found.windows:,} {'window' if found.windows == 1 else 'windows'}"
    documents = f"{found.documents:,} {'document' if found.documents == 1 else 'documents'}"
    return pairs_table(
        None,
        [
            ("loss", f"{found.loss:.4f}{_error(found.se)} nats per token"),
            ("bits per byte", "-" if found.bpb is None else f"{found.bpb:.4f}{_error(bpb_se)}"),
            ("perplexity", "-" if found.perplexity is None else f"{found.perplexity:.6g}"),
            ("tokens", f"{found.tokens:,} in {windows}"),
            ("text", f"{units.size(found.text_bytes)} in {documents}"),
        ],
    )


def _error(se: float | None) -> str:
    return "" if se is None else f" ± {se:.4f}"
