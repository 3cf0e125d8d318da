"""`mypt inspect`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from mypt.cli.verb import chosen_name, console, model_name_option, name_argument, out_dir_option, verb
from mypt.schema.run import OutputConfig

DEFAULT_OUT_DIR: Path = OutputConfig().out_dir


def register(app: typer.Typer) -> None:
    """Add the verb."""

    @verb(app, "inspect", example="mypt inspect dante")
    def inspect(
        name: Annotated[str | None, name_argument("Name of the model, or the path of a bundle.")] = None,
        model_name: Annotated[str | None, model_name_option()] = None,
        out_dir: Annotated[Path, out_dir_option()] = DEFAULT_OUT_DIR,
        as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")] = False,
    ) -> None:
        """Show what a bundle is and how it was trained, without loading a tensor."""
        from mypt.record.info import read_bundle

        info = read_bundle(chosen_name(name, model_name), out_dir)
        if as_json:
            typer.echo(json.dumps(info.as_dict(), indent=2, ensure_ascii=False))
            return
        from mypt.cli.tables import inspect_tables, state_lines

        out = console()
        out.print(f"{info.path.as_posix()}", markup=False)
        for table in inspect_tables(info):
            out.print(table)
        for line in state_lines(info):
            out.print(line, markup=False, soft_wrap=True)
