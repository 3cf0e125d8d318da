"""`mypt compare`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mypt.cli.arguments import AsJson, OutDir, Over, Tagged, name_argument
from mypt.cli.console import busy, console, echo_json, say
from mypt.cli.verb import Verb
from mypt.errors import UsageError
from mypt.schema.base import to_json_text
from mypt.schema.settings.output import DEFAULT_OUT_DIR, Axis

if TYPE_CHECKING:
    from mypt.cli.draw.runs import Course
    from mypt.log.compare import Comparison

_TABLES = (".md", ".json")
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
        typer.Option(
            "--out",
            help="Save a report (.html), a picture (.png, .svg) or the tables (.md, .json) as this file.",
        ),
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
    from mypt.cli.draw import runs, saving, terminal
    from mypt.cli.next_calls import after_comparing
    from mypt.cli.render import comparison
    from mypt.log.compare import compared

    if out is not None:
        saving.check(out, _TABLES)
    if plot:
        terminal.check()
    with busy("Reading the runs"):
        records, courses = runs.read(names, out_dir, draw=plot or out is not None)
        found = compared(records)
    if out is not None:
        _save(found, courses, over, out)
    if as_json:
        echo_json(to_json_text(found, indent=True))
        return
    shown = console(ctx)
    say(shown, *comparison.verdict_lines(found))
    for table in comparison.tables(found, everything):
        shown.print(table)
    say(shown, *comparison.closing_lines(found))
    if plot:
        typer.echo(terminal.plot(courses, over, shown.width, colour=terminal.coloured(shown)))
    if out is not None:
        say(shown, f"Saved {out}.")
    say(shown, *after_comparing(found, names, out_dir))


def _save(found: "Comparison", courses: "list[Course]", over: Axis, out: Path) -> None:
    """Save a comparison in the form that the file's name asks for."""
    from mypt.cli.draw import saving
    from mypt.cli.render import comparison
    from mypt.cli.render.board import verdict_page

    if out.suffix in _TABLES:
        comparison.save(found, out)
    else:
        verdict, *_ = comparison.verdict_lines(found)
        saving.save(courses, over, out, verdict, lambda: verdict_page(found))
