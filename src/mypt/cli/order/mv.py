"""`mypt mv`."""

from typing import Annotated

import typer

from mypt.cli.arguments import OutDir, name_argument
from mypt.cli.console import error_console, say, work_console
from mypt.cli.verb import Verb
from mypt.schema.settings.output import DEFAULT_OUT_DIR

app = typer.Typer(add_completion=False)


@app.command(cls=Verb, epilog="Example: mypt mv dante dante_small")
def mv(
    ctx: typer.Context,
    old: Annotated[str, name_argument("Name of the run.", "OLD")],
    new: Annotated[str, typer.Argument(help="What it is to be called.", metavar="NEW")],
    out_dir: OutDir = DEFAULT_OUT_DIR,
) -> None:
    """Give a run another name: its bundles, its log and what its records say of it; it stays the same run.

    Where a call was interrupted, the same call completes it.
    """
    from mypt.order.move import move

    say(work_console(ctx), *move(old, new, out_dir, lambda text: say(error_console(), text)))
