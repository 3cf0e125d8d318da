"""A comparison of runs: the verdict, what differs, the results side by side, and all of it as text in a file."""

import re
from pathlib import Path

from rich.table import Table

from mypt import units
from mypt.checkpoint.atomic import storage_errors
from mypt.checkpoint.changes import ValueFrom
from mypt.cli.render.evaluation import named
from mypt.cli.render.tables import columns_table, course
from mypt.log.compare import Comparison, Difference, SharedEvaluation
from mypt.schema.base import to_json_text
from mypt.visible import visible


def save(found: Comparison, path: Path) -> None:
    """Save the tables of a comparison in the form that the file's name asks for."""
    text = to_json_text(found, indent=True) + "\n" if path.suffix == ".json" else markdown(found)
    with storage_errors(path, "--out"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")


def markdown(found: Comparison) -> str:
    """The verdict and every table as Markdown."""
    parts = ["\n".join(map(_as_markdown, verdict_lines(found)))]
    for table in tables(found, everything=False):
        heads = [_as_markdown(str(c.header) or str(table.title)) for c in table.columns]
        lines = ["| " + " | ".join(heads) + " |", "|---|" + "---:|" * (len(heads) - 1)]
        rows = zip(*(list(c.cells) for c in table.columns), strict=True)
        lines += ["| " + " | ".join(_as_markdown(str(cell).strip()) for cell in row) + " |" for row in rows]
        parts.append("\n".join(lines))
    parts.append("\n".join(f"- {_as_markdown(line)}" for line in closing_lines(found)))
    return "\n\n".join(parts) + "\n"


def _as_markdown(text: str) -> str:
    """Text on one line, in which no character is markup of Markdown or HTML."""
    return re.sub(r"[\\`*|<>\[\]~&#]|(?<!\w)_|_(?!\w)", r"\\\g<0>", visible(text).replace("\n", " "))


def verdict_lines(found: Comparison) -> list[str]:
    """The verdict, its reasons, and what could not be read."""
    lines = [f"{found.verdict[0].upper()}{found.verdict[1:]}."]
    lines += [f"  {reason}" for reason in found.reasons]
    return lines + [f"  {run.label}: {sentence}" for run in found.runs for sentence in dict.fromkeys(run.missing)]


def tables(found: Comparison, everything: bool) -> list[Table]:
    """What differs, section by section, then the results side by side."""
    parts = []
    sections = {"Architecture": "architecture", "Training": "training", "Data and environment": "data"}
    for title, name in sections.items():
        rows: list[Difference] = list(getattr(found, name))
        if everything:
            rows += [Difference(field=f, values=[v] * len(found.runs)) for f, v in found.equal[name].items()]
        if rows:
            parts.append(_table(title, found, [(d.field, [_value(v) for v in d.values]) for d in rows]))
    names = dict.fromkeys(n for run in found.runs for n in run.results)
    results = [(n, [_result(found, n, i) for i in range(len(found.runs))]) for n in names]
    parts.append(_table("Results", found, results))
    if found.evaluations:
        parts.append(_table("Evaluations", found, [(_evaluated(e), _figures(found, e)) for e in found.evaluations]))
    return parts


def _evaluated(of: SharedEvaluation) -> str:
    return f"{named({'kind': of.kind, 'source': of.source, 'split': of.split})}: {of.measure}"


def _figures(found: Comparison, of: SharedEvaluation) -> list[str]:
    labels = [run.label for run in found.runs]
    return [
        _value(value, of.measure) + ("*" if label in of.better else " ")
        for label, value in zip(labels, of.values, strict=True)
    ]


def closing_lines(found: Comparison) -> list[str]:
    """What is equal, and the losses at equal tokens and time."""
    counts = ", ".join(f"{len(equal)} of {name}" for name, equal in found.equal.items())
    lines = [f"Equal: {counts}."]
    for measure, where, losses in found.matched:
        at = f"{units.count(where)} tokens" if measure == "tokens" else units.duration(where)
        shown = ", ".join(f"{run.label} {loss:.4f}" for run, loss in zip(found.runs, losses, strict=True))
        lines.append(f"At {at}: {shown}.")
    if found.better or any(shared.better for shared in found.evaluations):
        lines.append("* better by more than two standard errors of the difference")
    return lines


def _table(title: str, found: Comparison, rows: list[tuple[str, list[str]]]) -> Table:
    labels = [run.label for run in found.runs]
    cells = [(field, *values) for field, values in rows]
    return columns_table(title, ("", *labels), cells, right=labels, whole=("",))


def _result(found: Comparison, name: str, run: int) -> str:
    value = found.runs[run].results.get(name)
    best = found.better.get(name, [])
    return _value(value, name) + ("*" if found.runs[run].label in best else " ")


def _value(value: object, name: str = "") -> str:
    if value is None:
        return "-"
    if isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value):
        return f"{value[:12]}…"
    if name == "seconds" and isinstance(value, float):
        return units.duration(value)
    if isinstance(value, float):
        return f"{value:.4f}" if name else f"{value:g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, list) and value and isinstance(value[0], ValueFrom):
        return course(value, _value)
    if isinstance(value, dict | list):
        return ", ".join(map(str, value)) or "none"
    return str(value).lower() if isinstance(value, bool) else str(value)
