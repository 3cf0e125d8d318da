"""`mypt presets`."""

import json
from typing import Annotated

import typer

from mypt.cli.verb import console, verb


def register(app: typer.Typer) -> None:
    """Add the verb."""

    @verb(app, "presets", example="mypt presets")
    def presets(
        as_json: Annotated[bool, typer.Option("--json", help="Print one JSON list, settings included.")] = False,
    ) -> None:
        """List the shipped presets with their parameters, memory and work per token."""
        from mypt.cli.render.settings import preset_costs, presets_table
        from mypt.schema.settings.presets import PRESETS

        if as_json:
            typer.echo(json.dumps([preset_costs(name) for name in PRESETS], indent=2))
            return
        console().print(presets_table())
