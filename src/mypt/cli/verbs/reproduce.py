"""`mypt reproduce`."""

from pathlib import Path
from typing import Annotated

import typer

from mypt.cli.verb import FAILURE, chosen_name, console, model_name_option, name_argument, out_dir_option, verb
from mypt.schema.settings.output import DEFAULT_OUT_DIR


def register(app: typer.Typer) -> None:
    """Add the verb."""

    @verb(app, "reproduce", example="mypt reproduce dante --steps 500")
    def reproduce(
        name: Annotated[str | None, name_argument("Name of the model, or the path of a bundle.")] = None,
        model_name: Annotated[str | None, model_name_option()] = None,
        steps: Annotated[int | None, typer.Option("--steps", help="Prove only the first so many steps.", min=1)] = None,
        out_dir: Annotated[Path, out_dir_option()] = DEFAULT_OUT_DIR,
    ) -> None:
        """Run a recorded run again from its record alone, and compare losses and weights; nothing is written.

        Exits with 1 if anything differs.
        """
        chosen = chosen_name(name, model_name, "default")
        from mypt.cli.render.progress import ReproduceConsole
        from mypt.cli.render.settings import changes_table
        from mypt.run.reproduce import reproduce as run_again

        out = console()
        observer = ReproduceConsole(out, chosen)
        try:
            verdict = run_again(chosen, out_dir, steps, observer)
        finally:
            observer.close()
        if verdict.differences:
            out.print(changes_table(verdict.differences))
        if verdict.hashes:
            recorded, made = verdict.hashes
            out.print(f"weights: recorded {recorded[:16]}…, reproduced {made[:16]}…", soft_wrap=True)
        if verdict.identical:
            steps_run = f"{verdict.steps} steps"
            proved = f"all {steps_run} and the weights" if verdict.whole else f"the first {steps_run}"
            out.print(f"identical: {proved}, {len(verdict.rows)} evaluations", soft_wrap=True)
            return
        at = verdict.first_difference
        where = f"first at the evaluation of step {at}" if at is not None else "in the weights at the end"
        causes = ", ".join(c.name for c in verdict.differences) or "no recorded circumstance"
        out.print(f"different: {where}; what differs from the record: {causes}", soft_wrap=True)
        raise typer.Exit(FAILURE)
