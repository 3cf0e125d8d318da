"""`mypt config check`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from mypt.cli.arguments import IgnoreUnknown, presets_that_begin
from mypt.cli.console import console, echo_json, say
from mypt.cli.verb import Verb, group

app = group("config", "Look at config files.")


@app.command(cls=Verb, epilog="Example: mypt config check dante.json")
def check(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="A flat JSON file of settings.", metavar="FILE")],
    preset: Annotated[
        str | None,
        typer.Option(
            "--preset", help="The preset that the file is to be used with.", autocompletion=presets_that_begin
        ),
    ] = None,
    ignore_unknown: IgnoreUnknown = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object of all settings.")] = False,
) -> None:
    """Say everything that is wrong with a config file at once, or show what its settings come to."""
    from mypt.cli.render.settings import config_costs_table, settings_tables
    from mypt.schema.resolve import resolve_settings

    settings = resolve_settings({}, file, preset, ignore_unknown=ignore_unknown)
    if as_json:
        values = {n: v for s in settings.sections() for n, v in s.model_dump(mode="json").items()}
        echo_json(json.dumps(values, indent=2, ensure_ascii=False))
        return
    out = console(ctx)
    say(out, *settings.notes())
    for table in settings_tables(settings):
        out.print(table)
    out.print(config_costs_table(settings))
    missing = settings.data.missing_paths()
    say(out, *(f"{path} is not here, on this machine, from this folder." for path in missing), f"{file} is right.")
