"""`mypt export-fp16`."""

from pathlib import Path
from typing import Annotated

import typer

from mypt.cli.arguments import BundleName, ModelName, OutDir, chosen_name
from mypt.cli.console import say, work_console
from mypt.cli.verb import Verb
from mypt.schema.settings.output import DEFAULT_OUT_DIR

app = typer.Typer(add_completion=False)


@app.command(cls=Verb, epilog="Example: mypt export-fp16 dante")
def export_fp16(
    ctx: typer.Context,
    name: BundleName = None,
    model_name: ModelName = None,
    out: Annotated[Path | None, typer.Option("--out", help="The bundle to write, by default NAME_fp16.")] = None,
    out_dir: OutDir = DEFAULT_OUT_DIR,
) -> None:
    """Write a light bundle for deployment: fp16 weights, no optimizer, and what the rounding cost."""
    chosen = chosen_name(name, model_name)
    from mypt.cli.render.outcome import export_lines
    from mypt.cli.render.progress import ConsoleObserver
    from mypt.run.exchange.fp16 import export_bundle

    shown = work_console(ctx)
    export = export_bundle(chosen, out_dir, out, ConsoleObserver(shown, chosen))
    say(shown, *export_lines(export))
