"""What verbs write to: standard output and standard error, as consoles of rich."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Timer

import typer
from rich.console import Console
from rich.markup import escape

from mypt.cli.streams import go_on_without_output

WIDTH = "mypt.width"
"""Where the context of a call keeps what `--width` says."""


def console(ctx: typer.Context) -> Console:
    """The console of standard output: rich in a terminal, plain when piped, as wide as the terminal or `--width`.

    A name or a text is shown as it is, `:memo:` as well.
    """
    return Console(highlight=False, emoji=False, width=ctx.meta.get(WIDTH))


def work_console(ctx: typer.Context) -> Console:
    """The console of a verb that does more than to show: it does its work to the end where nothing can be shown."""
    go_on_without_output()
    return console(ctx)


def error_console() -> Console:
    """The console of standard error."""
    return Console(stderr=True, highlight=False, emoji=False)


def say(shown: Console, *lines: str) -> None:
    """Show lines as they are: brackets are no markup, and only the terminal folds them."""
    for line in lines:
        shown.print(line, markup=False, soft_wrap=True)


def complain(what: str, details: Sequence[str], todo: str) -> None:
    """Show an error: what is wrong, further lines, and what to do."""
    shown = error_console()
    shown.print(f"[bold red]Error:[/] {escape(what)}", soft_wrap=True)
    say(shown, *(f"  {line}" for line in details), *([todo] if todo else []))


@contextmanager
def busy(what: str) -> Iterator[Callable[[str], None]]:
    """Say in a terminal what takes long, once it has taken a second; what is given says what it is at meanwhile."""
    shown = error_console()
    if not shown.is_terminal:
        yield lambda _: None
        return
    status = shown.status(what)
    timer = Timer(1.0, status.start)
    try:
        timer.start()
        yield lambda now: status.update(escape(now))
    finally:
        timer.cancel()
        if timer.ident is not None:  # it did start
            timer.join()
        status.stop()
