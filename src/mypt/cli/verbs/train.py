"""`mypt train`."""

import re
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from mypt.checkpoint.layout import check_name
from mypt.cli.arguments import ConfigFile, DryRun, IgnoreUnknown, ModelName, RunName, chosen_name, presets_that_begin
from mypt.cli.options import given_settings
from mypt.cli.training import run_and_show
from mypt.cli.verb import verb_with_settings
from mypt.errors import UsageError
from mypt.schema.settings.output import DEFAULT_OUT_DIR
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
        str | None,
        typer.Option(
            "--preset",
            help="Start from a shipped preset; `mypt presets` lists them.",
            autocompletion=presets_that_begin,
        ),
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

    given, chosen = given_settings(ctx), chosen_name(name, model_name)
    if config_file is None and not given.keys() & {"input_file", "dataset_dir", "curriculum"}:
        _check_no_text(chosen, given.get("out_dir", DEFAULT_OUT_DIR))
    chosen = check_name(chosen)
    settings = settings_of_call(chosen, given, config_file, preset, fresh=fresh, ignore_unknown=ignore_unknown)
    from mypt.run.train import Call

    run_and_show(Call(chosen, settings, fresh=fresh, dry_run=dry_run), ctx)


def _check_no_text(name: str, out_dir: str | Path) -> None:
    """Make sure that the name is not the text to train on, which an option names.

    Raises:
        UsageError: it is a file, or a folder of shards, and no model.
    """
    from mypt.schema.files.dataset import METADATA_FILE

    shards = Path(name, METADATA_FILE).is_file()
    if Path(out_dir, name).is_dir() or not (shards or Path(name).is_file()):
        return
    option, what = ("--dataset-dir", "folder of shards") if shards else ("--input-file", "file")
    model = re.sub(r"\W+", "_", Path(name).name.partition(".")[0]).strip("_") or "model"
    others = [word for word in sys.argv[2:] if word not in (name, "--model-name", f"--model-name={name}")]
    meant = shlex.join(["mypt", "train", model, option, name, *others])
    raise UsageError(
        f"{name} is a {what}, and stands where the name of the new model belongs.", f"To train on it: `{meant}`."
    )
