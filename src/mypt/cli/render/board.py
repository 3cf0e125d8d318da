"""What `mypt compare`, `inspect` and `logs summarize` show, as plain tables and sentences for a browser."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from mypt.checkpoint.describe import read_bundle
from mypt.checkpoint.lineage import lineage
from mypt.cli.render import bundle, comparison, summary
from mypt.cli.render.tables import pairs_table, plain
from mypt.log.compare import Comparison, compare
from mypt.log.figures import Summary
from mypt.visible import visible

NARROW = 40
"""Characters of a line on a phone."""


def comparison_page(names: Sequence[str], out_dir: Path) -> dict[str, Any]:
    """The verdict on some runs, with its tables."""
    return verdict_page(compare(names, out_dir))


def verdict_page(found: Comparison) -> dict[str, Any]:
    """A comparison: its verdict and its tables."""
    verdict, *reasons = comparison.verdict_lines(found)
    return {
        "verdict": verdict,
        "reasons": _lines(reason.strip() for reason in reasons),
        "sections": [_section(table) for table in comparison.tables(found, everything=False)],
        "lines": _lines(comparison.closing_lines(found)),
    }


def summary_page(found: Summary) -> dict[str, Any]:
    """How a run went, as `mypt logs summarize` has it."""
    return {
        "verdict": None,
        "reasons": [],
        "sections": [_section(table) for table in summary.tables(found, NARROW)],
        "lines": _lines(found.advice),
    }


def inspect_page(name: str, out_dir: Path) -> dict[str, Any]:
    """A bundle: settings, architecture, parameters, data, files, lineage, and the bundles of its run."""
    info = read_bundle(name, out_dir)
    state = info.state
    settings = state.model_dump(mode="json")["training_config"]
    tables = [pairs_table("Settings", [(name, plain(value)) for name, value in settings.items()])]
    if state.imported is not None:
        tables = []
    told = _without_settings(bundle.state_lines(info))
    return {
        "sections": [_section(table) for table in (*tables, *bundle.inspect_tables(info))],
        "lineage": [
            {
                "name": visible(a.name),
                "step": a.step,
                "note": visible(a.note) if a.note else None,
                "commands": _lines(a.commands),
            }
            for a in lineage(info.path, state)
        ],
        "lines": _lines([*told, *bundle.loss_lines(info.path)]),
    }


def _without_settings(lines: Sequence[str]) -> list[str]:
    """The training state without its title, and without the settings, which have a table."""
    first = next((i for i, line in enumerate(lines) if line.startswith("Training configuration")), len(lines))
    rest = next((i for i in range(first + 1, len(lines)) if not lines[i].startswith("  ")), len(lines))
    return [*lines[1:first], *lines[rest:]]


def _section(table: Table) -> dict[str, Any]:
    """A table of rich as its title, its headings and the texts of its cells."""
    rows = zip(*(list(column.cells) for column in table.columns), strict=True)
    return {
        "title": visible(str(table.title or "")),
        "heads": [visible(str(column.header)) for column in table.columns] if table.show_header else [],
        "right": [column.justify == "right" for column in table.columns],
        "rows": [[visible(str(cell)).strip() for cell in row] for row in rows],
    }


def _lines(lines: Iterable[str]) -> list[str]:
    return [visible(line) for line in lines]
