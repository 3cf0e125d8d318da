"""`mypt data inspect`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from mypt.cli.command import Group
from mypt.cli.verb import FAILURE, console, verb


def register(app: typer.Typer) -> None:
    """Add the group of verbs."""
    group = typer.Typer(cls=Group, no_args_is_help=True, help="Look at folders of token shards.")
    app.add_typer(group, name="data")

    @verb(group, "inspect", example="mypt data inspect data/dante")
    def inspect(
        folder: Annotated[Path, typer.Argument(help="A folder of token shards.", metavar="DIR")],
        samples: Annotated[int, typer.Option("--samples", help="Pieces of each split to decode.", min=0)] = 3,
        check: Annotated[
            bool, typer.Option("--check", help="Read every shard and compare its hash and its largest id.")
        ] = False,
        as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")] = False,
    ) -> None:
        """Show what a dataset holds: sizes, tokenizer, sources and decoded samples.

        With --check, exits with 1 if a shard is not what its metadata say.
        """
        from mypt.data.describe import check_shards, describe, sample_pieces
        from mypt.data.shards import open_shards

        shards = open_shards(folder)
        faults = check_shards(shards) if check else []
        if as_json:
            typer.echo(json.dumps({**describe(shards), "faults": faults}, indent=2, ensure_ascii=False))
        else:
            from mypt.cli.render.tables import dataset_tables, samples_table

            out = console()
            for table in dataset_tables(describe(shards)):
                out.print(table)
            if samples:
                out.print(samples_table(sample_pieces(shards, samples)))
            for fault in faults:
                out.print(fault, markup=False, soft_wrap=True)
            if check:
                out.print(f"{len(faults)} faults.")
        if faults:
            raise typer.Exit(FAILURE)
