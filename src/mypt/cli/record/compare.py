"""`mypt compare`."""

from pathlib import Path
from typing import Annotated

import typer

from mypt.cli.arguments import AsJson, OutDir, Over, Tagged, name_argument
from mypt.cli.console import busy, console, echo_json, say
from mypt.cli.verb import Verb
from mypt.errors import UsageError
from mypt.schema.base import to_json_text
from mypt.schema.settings.output import DEFAULT_OUT_DIR

app = typer.Typer(add_completion=False)


@app.command(cls=Verb, epilog="Example: mypt compare modelA modelB")
def compare(
    ctx: typer.Context,
    names: Annotated[list[str] | None, name_argument("Names or paths of bundles, or logs; two or more.")] = None,
    tag: Tagged = None,
    out_dir: OutDir = DEFAULT_OUT_DIR,
    everything: Annotated[bool, typer.Option("--all", help="Show what is equal too.")] = False,
    plot: Annotated[bool, typer.Option("--plot", help="Draw the val losses in the terminal.")] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Save a picture (.png, .svg, .html), or the tables (.md, .json), as this file."),
    ] = None,
    over: Over = "tokens",
    as_json: AsJson = False,
) -> None:
    """Show what differs between runs, whether their losses compare, and which is better beyond the noise."""
    if tag:
        from mypt.order.labels import tagged

        names = [*(names or ()), *(name for name in tagged(out_dir, tag) if name not in (names or ()))]
    if names is None or len(names) < 2:
        raise UsageError("One run cannot be compared.", "Name two or more; `mypt inspect` lists them.")
    from mypt.cli.render import comparison
    from mypt.log.compare import compare as compare_runs

    with busy("Reading the runs"):
        found = compare_runs(names, out_dir)
    if out is not None:
        comparison.save(found, over, out)
    if as_json:
        echo_json(to_json_text(found, indent=True))
        return
    shown = console(ctx)
    say(shown, *comparison.verdict_lines(found))
    for table in comparison.tables(found, everything):
        shown.print(table)
    say(shown, *comparison.closing_lines(found))
    if plot:
        from mypt.cli.render.curves import terminal_plot

        typer.echo(terminal_plot(found.runs, over, shown.width, colour=shown.color_system is not None))
    if out is not None:
        say(shown, f"Saved {out}.")
