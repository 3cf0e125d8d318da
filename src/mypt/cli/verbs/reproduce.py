"""`mypt reproduce`."""

from typing import Annotated

import typer

from mypt.cli.arguments import BundleName, ModelName, OutDir, chosen_name
from mypt.cli.console import say, work_console
from mypt.cli.options import given_settings
from mypt.cli.verb import FAILURE, verb_with_settings
from mypt.schema.resolve import resolve_section
from mypt.schema.settings.output import DEFAULT_OUT_DIR
from mypt.schema.settings.run import ReproducePlaces

app = typer.Typer(add_completion=False)


@app.command(
    cls=verb_with_settings({"Inputs that have moved": ReproducePlaces}),
    epilog="Example: mypt reproduce dante --steps 500",
)
def reproduce(
    ctx: typer.Context,
    name: BundleName = None,
    model_name: ModelName = None,
    steps: Annotated[int | None, typer.Option("--steps", help="Prove only the first so many steps.", min=1)] = None,
    out_dir: OutDir = DEFAULT_OUT_DIR,
) -> None:
    """Run a recorded run again from its record alone, and compare losses and weights; nothing is written.

    Inputs that are not where the record says are given a place by options, and have to be the recorded ones.
    Exits with 1 if anything differs.
    """
    chosen = chosen_name(name, model_name)
    given = resolve_section(ReproducePlaces, given_settings(ctx))
    from mypt.cli.render.outcome import reproduction_lines
    from mypt.cli.render.plan import changes_table
    from mypt.cli.render.progress import ReproduceConsole
    from mypt.run.reproduce import reproduce as run_again

    out = work_console(ctx)
    observer = ReproduceConsole(out, chosen)
    try:
        verdict = run_again(chosen, out_dir, steps, observer, given)
    finally:
        observer.close()
    if verdict.differences:
        out.print(changes_table(verdict.differences))
    say(out, *reproduction_lines(verdict))
    if not verdict.identical:
        raise typer.Exit(FAILURE)
