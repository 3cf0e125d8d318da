"""`mypt export`."""

from pathlib import Path
from typing import Annotated

import typer

from mypt.cli.arguments import BundleName, ModelName, OutDir, chosen_name
from mypt.cli.console import say, work_console
from mypt.cli.options import given_settings
from mypt.cli.verb import verb_with_settings
from mypt.schema.resolve import resolve_section
from mypt.schema.settings.export import ExportConfig
from mypt.schema.settings.output import DEFAULT_OUT_DIR

app = typer.Typer(add_completion=False)


@app.command(cls=verb_with_settings({"Export": ExportConfig}), epilog="Example: mypt export dante --format gguf")
def export(
    ctx: typer.Context,
    name: BundleName = None,
    model_name: ModelName = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="The folder to write, by default NAME_hf or NAME_gguf by the bundle.")
    ] = None,
    out_dir: OutDir = DEFAULT_OUT_DIR,
) -> None:
    """Write a folder that transformers or llama.cpp opens, prove that it holds the model, and say how near it is."""
    config = resolve_section(ExportConfig, given_settings(ctx))
    chosen = chosen_name(name, model_name)
    from mypt.cli.render.export import export_lines
    from mypt.cli.render.progress import ConsoleObserver
    from mypt.run.exchange.export import export as run_export

    shown = work_console(ctx)
    exported = run_export(chosen, out_dir, out, config, ConsoleObserver(shown, chosen))
    say(shown, *export_lines(exported))
