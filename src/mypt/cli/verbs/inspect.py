"""`mypt inspect`."""

import json
import shlex
from pathlib import Path
from typing import Annotated, cast, get_args

import typer

from mypt.checkpoint.lineage import lineage
from mypt.checkpoint.overview import Overview, SortKey, overview
from mypt.cli.verb import chosen_name, console, model_name_option, name_argument, out_dir_option, verb
from mypt.errors import UsageError
from mypt.schema.base import to_json_text
from mypt.schema.settings.output import DEFAULT_OUT_DIR


def register(app: typer.Typer) -> None:
    """Add the verb."""

    @verb(app, "inspect", example="mypt inspect dante")
    def inspect(
        name: Annotated[
            str | None, name_argument("Name of the model, or the path of a bundle; all of the folder without it.")
        ] = None,
        model_name: Annotated[str | None, model_name_option()] = None,
        out_dir: Annotated[Path, out_dir_option()] = DEFAULT_OUT_DIR,
        sort: Annotated[
            str, typer.Option("--sort", help=f"Column to sort all bundles by: {', '.join(get_args(SortKey))}.")
        ] = "name",
        tensors: Annotated[
            bool, typer.Option("--tensors", help="Show every tensor with its shape and dtype as well.")
        ] = False,
        as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")] = False,
    ) -> None:
        """Show what a bundle is and how it was trained, without loading a tensor; without NAME, all bundles."""
        if name is None and model_name is None:
            _show_all(out_dir, sort, as_json)
            return
        from mypt.checkpoint.describe import read_bundle

        info = read_bundle(chosen_name(name, model_name), out_dir)
        if as_json:
            typer.echo(json.dumps(info.as_dict(), indent=2, ensure_ascii=False))
            return
        from mypt.cli.render.tables import inspect_tables, lineage_tree, state_lines, tensor_tables

        out = console()
        out.print(f"{info.path.as_posix()}", markup=False)
        for table in [*inspect_tables(info), *(tensor_tables(info) if tensors else [])]:
            out.print(table)
        out.print("\n".join(state_lines(info)), markup=False, soft_wrap=True)
        out.print(lineage_tree(lineage(info.path, info.state), info.state.progress.gold.step))
        following = _next_commands(info.path.name, info.state.optimizer_file is not None)
        out.print("\n".join(following), markup=False, soft_wrap=True)


def _show_all(out_dir: Path, sort: str, as_json: bool) -> None:
    if sort not in get_args(SortKey):
        raise typer.BadParameter(f"--sort takes one of {', '.join(get_args(SortKey))}, not {sort}.")
    rows = overview(out_dir, cast(SortKey, sort))
    if as_json:
        typer.echo(to_json_text(Overview(bundles=rows), indent=True))
        return
    if not rows:
        raise UsageError(f"There is no bundle in {out_dir}.", "Make one with `mypt train`, or name another --out-dir.")
    from mypt.cli.render.tables import overview_table

    out = console()
    out.print(overview_table(rows))
    for row in rows:
        if row.damage is not None:
            out.print(row.damage, markup=False, soft_wrap=True)


def _next_commands(name: str, resumable: bool) -> list[str]:
    name = shlex.quote(name)
    lines = [f"  mypt generate {name}", f"  mypt verify {name}"]
    return ["Next:", *([f"  mypt resume {name}"] if resumable else []), *lines]
