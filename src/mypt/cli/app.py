"""The command `mypt`: its verbs, each in a file of its own."""

import sys
from io import TextIOWrapper
from typing import Annotated

import typer

from mypt import __version__
from mypt.cli import config, data, export, generate, inspect, logs, prepare, presets, reproduce, train, verify
from mypt.cli.verb import CONTEXT

app = typer.Typer(
    name="mypt",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings=CONTEXT,
)
for module in (train, prepare, data, config, inspect, logs, verify, reproduce, generate, export, presets):
    module.register(app)


@app.callback(epilog="Example: mypt train dante --input-file dante.txt")
def mypt(
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.", is_eager=True)] = False,
) -> None:
    """Train GPT models on your own text and keep a record that can be trusted."""
    if version:
        typer.echo(f"mypt {__version__}")
        raise typer.Exit


def main() -> None:
    """Run the command line, in UTF-8 whatever the system's own encoding."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="replace")
    app()
