"""A dataset: its figures, its splits, its sources, decoded pieces of it, and what is said when it is made."""

import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from mypt import units
from mypt.cli.render.tables import columns_table, pairs_table, rows_table

if TYPE_CHECKING:
    from mypt.schema.files.dataset import DatasetMetadata


def dataset_tables(description: Mapping[str, Any]) -> list[Table]:
    """A dataset's own figures, its splits and its sources."""
    d = description
    rows = [
        ("folder", d["folder"]),
        ("format", d["format"]),
        ("tokenizer", f"{d['tokenization']}, {d['vocab_size']:,} tokens"),
        ("ids", d["dtype"]),
        ("loss masks", "yes" if d["masked"] else "no"),
        ("fingerprint", d["fingerprint"]),
    ]
    splits = [
        (
            name,
            f"{s['tokens']:,}",
            "unknown" if s["documents"] is None else f"{s['documents']:,}",
            str(s["shards"]),
            units.size(s["bytes"]),
        )
        for name, s in d["splits"].items()
    ]
    tables = [
        pairs_table("Dataset", rows),
        rows_table("Splits", ("split", "tokens", "documents", "shards", "size"), splits),
    ]
    if d["sources"]:
        sources = [(s["path"], units.size(s["bytes"]), s["sha256"][:12] + "…") for s in d["sources"]]
        tables.append(rows_table("Sources", ("file", "size", "SHA-256"), sources))
    return tables


def samples_table(pieces: Iterable[tuple[str, str, int, str]]) -> Table:
    """Decoded pieces of a dataset: (split, shard, offset, text)."""
    rows = [
        (split, shard, f"{offset:,}", text.replace("\n", "⏎").replace("\t", " "))
        for split, shard, offset, text in pieces
    ]
    return columns_table("Samples", ("split", "shard", "offset", "text"), rows, right=("offset",))


def prepared_lines(out: Path, metadata: "DatasetMetadata") -> list[str]:
    """What was prepared, and how to train on it."""
    width = 2 if metadata.dtype == "uint16" else 4
    width += 1 if metadata.masked else 0
    lines = [
        f"Prepared {out.as_posix()}, {metadata.tokenization} ids below {metadata.vocab_size:,} as {metadata.dtype}"
    ]
    for name, split in (("train", metadata.train), ("val", metadata.val)):
        lines.append(
            f"  {name:<7}{split.documents:,} documents, {split.tokens:,} tokens, "
            f"{len(split.shards):,} shards, {units.size(split.tokens * width)}"
        )
    if metadata.train.tokens and metadata.val.tokens:
        lines.append(f"Train on it with: mypt train NAME --dataset-dir {shlex.quote(out.as_posix())}")
    return lines
