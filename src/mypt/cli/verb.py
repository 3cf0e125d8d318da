"""The commands of mypt: options that every verb has, settings of the schema, errors that speak to the user."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Annotated, Any, ClassVar, TypeGuard

import typer
from typer.core import TyperCommand, TyperGroup

from mypt.checkpoint.atomic import recover_all
from mypt.cli.console import complain, error_console, say
from mypt.cli.help import show_help
from mypt.cli.options import options_of, parameters_of, uncommon_settings
from mypt.errors import MyptError, OutputError, UsageError
from mypt.schema.base import Section
from mypt.signals import Interrupted, interruptible
from mypt.visible import visible

FAILURE = 1
_DEBUG = "mypt.debug"
_AROUND = 40
"""Characters that are shown before and after one that is wrong."""


def _keep(ctx: typer.Context, param: typer.CallbackParam, value: Any) -> None:
    ctx.meta[f"mypt.{param.name}"] = value


def _kept(spelling: str, help: str, least: int | None = None) -> Any:  # noqa: A002 - typer's own word
    return typer.Option(spelling, help=help, min=least, expose_value=False, callback=_keep)


def _of_every_verb(
    width: Annotated[int | None, _kept("--width", "Columns of tables; the terminal's when not given.", 20)] = None,
    debug: Annotated[bool, _kept("--debug", "Show the traceback of an error.")] = False,
) -> None:
    """The options of every verb; only typer reads them here."""


def _show_all_help(ctx: typer.Context, asked: bool) -> None:
    if asked and not ctx.resilient_parsing:
        show_help(ctx.command, ctx)
        raise typer.Exit


def _of_a_verb_with_a_short_help(
    _: Annotated[
        bool,
        typer.Option(
            "--help-all",
            help="Show every option, by section.",
            is_eager=True,
            expose_value=False,
            callback=_show_all_help,
        ),
    ] = False,
) -> None:
    """The option of verbs whose `--help` leaves out what few people set."""


class Verb(TyperCommand):
    """A verb: its own parameters, then those of its settings, then those of every verb."""

    sections: ClassVar[Mapping[str, type[Section]]] = {}
    """The settings that it takes, by their heading in `--help`; `given_settings` gives them to its function."""
    left_out: ClassVar[frozenset[str]] = frozenset()
    """The settings that only `--help-all` shows."""

    @cached_property
    def _further_params(self) -> list[Any]:
        more = parameters_of(_of_a_verb_with_a_short_help) if self.left_out else []
        return [*options_of(self.sections), *parameters_of(_of_every_verb), *more]

    def get_params(self, ctx: Any) -> list[Any]:
        """All parameters; those of the settings are made now, for `mypt --help` names every verb and needs none."""
        own = super().get_params(ctx)
        return [*own[: len(self.params)], *self._further_params, *own[len(self.params) :]]

    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - click's signature
        """Show `--help`, which is short where few people set most of what there is to set."""
        show_help(self, ctx, self.left_out)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words of a call; a wrong choice is told without pydantic's name for the kind of fault."""
        try:
            return super().parse_args(ctx, args)
        except Exception as error:  # typer exports no base of its errors on the words of a call
            if isinstance(message := getattr(error, "message", None), str):
                vars(error)["message"] = visible(message).removeprefix("Value error, ")
            raise

    def invoke(self, ctx: Any) -> Any:
        """Call the function after putting right what a crash left half switched in the folder that it reads.

        Signals that ask to end interrupt it wherever it is, unless it hears them itself.
        """
        with interruptible(), _errors_told(ctx.meta[_DEBUG]):
            if "out_dir" in ctx.params:
                say(error_console(), *recover_all(ctx.params["out_dir"]))
            return super().invoke(ctx)


class VerbGroup(TyperGroup):
    """A group of verbs, whose help names them."""

    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - click's signature
        """Show `--help`."""
        show_help(self, ctx)


def group(name: str, help: str) -> typer.Typer:  # noqa: A002 - typer's own word
    """An app of verbs that are called by two words; its callback makes it one even if it has a single verb."""
    app = typer.Typer(name=name, cls=VerbGroup, add_completion=False, no_args_is_help=True)
    app.callback(help=help)(lambda: None)
    return app


def verb_with_settings(settings: Mapping[str, type[Section]], *, recorded: bool = False) -> type[Verb]:
    """The class of a verb that takes settings, by their heading in `--help`.

    Args:
        settings: the sections.
        recorded: whether it goes on with a run, of which not every setting may change.
    """

    class SettingsVerb(Verb):
        sections = settings
        left_out = uncommon_settings(settings, recorded=recorded)

    return SettingsVerb


@contextmanager
def _errors_told(debug: bool) -> Iterator[None]:
    """Tell errors in sentences and give the exit code, without a traceback unless asked for."""
    try:
        yield
    except typer.BadParameter as error:
        error.message = visible(error.message)
        raise
    except (typer.Exit, OutputError):
        raise
    except Interrupted as interrupted:
        say(error_console(), str(interrupted))
        raise
    except MyptError as error:
        if debug:
            raise
        complain(error.what, error.details, error.todo)
        raise typer.Exit(error.exit_code) from error
    except Exception as error:
        if debug:
            raise
        unexpected = f"mypt failed unexpectedly: {type(error).__name__}: {error}"
        what, todo = _of_the_system(error) or (unexpected, "Call again with --debug and report what it prints.")
        complain(what, [], todo)
        raise typer.Exit(UsageError.exit_code if _is_no_utf8(error) else FAILURE) from error


def _is_no_utf8(error: Exception) -> TypeGuard[UnicodeEncodeError]:
    """Whether a word of the call is at fault: of a byte that is not UTF-8, Python makes half of a character."""
    return isinstance(error, UnicodeEncodeError)


def _of_the_system(error: Exception) -> tuple[str, str] | None:
    """What the system refuses and what to do, for errors that are no fault of mypt's."""
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error) or "out of memory" in str(error):
        return "There is not enough memory.", "Take a smaller model, batch_size or block_size, or a shorter input."
    if isinstance(error, OSError):
        place = error.filename if error.filename is not None else "A file"
        reason = error.strerror or str(error)
        return f"{place} cannot be used: {reason}.", "Check the path, and whether you may read and write there."
    if _is_no_utf8(error):
        word = error.object[max(error.start - _AROUND, 0) : error.end + _AROUND]
        return f"{word} is not UTF-8.", "Give it in UTF-8, or give the file or the folder another name."
    if isinstance(error, ValueError) and "embedded null" in str(error):
        return "A path holds a NUL character, which no file's name can.", "Check the paths of the call."
    return None
