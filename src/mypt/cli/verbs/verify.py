"""`mypt verify`."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mypt.checkpoint.layout import bundle_names, bundle_path, export_path, is_export
from mypt.cli.arguments import OutDir, name_argument
from mypt.cli.console import busy, console, echo, echo_json, say
from mypt.cli.verb import FAILURE, Verb
from mypt.errors import UsageError
from mypt.schema.settings.output import DEFAULT_OUT_DIR

if TYPE_CHECKING:
    from mypt.run.verify import Check

app = typer.Typer(add_completion=False)


@app.command(cls=Verb, epilog="Example: mypt verify dante")
def verify(
    ctx: typer.Context,
    names: Annotated[
        list[str] | None, name_argument("Names of models or exports; all models when none is given.")
    ] = None,
    out_dir: OutDir = DEFAULT_OUT_DIR,
    untrusted: Annotated[
        bool,
        typer.Option("--untrusted", help="Say in one line what may be trusted of a bundle that came from elsewhere."),
    ] = False,
    every: Annotated[
        bool, typer.Option("--all", help="Show every check, also of bundles in which nothing is wrong.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON list instead of a table.")] = False,
) -> None:
    """Check bundles without training: hashes, schema, tensors, finite values, tokenizer, optimizer, log, data.

    The folder of an export is checked too: its files, its weights, and what other programs compute with it.

    Exits with 1 if any check fails.
    """
    chosen = names or bundle_names(out_dir)
    if not chosen:
        raise UsageError(f"There is no bundle in {out_dir}.", "Name another folder with --out-dir.")
    paths = [export_path(name, out_dir) or bundle_path(name, out_dir) for name in chosen]
    if untrusted:
        from mypt.run.untrusted import judge

        judged = [judge(bundle_path(name, out_dir)) for name in chosen]
        checks = [check for judgement in judged for check in judgement.checks]
    else:
        judged, checks = [], _checked(paths, out_dir)
    faults = sum(c.ok is False for c in checks)
    if as_json:
        echo_json(json.dumps([asdict(c) for c in checks], indent=2))
    elif untrusted:
        say(console(ctx), *(judgement.line() for judgement in judged))
    else:
        from mypt.cli.render.bundle import checks_tables, healthy_lines

        rows = [(c.bundle, c.name, c.ok, c.found) for c in checks]
        faulty = {c.bundle for c in checks if c.ok is False}
        listed = rows if every else [row for row in rows if row[0] in faulty]
        out = console(ctx)
        for table in checks_tables(listed):
            out.print(table)
        say(out, *([] if every else healthy_lines([row for row in rows if row[0] not in faulty])))
        made = sum(c.ok is not None for c in checks)
        echo(f"{made} checks of {len(paths)} bundles, {faults} faults.")
    if faults:
        raise typer.Exit(FAILURE)


def _checked(paths: Sequence[Path], out_dir: Path) -> "list[Check]":
    from mypt.run.data.unchanged import DataChecks
    from mypt.run.exchange.check import verify_export
    from mypt.run.verify import verify_bundle

    with busy("Checking") as tell:
        data = DataChecks(lambda file: tell(f"Reading {file}"))
        found = [verify_export(path, out_dir) if is_export(path) else verify_bundle(path, data) for path in paths]
    return [check for checks in found for check in checks]
