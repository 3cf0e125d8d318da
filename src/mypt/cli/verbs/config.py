"""`mypt config check`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from mypt.cli.command import Group
from mypt.cli.verb import console, verb


def register(app: typer.Typer) -> None:
    """Add the group of verbs."""
    group = typer.Typer(cls=Group, no_args_is_help=True, help="Look at config files.")
    app.add_typer(group, name="config")

    @verb(group, "check", example="mypt config check dante.json")
    def check(
        file: Annotated[Path, typer.Argument(help="A flat JSON file of settings.", metavar="FILE")],
        preset: Annotated[
            str | None, typer.Option("--preset", help="The preset that the file is to be used with.")
        ] = None,
        ignore_unknown: Annotated[
            bool, typer.Option("--ignore-unknown", help="Leave out fields that mypt does not have, and list them.")
        ] = False,
        as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object of all settings.")] = False,
    ) -> None:
        """Say everything that is wrong with a config file at once, or show what its settings come to."""
        from mypt.cli.render.settings import config_costs_table, settings_tables
        from mypt.schema.resolve import resolve_settings

        settings = resolve_settings({}, file, preset, ignore_unknown=ignore_unknown)
        if as_json:
            values = {n: v for s in settings.sections() for n, v in s.model_dump(mode="json").items()}
            typer.echo(json.dumps(values, indent=2, ensure_ascii=False))
            return
        out = console()
        for line in settings.notes():
            out.print(line, markup=False, soft_wrap=True)
        for table in settings_tables(settings):
            out.print(table)
        out.print(config_costs_table(settings))
        for path in settings.data.missing_paths():
            out.print(f"{path} is not here, on this machine, from this folder.", markup=False, soft_wrap=True)
        out.print(f"{file} is right.", markup=False, soft_wrap=True)
