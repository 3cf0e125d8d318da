"""`mypt generate`."""

import sys
from typing import Annotated

import typer

from mypt.cli.arguments import BundleName, ModelName, OutDir, chosen_name
from mypt.cli.options import given_settings
from mypt.cli.verb import verb_with_settings
from mypt.schema.resolve import resolve_section
from mypt.schema.settings.generation import GenerationConfig
from mypt.schema.settings.output import DEFAULT_OUT_DIR
from mypt.visible import visible

app = typer.Typer(add_completion=False)


@app.command(
    cls=verb_with_settings({"Generation": GenerationConfig}),
    epilog='Example: mypt generate dante --prompt "Nel mezzo" --max-new-tokens 200',
)
def generate(
    ctx: typer.Context,
    name: BundleName = None,
    model_name: ModelName = None,
    out_dir: OutDir = DEFAULT_OUT_DIR,
    device: Annotated[str, typer.Option("--device", help="Where to compute: auto, cpu, cuda, cuda:N or mps.")] = "auto",
) -> None:
    """Continue a text with any bundle: the last one, gold or fp16."""
    config = resolve_section(GenerationConfig, given_settings(ctx))
    chosen = chosen_name(name, model_name)
    from mypt.run.generate import stream_text

    pieces = stream_text(chosen, out_dir, config, device)
    shown = visible if sys.stdout.isatty() else str  # a pipe gets what the model wrote
    sys.stdout.write(shown(config.prompt))
    for piece in pieces:
        sys.stdout.write(shown(piece))
        sys.stdout.flush()
    sys.stdout.write("\n")
