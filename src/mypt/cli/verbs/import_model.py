"""`mypt import`."""

from typing import Annotated

import typer

from mypt.cli.arguments import OutDir
from mypt.cli.console import say, work_console
from mypt.cli.verb import Verb
from mypt.schema.settings.output import DEFAULT_OUT_DIR

app = typer.Typer(add_completion=False)


@app.command("import", cls=Verb, epilog="Example: mypt import SmolLM2-135M/ --name smol")
def import_model(
    ctx: typer.Context,
    path: Annotated[
        str,
        typer.Argument(
            metavar="PATH",
            help="A folder of Hugging Face (GPT-2 or Llama, in safetensors), a .bin of llm.c, or a ckpt.pt of nanoGPT.",
        ),
    ],
    name: Annotated[str, typer.Option("--name", "--model-name", metavar="NAME", help="Name of the new bundle.")],
    tokenizer: Annotated[
        str | None,
        typer.Option(
            "--tokenizer",
            metavar="gpt2|ids|NAME|PATH",
            help="What the ids mean, where the model does not say it: GPT-2's vocabulary (gpt2), nothing that is known "
            "(ids), or as in a bundle or a dataset.",
        ),
    ] = None,
    out_dir: OutDir = DEFAULT_OUT_DIR,
) -> None:
    """Make a bundle of a model of another program: to generate from, to train on from, to export."""
    from mypt.cli.render.outcome import import_lines
    from mypt.cli.render.progress import ConsoleObserver
    from mypt.run.exchange.imports import import_model as run_import

    shown = work_console(ctx)
    imported = run_import(path, name, out_dir, tokenizer, ConsoleObserver(shown, name))
    say(shown, *import_lines(imported))
