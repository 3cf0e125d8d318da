"""`mypt resume`."""

from typing import Annotated, Literal

import typer

from mypt.checkpoint.layout import GOLD
from mypt.cli.arguments import ConfigFile, DryRun, IgnoreUnknown, ModelName, RunName, chosen_name
from mypt.cli.options import given_settings
from mypt.cli.training import run_and_show
from mypt.cli.verb import verb_with_settings
from mypt.schema.settings.run import SECTIONS

app = typer.Typer(add_completion=False)


@app.command(
    cls=verb_with_settings(SECTIONS, recorded=True), epilog="Example: mypt resume dante --max-iters 2000 --lr 1e-4"
)
def resume(
    ctx: typer.Context,
    name: RunName = None,
    model_name: ModelName = None,
    config_file: ConfigFile = None,
    ignore_unknown: IgnoreUnknown = False,
    rewind: Annotated[
        Literal["gold"] | None,
        typer.Option("--from", metavar="gold", help="Rewind to the gold bundle and go on under the same name."),
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Go on with a recorded run: same architecture, data and tokenizer; training settings may change.

    Settings that are not given stay as recorded. Those of the architecture are refused if they differ.
    """
    from mypt.run.settings import settings_of_call

    chosen = chosen_name(name, model_name)
    source = chosen + GOLD if rewind else chosen
    settings = settings_of_call(source, given_settings(ctx), config_file, ignore_unknown=ignore_unknown)
    from mypt.run.train import Call

    run_and_show(Call(chosen, settings, dry_run=dry_run, must_exist=True, from_gold=rewind == "gold"), ctx)
