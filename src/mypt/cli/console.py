"""What verbs write to: standard output and standard error, as consoles of rich."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Timer
from typing import Any

import typer
from rich.console import Console
from rich.text import Text

from mypt.cli.streams import go_on_without_output
from mypt.visible import visible, visible_json

WIDTH = "mypt.width"
"""Where the context of a call keeps what `--width` says."""


class ShownConsole(Console):
    """A console on which text is what it is: brackets are no markup, `:memo:` no picture, and ESC no command."""

    def __init__(self, **how: Any) -> None:
        super().__init__(highlight=False, emoji=False, markup=False, **how)

    def render_str(self, text: str, **how: Any) -> Text:
        """Text for the terminal, through which every string of a page goes."""
        return super().render_str(visible(text), **how)


def styled(text: str, style: str) -> Text:
    """Text in a style of rich, such as `bold red`."""
    return Text(visible(text), style)


def console(ctx: typer.Context) -> Console:
    """The console of standard output: rich in a terminal, plain when piped, as wide as the terminal or `--width`."""
    return ShownConsole(width=ctx.meta.get(WIDTH))


def work_console(ctx: typer.Context) -> Console:
    """The console of a verb that does more than to show: it does its work to the end where nothing can be shown."""
    go_on_without_output()
    return console(ctx)


def error_console() -> Console:
    """The console of standard error."""
    return ShownConsole(stderr=True)


def say(shown: Console, *lines: str) -> None:
    """Show lines that only the terminal folds."""
    for line in lines:
        shown.print(line, soft_wrap=True)


def echo(text: str) -> None:
    """Show text that is no page, such as a line of a log, wherever standard output leads."""
    typer.echo(visible(text))


def echo_json(text: str) -> None:
    """Show JSON."""
    typer.echo(visible_json(text))


def complain(what: str, details: Sequence[str], todo: str) -> None:
    """Show an error: what is wrong, further lines, and what to do."""
    shown = error_console()
    shown.print(styled("Error:", "bold red"), what, soft_wrap=True)
    say(shown, *(f"  {line}" for line in details), *([todo] if todo else []))


@contextmanager
def busy(what: str) -> Iterator[Callable[[str], None]]:
    """Say in a terminal what takes long, once it has taken a second; what is given says what it is at meanwhile."""
    shown = error_console()
    if not shown.is_terminal:
        yield lambda _: None
        return
    status = shown.status(styled(what, ""))
    timer = Timer(1.0, status.start)
    try:
        timer.start()
        yield lambda now: status.update(styled(now, ""))
    finally:
        timer.cancel()
        if timer.ident is not None:  # it did start
            timer.join()
        status.stop()
