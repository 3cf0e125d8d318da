"""`mypt verify`."""

import json
from dataclasses import asdict
from typing import Annotated

import typer

from mypt.checkpoint.layout import bundle_names, bundle_path
from mypt.cli.arguments import OutDir, name_argument
from mypt.cli.console import busy, console, echo, echo_json
from mypt.cli.verb import FAILURE, Verb
from mypt.errors import UsageError
from mypt.schema.settings.output import DEFAULT_OUT_DIR

app = typer.Typer(add_completion=False)


@app.command(cls=Verb, epilog="Example: mypt verify dante")
def verify(
    ctx: typer.Context,
    names: Annotated[list[str] | None, name_argument("Names of models; all of the folder when none is given.")] = None,
    out_dir: OutDir = DEFAULT_OUT_DIR,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON list instead of a table.")] = False,
) -> None:
    """Check bundles without training: hashes, schema, tensors, finite values, tokenizer, optimizer, log, data.

    Exits with 1 if any check fails.
    """
    chosen = names or bundle_names(out_dir)
    if not chosen:
        raise UsageError(f"There is no bundle in {out_dir}.", "Name another folder with --out-dir.")
    paths = [bundle_path(name, out_dir) for name in chosen]
    from mypt.cli.render.bundle import checks_table
    from mypt.run.data.unchanged import DataChecks
    from mypt.run.verify import verify_bundle

    with busy("Checking") as tell:
        data = DataChecks(lambda file: tell(f"Reading {file}"))
        checks = [check for path in paths for check in verify_bundle(path, data)]
    faults = sum(c.ok is False for c in checks)
    if as_json:
        echo_json(json.dumps([asdict(c) for c in checks], indent=2))
    else:
        console(ctx).print(checks_table([(c.bundle, c.name, c.ok, c.found) for c in checks]))
        echo(f"{len(checks)} checks of {len(paths)} bundles, {faults} faults.")
    if faults:
        raise typer.Exit(FAILURE)
