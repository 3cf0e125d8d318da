"""The command `mypt`: its verbs, each in a file of its own."""

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from io import TextIOWrapper
from typing import Annotated, Any

import typer

from mypt import __version__
from mypt.cli.command import Group
from mypt.cli.verb import CONTEXT, NAMES_ONLY

MODULES = (
    "train", "prepare", "data", "config", "inspect", "compare", "logs", "verify", "reproduce", "generate", "export",
    "presets",
)  # fmt: skip
"""In the order of `mypt --help`. Each registers the verb, or the group of verbs, of its name, except for:"""
OTHER_WORDS = {"resume": "train", "export-fp16": "export"}


def build(modules: Sequence[str] = MODULES) -> typer.Typer:
    """The command line with the verbs of some modules; all of them cost a tenth of a second to load."""
    app = typer.Typer(
        name="mypt",
        cls=Group,
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings=CONTEXT,
    )
    for name in modules:
        import_module(f"mypt.cli.verbs.{name}").register(app)
    app.callback(epilog="Example: mypt train dante --input-file dante.txt")(mypt)
    return app


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"mypt {__version__}")
        raise typer.Exit


def mypt(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and leave.", is_eager=True, callback=_print_version),
    ] = False,
) -> None:
    """Train GPT models on your own text and keep a record that can be trusted."""
    del version


def __getattr__(name: str) -> Any:
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return build()


def main() -> None:
    """Run the command line, in UTF-8 whatever the system's own encoding."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="replace")
    words = sys.argv[1:2] or _typed()[1:2]
    modules = _called(words)
    NAMES_ONLY.set(modules == MODULES and words != ["--"])  # which alone leads to a verb without being one
    build(modules)()


def _typed() -> list[str]:
    """The words of the line that a shell asks to complete: bash names them so, the other shells so."""
    return (os.environ.get("COMP_WORDS") or os.environ.get("_TYPER_COMPLETE_ARGS") or "").split()


def _called(words: Sequence[str]) -> Sequence[str]:
    """The module of the verb that is called; all of them for help, and for a verb that is misspelt or half typed."""
    module = [OTHER_WORDS.get(word, word) for word in words]
    return module if module and module[0] in MODULES else MODULES
