"""What `mypt train` and `mypt resume` share: their options, and how a run is shown from its plan to its end."""

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mypt.cli.console import console, say

if TYPE_CHECKING:
    from mypt.run.export import Export
    from mypt.run.train import Call, Outcome

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
    say(out, *closing_lines(call.name, outcome, call.dry_run))
    stopped = outcome.result.stopped if outcome.result else None
    if stopped and stopped.startswith("SIG"):
        raise typer.Exit(128 + signal.Signals[stopped].value)


def closing_lines(name: str, outcome: "Outcome", dry_run: bool) -> list[str]:
    """What is said at the end: the spec's closing lines, or why nothing was trained."""
    if outcome.plan is None:
        return [
            f"Nothing left to do: {name} is at step {outcome.step} already.",
            f"Give a larger number of steps, for example: mypt resume {name} --max-iters {outcome.step * 2}",
        ]
    if outcome.result is None:
        return ["Dry run: nothing was written."] if dry_run else []
    if outcome.result.stopped:
        return [
            f"Stopped after step {outcome.step} ({outcome.result.stopped}); everything is saved.",
            f"  Go on with: mypt resume {name}",
        ]
    lines = ["Training finished!", f"  Resume training from: {outcome.path.as_posix()}"]
    if outcome.export is not None:
        lines += [f"  Deploy inference from: {outcome.export.path.as_posix()}", *export_notes(outcome.export)]
    gold = outcome.result.state.progress.gold
    if gold.step is not None:
        where = f"{outcome.path.as_posix()}_gold (step {gold.step}, val_loss={gold.val_loss:.4f})"
        lines.append(f"  🏆 Best (GOLD) checkpoint: {where}")
    return lines


def export_notes(export: "Export") -> list[str]:
    """A warning where rounding to fp16 moved the loss by more than a thousandth."""
    before, after = export.val_loss_before, export.val_loss_after
    if before is None or after is None or abs(after - before) < 1e-3:
        return []
    return [f"  Rounding to fp16 changed the val loss from {before:.4f} to {after:.4f}."]
