"""The command `mypt`: its verbs, each in a module of its own that is loaded when the verb is asked for."""

import signal
import sys
from collections import UserDict
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.main import get_command

from mypt import __version__
from mypt.cli.streams import install
from mypt.cli.verb import VerbGroup
from mypt.errors import MyptError, OutputError, ReaderLeftError
from mypt.launch import Launch
from mypt.threads import wait_briefly

VERBS = {
    "train": "verbs.train",
    "resume": "verbs.resume",
    "prepare": "verbs.prepare",
    "inspect": "record.inspect",
    "compare": "record.compare",
    "board": "record.board",
    "evaluate": "verbs.evaluate",
    "verify": "verbs.verify",
    "reproduce": "verbs.reproduce",
    "generate": "verbs.generate",
    "chat": "verbs.chat",
    "export": "verbs.export",
    "export-fp16": "verbs.export_fp16",
    "import": "verbs.import_model",
    "mv": "order.mv",
    "fork": "order.fork",
    "tag": "order.tag",
    "rm": "order.rm",
    "prune": "order.prune",
    "du": "order.du",
    "doctor": "verbs.doctor",
    "presets": "record.presets",
    "data": "record.data",
    "config": "record.config",
    "logs": "record.logs",
}
"""Every verb, in the order of `mypt --help`, with its module in `mypt.cli`, whose `app` it is."""
TOGETHER = ("train", "resume", "reproduce")
"""The verbs that several processes do together; any other one the first process does alone."""


class LazyCommands(UserDict[str, Any]):
    """Commands by their names; one that nobody has asked for yet is still the name of its module."""

    def __getitem__(self, name: str) -> Any:
        if isinstance(self.data[name], str):
            self.data[name] = get_command(import_module(f"mypt.cli.{self.data[name]}").app)
        return self.data[name]


class LazyGroup(VerbGroup):
    """A group that loads the module of the verb that is called, and all of them for help alone."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = LazyCommands(VERBS)

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - click's signature
        """The names, in the order of the help."""
        return list(self.commands)


app = typer.Typer(
    name="mypt",
    cls=LazyGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "token_normalize_func": lambda name: name.replace("_", "-"),  # --max_iters is --max-iters
    },
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"mypt {__version__}")
        raise typer.Exit


@app.callback(epilog="Example: mypt train dante --input-file dante.txt")
def mypt(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and leave.", is_eager=True, callback=_print_version),
    ] = False,
) -> None:
    """Train GPT models on your own text and keep a record that can be trusted."""
    del version


def follow_first(launch: Launch) -> None:
    """Take part in what the first of several processes is called for, which alone reads the call and speaks."""
    verb, *words = sys.argv[1:] or [""]
    if verb not in TOGETHER or {"-h", "--help", "--help-all"} & {*words}:
        return
    from mypt.run.parallel.follow import follow

    try:
        follow(launch)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except MyptError as error:
        from mypt.cli.console import complain

        complain(error.what, error.details, error.todo)
        sys.exit(error.exit_code)


def main() -> None:
    """Run the command line; where standard output fails what is shown on it, the exit code says so."""
    install()
    wait_briefly()
    if not (launch := Launch.of()).leads:
        follow_first(launch)
        return
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except OutputError as error:
        if not isinstance(error, ReaderLeftError):
            from mypt.cli.console import complain

            complain(error.what, error.details, error.todo)
        sys.exit(error.exit_code)
