"""`mypt prune`."""

from typing import Annotated

import typer

from mypt.cli.arguments import OutDir
from mypt.cli.console import error_console, say, work_console
from mypt.cli.verb import Verb
from mypt.schema.settings.output import DEFAULT_OUT_DIR

app = typer.Typer(add_completion=False)


@app.command(cls=Verb, epilog="Example: mypt prune --yes")
def prune(
    ctx: typer.Context,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; otherwise it is only shown.")] = False,
    purge: Annotated[bool, typer.Option("--purge", help="Delete at once, past the trash.")] = False,
    trash_days: Annotated[
        float, typer.Option("--trash-days", help="Delete from the trash what is in it for so many days.", min=0)
    ] = 30,
    out_dir: OutDir = DEFAULT_OUT_DIR,
) -> None:
    """Put away what is superseded: archived runs with a newer one of the name, old exports; and delete old trash.

    Never what a process writes, and neither gold nor the last step of a run that was not archived.
    """
    from mypt.cli.render.bundle import superseded_table
    from mypt.order.prune import prune as put_away
    from mypt.order.prune import superseded

    out = work_console(ctx)
    found = superseded(out_dir, trash_days)
    if not found:
        say(out, f"Nothing in {out_dir} is superseded.")
    if yes:  # with nothing found, too: a kill may have left something half deleted
        say(out, *put_away(found, out_dir, lambda text: say(error_console(), text), purge=purge))
    elif found:
        out.print(superseded_table(found))
        say(out, "Nothing is changed yet; --yes does it.")
