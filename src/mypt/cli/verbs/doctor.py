"""`mypt doctor`."""

import json
from dataclasses import asdict
from itertools import groupby
from typing import Annotated

import typer

from mypt.cli.arguments import OutDir
from mypt.cli.console import busy, console, echo_json, say, styled
from mypt.cli.verb import Verb
from mypt.schema.settings.output import DEFAULT_OUT_DIR

app = typer.Typer(add_completion=False)


@app.command(cls=Verb, epilog="Example: mypt doctor")
def doctor(
    ctx: typer.Context,
    out_dir: OutDir = DEFAULT_OUT_DIR,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON list instead of tables.")] = False,
) -> None:
    """Say what this machine has, what mypt does on it, and what is in the way.

    The disk of the bundles is tried in a folder that is removed again. What is shown is what a report of a fault needs.
    Look it over before you pass it on: it has the names of folders.
    """
    from mypt.cli.render.tables import pairs_table
    from mypt.run.machine.doctor import examine

    with busy("Looking at the machine"):
        facts = examine(out_dir)
    if as_json:
        echo_json(json.dumps([asdict(fact) for fact in facts], indent=2))
        return
    shown = console(ctx)
    for about, group in groupby(facts, lambda fact: fact.about):
        shown.print(pairs_table(about.capitalize(), [(fact.name, fact.found) for fact in group]))
    wrong = [fact for fact in facts if fact.wrong]
    if not wrong:
        say(shown, "Nothing is in the way.")
    for fact in wrong:
        shown.print(styled(f"{fact.name}:", "bold yellow"), fact.wrong, soft_wrap=True)
