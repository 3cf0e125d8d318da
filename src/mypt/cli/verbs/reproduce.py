"""`mypt reproduce`."""

from typing import Annotated

import typer

from mypt.cli.arguments import BundleName, ModelName, OutDir, chosen_name
from mypt.cli.console import console, say
from mypt.cli.verb import FAILURE, Verb
from mypt.schema.settings.output import DEFAULT_OUT_DIR

app = typer.Typer(add_completion=False)


@app.command(cls=Verb, epilog="Example: mypt reproduce dante --steps 500")
def reproduce(
    ctx: typer.Context,
    name: BundleName = None,
    model_name: ModelName = None,
    steps: Annotated[int | None, typer.Option("--steps", help="Prove only the first so many steps.", min=1)] = None,
    out_dir: OutDir = DEFAULT_OUT_DIR,
) -> None:
    """Run a recorded run again from its record alone, and compare losses and weights; nothing is written.

    Exits with 1 if anything differs.
    """
    chosen = chosen_name(name, model_name, "default")
    from mypt.cli.render.progress import ReproduceConsole
    from mypt.cli.render.settings import changes_table
    from mypt.run.reproduce import reproduce as run_again

    out = console(ctx)
    observer = ReproduceConsole(out, chosen)
    try:
        verdict = run_again(chosen, out_dir, steps, observer)
    finally:
        observer.close()
    if verdict.differences:
        out.print(changes_table(verdict.differences))
    if verdict.hashes:
        recorded, made = verdict.hashes
        say(out, f"weights: recorded {recorded[:16]}…, reproduced {made[:16]}…")
    if verdict.identical:
        steps_run = f"{verdict.steps} steps"
        proved = f"all {steps_run} and the weights" if verdict.whole else f"the first {steps_run}"
        say(out, f"identical: {proved}, {len(verdict.rows)} evaluations")
        return
    at = verdict.first_difference
    where = f"first at the evaluation of step {at}" if at is not None else "in the weights at the end"
    causes = ", ".join(c.name for c in verdict.differences) or "no recorded circumstance"
    say(out, f"different: {where}; what differs from the record: {causes}")
    raise typer.Exit(FAILURE)
