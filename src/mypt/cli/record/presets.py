"""`mypt presets`."""

import json
from typing import Annotated

import typer

from mypt.cli.console import console, echo_json
from mypt.cli.verb import Verb

app = typer.Typer(add_completion=False)


@app.command(cls=Verb, epilog="Example: mypt presets")
def presets(
    ctx: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON list, settings included.")] = False,
) -> None:
    """List the shipped presets with their parameters, memory and work per token."""
    from mypt.cli.render.settings import preset_costs, presets_table
    from mypt.schema.settings.presets import PRESETS

    if as_json:
        echo_json(json.dumps([preset_costs(name) for name in PRESETS], indent=2))
        return
    console(ctx).print(presets_table())
