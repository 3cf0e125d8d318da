"""`mypt prepare`."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from mypt.cli.console import say, work_console
from mypt.cli.options import given_settings
from mypt.cli.verb import verb_with_settings
from mypt.schema.resolve import resolve_section
from mypt.schema.settings.prepare import PrepareConfig
from mypt.signals import Interrupted

if TYPE_CHECKING:
    from mypt.data.prepare.pipeline import Progress

_BAR = 50
"""Columns from which on there is room for a bar with its figures."""

app = typer.Typer(add_completion=False)


@app.command(
    cls=verb_with_settings({"Dataset": PrepareConfig}), epilog="Example: mypt prepare texts/ --out datasets/dante"
)
def prepare(
    ctx: typer.Context,
    inputs: Annotated[
        list[str],
        typer.Argument(
            help="Texts: .txt, .md, .json(l), .csv, .tsv, .parquet, also packed; files, folders or patterns with *.",
            metavar="INPUT",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of the dataset, new or unfinished.")],
) -> None:
    """Make token shards of texts of any size, once, for runs that read them without loading them.

    A call that was interrupted goes on where it was when it is repeated.
    """
    config = resolve_section(PrepareConfig, given_settings(ctx))
    from mypt.cli.render.dataset import prepared_lines
    from mypt.data.prepare.pipeline import prepare as make

    shown = work_console(ctx)
    try:
        with _bar(shown) as progress:
            metadata = make(inputs, out, config, progress, lambda text: say(shown, text))
    except Interrupted as interrupted:
        interrupted.add_note("What is finished is kept; the same call goes on from there.")
        raise
    say(shown, *prepared_lines(out, metadata))


@contextmanager
def _bar(shown: Console) -> Iterator["Progress"]:
    """A bar in a terminal; nothing when piped."""
    if not shown.is_terminal:
        yield lambda *_: None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    every = (BarColumn(bar_width=None), DownloadColumn(), TransferSpeedColumn(), "left", TimeRemainingColumn())
    columns = every if shown.width >= _BAR else every[1:2]
    with Progress(*columns, console=shown, transient=True) as bar:
        task = bar.add_task("preparing", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
