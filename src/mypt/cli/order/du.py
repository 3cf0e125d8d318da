"""`mypt du`."""

import typer

from mypt.cli.arguments import AsJson, OutDir
from mypt.cli.console import console, echo_json, say
from mypt.cli.verb import Verb
from mypt.errors import UsageError
from mypt.schema.base import to_json_text
from mypt.schema.settings.output import DEFAULT_OUT_DIR

app = typer.Typer(add_completion=False)


@app.command(cls=Verb, epilog="Example: mypt du")
def du(ctx: typer.Context, out_dir: OutDir = DEFAULT_OUT_DIR, as_json: AsJson = False) -> None:
    """Show what each run takes on the disk, the largest first; a file that has several names counts once."""
    from mypt.order.usage import usage

    found = usage(out_dir)
    if as_json:
        echo_json(to_json_text(found, indent=True))
        return
    if not found.runs and not found.trash:
        raise UsageError(f"There is no bundle in {out_dir}.", "Make one with `mypt train`, or name another --out-dir.")
    from mypt.cli.render.bundle import shared_line, usage_table

    out = console(ctx)
    out.print(usage_table(found))
    say(out, *shared_line(found))
