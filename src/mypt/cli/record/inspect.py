"""`mypt inspect`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, get_args

import typer

from mypt.cli.arguments import AsJson, ModelName, OutDir, Tagged, chosen_name, name_argument
from mypt.cli.console import console, echo_json, say
from mypt.cli.verb import Verb
from mypt.errors import UsageError
from mypt.schema.base import to_json_text
from mypt.schema.settings.output import DEFAULT_OUT_DIR, SortKey

_WHOLE = "All files are there, of the size that was saved; `mypt verify` reads every byte."

app = typer.Typer(add_completion=False)


@app.command(cls=Verb, epilog="Example: mypt inspect dante")
def inspect(
    ctx: typer.Context,
    name: Annotated[
        str | None, name_argument("Name of the model, or the path of a bundle; all of the folder without it.")
    ] = None,
    model_name: ModelName = None,
    out_dir: OutDir = DEFAULT_OUT_DIR,
    sort: Annotated[
        SortKey,
        typer.Option(
            "--sort", metavar="COLUMN", help=f"Column to sort all bundles by: {', '.join(get_args(SortKey))}."
        ),
    ] = "name",
    tensors: Annotated[
        bool, typer.Option("--tensors", help="Show every tensor with its shape and dtype as well.")
    ] = False,
    tag: Tagged = None,
    parts: Annotated[
        bool, typer.Option("--all", help="List gold and fp16 bundles in lines of their own, each with its own loss.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show what a bundle is and how it was trained, without loading a tensor; without NAME, all runs."""
    if name is None and model_name is None:
        _show_all(ctx, out_dir, sort, tag or (), parts, as_json)
        return
    from mypt.board.rows import rows_by_bundle
    from mypt.checkpoint.describe import read_bundle
    from mypt.checkpoint.lineage import lineage

    info = read_bundle(chosen_name(name, model_name), out_dir)
    if as_json:
        echo_json(json.dumps(info.as_dict(), indent=2, ensure_ascii=False))
        return
    from mypt.cli.render.bundle import (
        inspect_tables,
        lineage_tree,
        loss_lines,
        next_commands,
        state_lines,
        tensor_tables,
    )

    out = console(ctx)
    run = rows_by_bundle(info.path.parent).get(info.path.name)
    state = [run.state, *([run.why] if run.why else [])] if run is not None else []
    say(out, ": ".join([info.path.as_posix(), *([", ".join(state)] if state else [])]))
    for table in [*inspect_tables(info), *(tensor_tables(info) if tensors else [])]:
        out.print(table)
    if info.evaluations:
        from mypt.cli.render.evaluation import evaluations_table

        out.print(evaluations_table(info.evaluations))
    say(out, *state_lines(info))
    out.print(lineage_tree(lineage(info.path, info.state), info.state.progress.gold.step))
    say(out, *loss_lines(info.path), *next_commands(info.path, info.state.optimizer_file is not None))


def _show_all(
    ctx: typer.Context, out_dir: Path, sort: SortKey, tags: Sequence[str], parts: bool, as_json: bool
) -> None:
    from mypt.board.rows import rows_by_bundle
    from mypt.checkpoint.overview import Overview, by_run, overview

    rows = [row for row in overview(out_dir, sort) if {*row.tags} >= {*tags}]
    runs = rows_by_bundle(out_dir) if rows else {}
    for row in rows:
        row.state = runs[row.name].state if row.name in runs else None  # it came meanwhile
    if as_json:
        echo_json(to_json_text(Overview(bundles=rows), indent=True))
        return
    if not rows and tags:
        raise UsageError(f"No bundle in {out_dir} has the tag {' and '.join(tags)}.", "`mypt tag` lists those in use.")
    if not rows:
        raise UsageError(f"There is no bundle in {out_dir}.", "Make one with `mypt train`, or name another --out-dir.")
    from mypt.cli.render.bundle import overview_table, runs_table

    out = console(ctx)
    out.print(overview_table(rows) if parts else runs_table(by_run(rows)))
    say(out, *([row.damage for row in rows if row.damage is not None] or [_WHOLE]))
