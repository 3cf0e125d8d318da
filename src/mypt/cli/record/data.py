"""`mypt data inspect`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from mypt.cli.arguments import AsJson
from mypt.cli.console import console, echo_json, say
from mypt.cli.verb import FAILURE, Verb, group

app = group("data", "Look at folders of token shards.")


@app.command(cls=Verb, epilog="Example: mypt data inspect data/dante")
def inspect(
    ctx: typer.Context,
    folder: Annotated[Path, typer.Argument(help="A folder of token shards.", metavar="DIR")],
    samples: Annotated[int, typer.Option("--samples", help="Pieces of each split to decode.", min=0, max=10_000)] = 3,
    check: Annotated[
        bool, typer.Option("--check", help="Read every shard and compare its hash and its largest id.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show what a dataset holds: sizes, tokenizer, sources and decoded samples.

    With --check, exits with 1 if a shard is not what its metadata say.
    """
    from mypt.data.describe import check_shards, describe, sample_pieces
    from mypt.data.formats.names import told
    from mypt.data.shards import open_shards

    shards = open_shards(folder, to_look=True)
    faults = check_shards(shards) if check else []
    if as_json:
        echo_json(json.dumps({**describe(shards), "faults": faults}, indent=2, ensure_ascii=False))
    else:
        from mypt.cli.render.dataset import dataset_tables, samples_table

        out = console(ctx)
        for table in dataset_tables(describe(shards)):
            out.print(table)
        if samples:
            out.print(samples_table(sample_pieces(shards, samples)))
        say(out, *filter(None, [told(shards.folder, shards.left_out)]), *faults)
        if check:
            out.print(f"{len(faults)} faults.")
    if faults:
        raise typer.Exit(FAILURE)
