"""`mypt board`."""

import signal
from typing import Annotated

import typer

from mypt.cli.arguments import OutDir
from mypt.cli.console import say, work_console
from mypt.cli.verb import Verb
from mypt.schema.settings.output import DEFAULT_OUT_DIR
from mypt.signals import Interrupted

app = typer.Typer(add_completion=False)


@app.command(cls=Verb, epilog="Example: mypt board --open")
def board(
    ctx: typer.Context,
    port: Annotated[
        int | None,
        typer.Option(
            "--port", help="Port to listen at; when not given 7678, or another that is free.", min=0, max=65535
        ),
    ] = None,
    show: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    out_dir: OutDir = DEFAULT_OUT_DIR,
) -> None:
    r"""Show all runs of a folder in the browser, live: a local page that only reads.

    It needs mypt\[board].
    """
    from mypt.board.folder import Pages
    from mypt.board.serve import serve
    from mypt.cli.render.board import comparison_page, inspect_page

    shown = work_console(ctx)
    if not out_dir.is_dir():
        say(shown, f"There is no folder {out_dir} yet; runs appear as they start.")
    try:
        serve(
            out_dir, Pages(compare=comparison_page, inspect=inspect_page), port, show=show,
            ready=lambda address: say(shown, f"The runs of {out_dir} are at {address} (Ctrl-C ends it)."),
        )  # fmt: skip
    except Interrupted as interrupted:
        if interrupted.signum == signal.SIGINT:  # Ctrl-C is how a user ends it
            raise typer.Exit from None
        raise
