"""Bundles: one with all that it records, all of a folder side by side, what a check of them found, what they take."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import groupby
from math import prod
from pathlib import Path
from typing import Any, Literal

from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from mypt import units
from mypt.checkpoint.changes import changed_between, sessions_of
from mypt.checkpoint.describe import BundleInfo, FileInfo, TensorInfo
from mypt.checkpoint.layout import base_name, command, display_path, log_of
from mypt.checkpoint.lineage import Ancestor
from mypt.checkpoint.overview import BundleSummary
from mypt.cli.console import styled
from mypt.cli.render.outcome import better_gold_lines
from mypt.cli.render.summary import STATE_STYLE
from mypt.cli.render.tables import columns_table, course, data_size, pairs_table, plain, rows_table
from mypt.model.cost import parameters_by_part
from mypt.order.prune import Superseded
from mypt.order.usage import Usage
from mypt.run.exchange.choice import better_gold_of, losses_of_run


def checks_tables(checks: Sequence[tuple[str, str, bool | None, str]]) -> list[Table]:
    """A table for each bundle, a line for each check: (bundle, check, whether it holds or None, what was found)."""
    words = {True: styled("ok", "green"), False: styled("FAULT", "bold red"), None: Text("not checked")}
    tables = []
    for bundle, found in groupby(checks, lambda check: check[0]):
        rows = [(name, words[ok], what) for _, name, ok, what in found]
        headings = ("check", "result", "found")
        tables.append(columns_table(f"Checks of {bundle}", headings, rows, whole=headings[:2]))
    return tables


def healthy_lines(checks: Sequence[tuple[str, str, bool | None, str]]) -> list[str]:
    """`dante: ok, 9 checks`, a line for each bundle, with what was not checked and why."""
    lines = []
    for bundle, found in groupby(checks, lambda check: check[0]):
        of = [*found]
        made = sum(ok is not None for _, _, ok, _ in of)
        left = "; ".join(f"{name} not checked ({why})" for _, name, ok, why in of if ok is None)
        lines.append(f"{bundle}: ok, {made} checks" + (f"; {left}" if left else ""))
    return lines


def inspect_tables(info: BundleInfo) -> list[Table]:
    """Architecture, parameters by part, tokenizer and data, and files of a bundle."""
    config = [(n, plain(v)) for n, v in info.config.model_dump().items()]
    parts = parameters_by_part(info.config)
    total = sum(parts.values())
    shares = [(part, f"{n:,}", f"{n / total:.1%}") for part, n in parts.items() if n]
    return [
        pairs_table("Architecture", config),
        rows_table("Parameters", ("part", "count", "share"), [*shares, ("total", f"{total:,}", "100.0%")]),
        pairs_table("Tokenizer and data", _text_rows(info)),
        rows_table(
            "Files",
            ("file", "bytes", "size", "dtype", "SHA-256", "matches"),
            _file_rows(info),
            spare=("bytes", "SHA-256", "dtype"),
        ),
    ]


def _file_rows(info: BundleInfo) -> list[tuple[str, ...]]:
    """A row for each file; one for all parts of a folder, of which there may be hundreds."""
    rows: list[tuple[str, ...]] = []
    for folder, files in groupby(info.files, lambda file: file.name.rpartition("/")[0]):
        for f in [_as_one(folder, [*files])] if folder else files:
            sha256 = f"{f.sha256[:12]}…" if f.sha256 else ""
            rows.append((f.name, f"{f.bytes:,}", units.size(f.bytes), " ".join(f.dtypes), sha256, f.checked))
    return rows


def _as_one(folder: str, parts: Sequence[FileInfo]) -> FileInfo:
    checked: Literal["hash", "size"] = "hash" if all(part.checked == "hash" for part in parts) else "size"
    dtypes = tuple(sorted({dtype for part in parts for dtype in part.dtypes}))
    return FileInfo(f"{folder}/ {len(parts)} files", sum(part.bytes for part in parts), None, checked, dtypes)


def tensor_tables(info: BundleInfo) -> list[Table]:
    """Every tensor of a bundle, file by file."""
    headings = ("tensor", "shape", "dtype", "elements")
    return [
        rows_table(f"Tensors of {file.name}", headings, [_tensor_row(tensor) for tensor in file.tensors])
        for file in info.files
        if file.tensors
    ]


def state_lines(info: BundleInfo) -> list[str]:
    """The training state, in the lines that docs/inspect.md shows, then what the record holds beyond them."""
    state, progress = info.state, info.state.progress
    lines = ["=== TRAINING STATE ===", f"Last recorded training step: {state.step}"]
    if state.imported is not None:
        return [*lines, *_imported_lines(info)]
    settings = state.model_dump(mode="json")["training_config"]
    lines += ["Training configuration:", *(f"  {n}: {plain(v)}" for n, v in settings.items())]
    if state.optimizer is not None:
        first, *groups = state.optimizer.lines()
        lines += [f"Optimizer: {first}", *(f"  {line}" for line in groups)]
    if state.frozen:
        lines.append(f"Frozen by hand: {', '.join(state.frozen)}")
    if state.unrecorded_start:
        lines.append(f"Start: not recorded, {state.unrecorded_start}")
    if changed := changed_between(sessions_of(state)):
        lines.append("Changed from session to session:")
        lines += [f"  {name}: {course(values, _named)}" for name, values in changed.items()]
    if progress.best_val_loss is not None:
        lines.append(f"Best val loss: {progress.best_val_loss:.4f} at step {progress.best_step}")
    if progress.last_val_loss is not None and progress.last_train_loss is not None:
        lines.append(f"Last val loss: {progress.last_val_loss:.4f} (train {progress.last_train_loss:.4f})")
    lines.append(f"Tokens processed: {progress.tokens_processed:,}")
    exact = f"not exact: {state.inexact}" if state.inexact else "exact"
    exact = exact if state.optimizer_file else "not possible (no optimizer)"
    lines.append(f"Resume: {exact}")
    log = log_of(info.path, state)
    lines += [f"Log: {display_path(log)}"] if log else []
    lines += [f"Saved: {state.saved_at}"] if state.saved_at else []
    lines += [f"Tags: {', '.join(state.tags)}"] if state.tags else []
    lines += [f"Note: {state.note}"] if state.note else []
    if state.environment:
        e = state.environment
        lines.append(f"Made with: mypt {e.mypt}, torch {e.torch}, Python {e.python}, {e.device}, {e.threads} threads")
        lines[-1] += f", {e.shared_by}" if e.shared_by else ""
    return lines


def _imported_lines(info: BundleInfo) -> list[str]:
    """Where the weights of a model come from that was not trained here."""
    state, source = info.state, info.state.imported
    assert source is not None
    lines = [f"Imported from: {source.path} ({source.kind}, {source.model_type})"]
    lines += [f"  {file.name}: {file.bytes:,} bytes, SHA-256 {file.sha256}" for file in source.files]
    lines += [f"  {note}" for note in source.notes]
    made = [f"Made with: mypt {state.environment.mypt}"] if state.environment else []
    return [*lines, *([f"Saved: {state.saved_at}"] if state.saved_at else []), *made]


def loss_lines(bundle: Path) -> list[str]:
    """The val loss of each bundle of the run, and which of them to deploy; none where there is but one."""
    losses = losses_of_run(bundle)
    if len(losses) < 2:
        return []
    lines = ["Bundles of this run:"]
    for of in losses:
        loss = "no val loss" if of.val_loss is None else f"val loss {of.val_loss:.4f} {of.note}".rstrip()
        lines.append(f"  {of.path.name}: step {of.step:,}, {loss}")
    better = better_gold_of(bundle.with_name(base_name(bundle.name)))
    return [*lines, *(better_gold_lines(better) if better else [])]


def _named(value: Any) -> str:
    """A value as it stands in the JSON file; of eval sets their names."""
    return (", ".join(value) or "none") if isinstance(value, dict) else plain(value)


def next_commands(bundle: Path, resumable: bool) -> list[str]:
    """What can be done with a bundle; training goes on from a run's gold under the name of the run."""
    run = bundle.with_name(bundle.name.removesuffix("_gold"))
    resume = command("resume", run, "--from", "gold") if run != bundle and run.is_dir() else command("resume", bundle)
    lines = [*([resume] if resumable else []), command("generate", bundle), command("verify", bundle)]
    return ["Next:", *(f"  {line}" for line in lines)]


def _tensor_row(tensor: TensorInfo) -> tuple[str, ...]:
    shape = " x ".join(map(str, tensor.shape)) or "number"
    return tensor.name, shape, tensor.dtype, f"{prod(tensor.shape):,}"


def _text_rows(info: BundleInfo) -> list[tuple[str, str]]:
    tokenizer, data = info.tokenizer, info.state.data
    rows = [("tokenizer", f"{tokenizer.token_kind}, {tokenizer.vocab_size:,} tokens")]
    if data is not None:
        kind = "shards" if data.dataset_dir else "text"
        rows += [(kind, f"{s.path} ({units.size(s.bytes)})") for s in data.sources]
        rows.append(("size", data_size(data)))
        rows.append(("fingerprint", data.fingerprint))
    return rows


def overview_table(rows: Sequence[BundleSummary]) -> Table:
    """All bundles of a folder, one line each, with the loss of its own weights."""
    return _listed(rows, {"val": [_or_dash(row.val_loss, "{:.4f}".format) for row in rows]})


def runs_table(groups: Sequence[Sequence[BundleSummary]]) -> Table:
    """All runs of a folder, one line each, with marks for their gold and fp16 bundles."""
    rows = [group[0] for group in groups]
    further = {
        "also": [" ".join(str(part.role) for part in group[1:]) for group in groups],
        "val": [_or_dash(row.val_loss, "{:.4f}".format) for row in rows],
        "best": [_or_dash(row.best_val_loss, "{:.4f}".format) for row in rows],
    }
    whole = [
        replace(
            group[0], bytes=sum(part.bytes for part in group), damage=next((p.damage for p in group if p.damage), None)
        )
        for group in groups
    ]
    return _listed(whole, further)


def _listed(rows: Sequence[BundleSummary], further: dict[str, list[str]]) -> Table:
    """A line for each; the year stands where they are not all of one, and what there is no room for is left out."""
    shown_from = 5 if len({row.saved_at[:4] for row in rows if row.saved_at}) == 1 else 2
    columns: dict[str, list[str | Text]] = {
        "name": [row.name for row in rows],
        "also": [*further.get("also", ())],
        "params": [_or_dash(row.parameters, units.parameters) for row in rows],
        "step": [_or_dash(row.step, "{:,}".format) for row in rows],
        "val": [*further["val"]],
        "best": [*further.get("best", ())],
        "bpb": [_or_dash(row.val_bpb, "{:.4f}".format) for row in rows],
        "tokens": [_or_dash(row.tokens_processed, units.count) for row in rows],
        "size": [_or_dash(row.bytes or None, units.size) for row in rows],
        "saved": [row.saved_at[shown_from:16].replace("T", " ") if row.saved_at else "-" for row in rows],
        "state": [styled(state, STATE_STYLE.get(state, "")) for state in map(_state, rows)],
        "tags": [", ".join(row.tags) for row in rows] if any(row.tags for row in rows) else [],
    }
    columns = {heading: cells for heading, cells in columns.items() if cells}
    left = ("name", "also", "saved", "state", "tags")
    table = columns_table(
        None, [*columns], zip(*columns.values(), strict=True),
        right=[heading for heading in columns if heading not in left],
        whole=[heading for heading in columns if heading not in ("name", "tags")],
        spare=("bpb", "tokens", "params", "saved", "size", "also", "best", "step", "tags", "state"),
    )  # fmt: skip
    table.padding, table.pad_edge = (0, 1, 0, 0), False
    return table


def _state(row: BundleSummary) -> str:
    return "damaged" if row.damage is not None else _or_dash(row.state, str)


def lineage_tree(line: Sequence[Ancestor], gold_step: int | None) -> Tree:
    """What a bundle descends from, each with its commands."""
    tree = node = Tree("Lineage")
    for ancestor in line:
        note = f" ({ancestor.note})" if ancestor.note else ""
        node = node.add(f"{ancestor.name}, step {ancestor.step}{note}")
        for typed in ancestor.commands:
            node.add(styled(typed, "dim"))
    if gold_step is not None:
        node.add(f"gold at step {gold_step}")
    return tree


def _or_dash(value: Any, shown: Callable[[Any], str]) -> str:
    return "-" if value is None else shown(value)


def usage_table(found: Usage) -> Table:
    """A row for each run and its parts, then the trash, and all of it; parts that there is no room for are left out."""
    parts = ("last", "gold", "fp16", "log")
    rows = [
        (run.name, units.size(run.total), *(_or_dash(getattr(run, part) or None, units.size) for part in parts))
        for run in found.runs
    ]
    sums = [("trash", found.trash), ("all", found.total)] if found.trash else [("all", found.total)]
    rows += [(name, units.size(size), *[""] * len(parts)) for name, size in sums]
    figures = ("total", *parts)
    return columns_table(None, ("name", *figures), rows, right=figures, whole=figures, spare=parts[::-1])


def superseded_table(found: Sequence[Superseded]) -> Table:
    """A row for each thing that can go, and all of it."""
    rows = [(one.name, units.size(one.bytes), one.why) for one in found]
    rows.append(("all", units.size(sum(one.bytes for one in found)), ""))
    return columns_table(None, ("name", "size", "why"), rows, right=("size",), whole=("size",))


def shared_line(found: Usage) -> list[str]:
    """What is saved by files that have several names; none where none has."""
    return [f"{units.size(found.shared)} more if files with several names counted each time."] if found.shared else []
