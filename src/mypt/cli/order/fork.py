"""`mypt fork`."""

from typing import Annotated

import typer

from mypt.checkpoint.layout import command
from mypt.cli.arguments import OutDir, name_argument
from mypt.cli.console import say, work_console
from mypt.cli.verb import Verb
from mypt.schema.settings.output import DEFAULT_OUT_DIR

app = typer.Typer(add_completion=False)


@app.command(cls=Verb, epilog="Example: mypt fork dante dante_slow")
def fork(
    ctx: typer.Context,
    old: Annotated[str, name_argument("Name of a run, or of its gold bundle.", "OLD")],
    new: Annotated[str, typer.Argument(help="Name of the copy.", metavar="NEW")],
    out_dir: OutDir = DEFAULT_OUT_DIR,
) -> None:
    """Copy a run to a run of its own, with an identity and a log of its own, whose record names the origin.

    Where a call was interrupted, the same call completes it.
    """
    from mypt.cli.render.progress import ConsoleObserver
    from mypt.order.fork import fork as fork_run

    shown = work_console(ctx)
    observer = ConsoleObserver(shown, new)
    try:
        made = fork_run(old, new, out_dir, observer)
    finally:
        observer.close()
    say(shown, *made, f"Go on with it: {command('resume', out_dir / new)}")
