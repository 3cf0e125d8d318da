"""What verbs write to: standard output and standard error, as consoles of rich."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Timer
from typing import TYPE_CHECKING

import typer
from rich.console import Console

if TYPE_CHECKING:
    from rich.status import Status

WIDTH = "mypt.width"
"""Where the context of a call keeps what `--width` says."""


def console(ctx: typer.Context) -> Console:
    """The console of standard output: rich in a terminal, plain when piped, as wide as the terminal or `--width`.

    A name or a text is shown as it is, `:memo:` as well.
    """
    return Console(highlight=False, emoji=False, width=ctx.meta.get(WIDTH))


def error_console() -> Console:
    """The console of standard error."""
    return Console(stderr=True, highlight=False, emoji=False)


def say(shown: Console, *lines: str) -> None:
    """Show lines as they are: brackets are no markup, and only the terminal folds them."""
    for line in lines:
        shown.print(line, markup=False, soft_wrap=True)


@contextmanager
def busy(what: str) -> Iterator[None]:
    """Say in a terminal what takes long, once it has taken a second."""
    shown = error_console()
    said: list[Status] = []

    def begin() -> None:
        said.append(shown.status(what))
        said[0].start()

    timer = Timer(1.0, begin)
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
