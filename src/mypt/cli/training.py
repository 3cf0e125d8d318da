"""What `mypt train` and `mypt resume` share: their options, and how a run is shown from its plan to its end."""

import signal
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import typer

from mypt.checkpoint.layout import bundle_path, command
from mypt.cli.console import say, work_console
from mypt.errors import MyptError
from mypt.launch import Launch
from mypt.signals import Interrupted

if TYPE_CHECKING:
    from mypt.run.train import Call


def run_and_show(call: "Call", ctx: typer.Context) -> None:
    """Train, and show the run as it goes; the record names the command as it was typed.

    Raises:
        Interrupted: a signal ended it at once; its note says what is saved.
        typer.Exit: a signal stopped it with everything saved.
    """
    from mypt.cli.next_calls import after_training
    from mypt.cli.render.outcome import training_lines
    from mypt.cli.render.progress import ConsoleObserver
    from mypt.run.train import train

    out = work_console(ctx)
    observer = ConsoleObserver(out, call.name, call.settings.output.out_dir)
    for note in call.settings.notes():
        observer.notice(note)
    try:
        outcome = train(replace(call, command=("mypt", *sys.argv[1:])), observer)
    except Interrupted as interrupted:
        interrupted.add_note(_what_is_saved(call))
        raise
    finally:
        observer.close()
    say(out, *training_lines(call.name, outcome, call.dry_run))
    if outcome.result is not None and outcome.stopped is None:
        say(out, *after_training(outcome.path, outcome.result.state))
    if outcome.stopped and outcome.stopped.startswith("SIG") and not Launch.of().elastic:  # torchrun starts anew then
        raise typer.Exit(128 + signal.Signals[outcome.stopped].value)


def _what_is_saved(call: "Call") -> str:
    """The sentence that ends the message on a run that was interrupted."""
    from mypt.checkpoint.files import read_state

    try:
        path = bundle_path(call.name, call.settings.output.out_dir)
        return f"Step {read_state(path).step} is saved; go on with `{command('resume', path)}`."
    except MyptError:
        return "Nothing was saved yet."
