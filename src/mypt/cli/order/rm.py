"""`mypt rm`."""

from typing import Annotated

import typer

from mypt.checkpoint.layout import command
from mypt.cli.arguments import OutDir, name_argument
from mypt.cli.console import error_console, say, work_console
from mypt.cli.verb import Verb
from mypt.errors import UsageError
from mypt.schema.settings.output import DEFAULT_OUT_DIR

app = typer.Typer(add_completion=False)


@app.command(cls=Verb, epilog="Example: mypt rm dante_old")
def rm(
    ctx: typer.Context,
    names: Annotated[list[str], name_argument("Names of runs, or of single gold or fp16 bundles.")],
    purge: Annotated[
        bool, typer.Option("--purge", help="Delete them, and what the trash has of these names, for good.")
    ] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Put back what was removed last under these names.")] = False,
    out_dir: OutDir = DEFAULT_OUT_DIR,
) -> None:
    """Move runs with all their bundles and their logs into the trash, checkpoints/.trash; never one that is written."""
    from mypt.order.trash import remove, restore

    if purge and undo:
        raise UsageError("What is deleted cannot be put back.", "Give --undo or --purge.")
    shown = work_console(ctx)

    def notice(text: str) -> None:
        say(error_console(), text)

    if undo:
        say(shown, *restore(names, out_dir, notice))
        return
    say(shown, *remove(names, out_dir, notice, purge=purge))
    if not purge:
        for name in names:
            say(shown, f"Put it back with: {command('rm', out_dir / name, '--undo')}")
