"""`mypt train`."""

from typing import Annotated

import typer

from mypt.checkpoint.layout import check_name
from mypt.cli.arguments import ConfigFile, DryRun, IgnoreUnknown, ModelName, RunName, chosen_name
from mypt.cli.options import given_settings
from mypt.cli.training import run_and_show
from mypt.cli.verb import verb_with_settings
from mypt.schema.settings.run import SECTIONS

app = typer.Typer(add_completion=False)


@app.command(
    cls=verb_with_settings(SECTIONS),
    epilog="Example: mypt train dante --input-file dante.txt --n-layer 6 --max-iters 1000",
)
def train(
    ctx: typer.Context,
    name: RunName = None,
    model_name: ModelName = None,
    preset: Annotated[
        str | None, typer.Option("--preset", help="Start from a shipped preset; `mypt presets` lists them.")
    ] = None,
    config_file: ConfigFile = None,
    ignore_unknown: IgnoreUnknown = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start over; what the name had before is moved aside, never deleted.")
    ] = False,
    dry_run: DryRun = False,
) -> None:
    """Train a model on your text, or go on with the one that has this name.

    The command line wins over the config file, that over the preset, and that over the defaults.
    """
    from mypt.run.settings import settings_of_call

    chosen = check_name(chosen_name(name, model_name))
    given = given_settings(ctx)
    settings = settings_of_call(chosen, given, config_file, preset, fresh=fresh, ignore_unknown=ignore_unknown)
    from mypt.run.train import Call

    run_and_show(Call(chosen, settings, fresh=fresh, dry_run=dry_run), ctx)
