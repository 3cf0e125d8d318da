"""What `mypt train` and `mypt resume` share: their options, and how a run is shown from its plan to its end."""

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mypt.cli.console import console, say

if TYPE_CHECKING:
    from mypt.run.train import Call

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config-file", "--config", help="A flat JSON file of settings; the call's own options win over it."),
]
IgnoreUnknown = Annotated[
    bool, typer.Option("--ignore-unknown", help="Leave out what the config file has and mypt does not, and list it.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Do everything up to one timed step, print the plan, write nothing.")
]


def words_of_this_call() -> tuple[str, ...]:
    """The command as it was typed, for the record."""
    return ("mypt", *sys.argv[1:])


def run_and_show(call: "Call", ctx: typer.Context) -> None:
    """Train, and show the run as it goes.

    Raises:
        KeyboardInterrupt: the user stopped it; says what is saved.
        typer.Exit: a signal stopped it.
    """
    from mypt.cli.render.outcome import training_lines
    from mypt.cli.render.progress import ConsoleObserver
    from mypt.run.train import train

    out = console(ctx)
    observer = ConsoleObserver(out, call.name)
    for note in call.settings.notes():
        observer.notice(note)
    try:
        outcome = train(call, observer)
    except KeyboardInterrupt as interrupt:
        observer.close()
        saved = observer.saved_step
        todo = f"Step {saved} is saved; go on with `mypt resume {call.name}`." if saved else "Nothing was saved yet."
        raise KeyboardInterrupt(todo) from interrupt
    finally:
        observer.close()
    say(out, *training_lines(call.name, outcome, call.dry_run))
    stopped = outcome.result.stopped if outcome.result else None
    if stopped and stopped.startswith("SIG"):
        raise typer.Exit(128 + signal.Signals[stopped].value)
