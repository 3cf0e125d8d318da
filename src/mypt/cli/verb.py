"""How a verb is declared: its options come from the schema, and its errors speak to the user."""

import inspect
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Timer
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.markup import escape

from mypt.checkpoint.atomic import recover_all
from mypt.checkpoint.layout import bundle_names
from mypt.cli.command import Command
from mypt.errors import MyptError
from mypt.schema.settings.output import DEFAULT_OUT_DIR, OutputConfig

if TYPE_CHECKING:
    from rich.status import Status

    from mypt.schema.base import Section

Settings = dict[str, Any]
"""The settings that were given in a call, by field name; what was not given is not in it."""

FAILURE = 1
INTERRUPTED = 130
READER_LEFT = 141
CONTEXT = {
    "help_option_names": ["-h", "--help"],
    "token_normalize_func": lambda name: name.replace("_", "-"),  # --max_iters is --max-iters
}


_WIDTH: ContextVar[int | None] = ContextVar("width", default=None)
"""What `--width` of the call in progress says."""


NAMES_ONLY: ContextVar[bool] = ContextVar("names only", default=False)
"""Whether only the names of verbs and what they are for will be asked for, and not their options."""


def console() -> Console:
    """The console of standard output: rich in a terminal, plain when piped, as wide as the terminal or `--width`.

    A name or a text is shown as it is, `:memo:` as well.
    """
    return Console(highlight=False, emoji=False, width=_WIDTH.get())


def _errors() -> Console:
    return Console(stderr=True, highlight=False, emoji=False)


@contextmanager
def busy(what: str) -> Iterator[None]:
    """Say in a terminal what takes long, once it has taken a second."""
    shown = _errors()
    said: list[Status] = []

    def say() -> None:
        said.append(shown.status(what))
        said[0].start()

    timer = Timer(1.0, say)
    if shown.is_terminal:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()
        if timer.ident is not None:
            timer.join()
        for status in said:
            status.stop()


def name_argument(help: str = "Name of the model.") -> Any:  # noqa: A002 - typer's own word
    """The NAME of most verbs, as an argument."""
    return typer.Argument(help=help, metavar="NAME", show_default=False, autocompletion=names_that_begin)


def names_that_begin(incomplete: str) -> list[str]:
    """The models that a shell offers."""
    return [name for name in bundle_names(DEFAULT_OUT_DIR) if name.startswith(incomplete)]


def model_name_option() -> Any:
    """The NAME of most verbs, as the option that the spec also has."""
    return typer.Option("--model-name", help="The same as NAME.", metavar="NAME", show_default=False)


def out_dir_option() -> Any:
    """The folder of all bundles, for verbs that only read."""
    return typer.Option("--out-dir", help=OutputConfig.model_fields["out_dir"].description)


def chosen_name(name: str | None, model_name: str | None, default: str | None = None) -> str:
    """NAME from its two spellings.

    Raises:
        typer.BadParameter: they differ, or neither is given where there is no default.
    """
    if name and model_name and name != model_name:
        raise typer.BadParameter(f"NAME is {name} and --model-name is {model_name}; give one of them.")
    chosen = name if name is not None else model_name if model_name is not None else default
    if chosen is None:
        raise typer.BadParameter("NAME is missing; give the name of a model.")
    return chosen


def verb(
    app: typer.Typer, name: str, sections: "Callable[[], Mapping[str, type[Section]]] | None" = None, *, example: str
) -> Callable[[Callable[..., None]], None]:
    """Register a function as a verb.

    Every field of `sections` becomes an option; those that are given reach the function's `settings`.

    Args:
        app: where to register.
        name: the word that users type.
        sections: gives the sections of the schema by their heading in `--help`.
        example: a call to show in `--help`.
    """

    def register(function: Callable[..., None]) -> None:
        """Make the command whose options are the function's own, those of the sections, and those of every verb."""
        options = _options(sections) if sections is not None and not NAMES_ONLY.get() else {}

        def run(debug: bool, width: int | None, **values: Any) -> None:
            _WIDTH.set(width)
            given = {n: values.pop(n) for n in options}
            if sections is not None:
                values["settings"] = {n: v for n, v in given.items() if v is not None and v != []}
            _speak_errors(lambda: _mended(function, values), debug)

        own = [p for n, p in inspect.signature(function).parameters.items() if n != "settings"]
        run.__signature__ = inspect.Signature([*own, *options.values(), _width_option(), _debug_option()])  # type: ignore[attr-defined]
        run.__doc__ = function.__doc__
        app.command(name, cls=Command, context_settings=CONTEXT, epilog=f"Example: {example}")(run)

    return register


def _mended(function: Callable[..., None], values: dict[str, Any]) -> None:
    """Call a verb after putting right what a crash left half switched in the folder that it reads."""
    for sentence in recover_all(values["out_dir"]) if "out_dir" in values else []:
        _errors().print(sentence, markup=False, soft_wrap=True)
    function(**values)


def _options(sections: "Callable[[], Mapping[str, type[Section]]]") -> dict[str, inspect.Parameter]:
    from mypt.cli.options import options_of  # loads pydantic, which verbs that only read do without

    return options_of(sections())


def _width_option() -> inspect.Parameter:
    option = typer.Option(
        None, "--width", help="Columns of tables; the terminal's when not given.", min=20, show_default=False
    )
    return inspect.Parameter("width", inspect.Parameter.KEYWORD_ONLY, default=option, annotation=int | None)


def _debug_option() -> inspect.Parameter:
    option = typer.Option(False, "--debug", help="Show the traceback of an error.", show_default=False)
    return inspect.Parameter("debug", inspect.Parameter.KEYWORD_ONLY, default=option, annotation=bool)


def _speak_errors(work: Callable[[], None], debug: bool) -> None:
    """Run a verb; tell its errors in sentences and give the exit code, without a traceback unless asked for."""
    try:
        work()
    except (typer.Exit, typer.BadParameter):
        raise
    except BrokenPipeError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that Python's own last flush succeeds
        raise typer.Exit(READER_LEFT) from error
    except KeyboardInterrupt as interrupt:
        _errors().print(f"Interrupted. {escape(str(interrupt))}", soft_wrap=True)
        raise typer.Exit(INTERRUPTED) from interrupt
    except MyptError as error:
        if debug:
            raise
        _complain(error.what, error.details, error.todo)
        raise typer.Exit(error.exit_code) from error
    except Exception as error:
        if debug:
            raise
        what = f"mypt failed unexpectedly: {type(error).__name__}: {error}"
        _complain(what, [], "Call again with --debug and report what it prints.")
        raise typer.Exit(FAILURE) from error


def _complain(what: str, details: tuple[str, ...] | list[str], todo: str) -> None:
    err = _errors()
    err.print(f"[bold red]Error:[/] {escape(what)}", soft_wrap=True)
    for line in details:
        err.print(f"  {escape(line)}", soft_wrap=True)
    if todo:
        err.print(escape(todo), soft_wrap=True)
