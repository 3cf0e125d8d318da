"""`mypt train` and `mypt resume`."""

import signal
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mypt.checkpoint.layout import check_name
from mypt.cli.verb import Settings, chosen_name, console, model_name_option, name_argument, verb

if TYPE_CHECKING:
    from mypt.run.export import Export
    from mypt.run.train import Call, Outcome
    from mypt.schema.base import Section

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


def register(app: typer.Typer) -> None:
    """Add the two verbs."""

    @verb(app, "train", _sections, example="mypt train dante --input-file dante.txt --n-layer 6 --max-iters 1000")
    def train(
        settings: Settings,
        name: Annotated[str | None, name_argument("Name of the model; `default` when not given.")] = None,
        model_name: Annotated[str | None, model_name_option()] = None,
        preset: Annotated[
            str | None, typer.Option("--preset", help="Start from a shipped preset; `mypt presets` lists them.")
        ] = None,
        config_file: ConfigFile = None,
        ignore_unknown: IgnoreUnknown = False,
        fresh: Annotated[
            bool, typer.Option("--fresh", help="Start over; what the name had before is moved aside, never deleted.")
        ] = False,
        dry_run: DryRun = False,
    ) -> None:
        """Train a model on your text, or go on with the one that has this name.

        The command line wins over the config file, that over the preset, and that over the defaults.
        """
        from mypt.run.settings import settings_of_call

        chosen = check_name(chosen_name(name, model_name, "default"))
        resolved = settings_of_call(chosen, settings, config_file, preset, fresh=fresh, ignore_unknown=ignore_unknown)
        from mypt.run.train import Call  # heavy, so that a wrong call is told before

        _run(Call(chosen, resolved, fresh=fresh, dry_run=dry_run, command=_command()))

    @verb(app, "resume", _sections, example="mypt resume dante --max-iters 2000 --lr 1e-4")
    def resume(
        settings: Settings,
        name: Annotated[str | None, name_argument("Name of the model; `default` when not given.")] = None,
        model_name: Annotated[str | None, model_name_option()] = None,
        config_file: ConfigFile = None,
        ignore_unknown: IgnoreUnknown = False,
        rewind: Annotated[
            str | None,
            typer.Option("--from", metavar="gold", help="Rewind to the gold bundle and go on under the same name."),
        ] = None,
        dry_run: DryRun = False,
    ) -> None:
        """Go on with a recorded run: same architecture, data and tokenizer; training settings may change.

        Settings that are not given stay as recorded. Those of the architecture are refused if they differ.
        """
        from mypt.run.settings import settings_of_call

        chosen = chosen_name(name, model_name, "default")
        resolved = settings_of_call(chosen, settings, config_file, ignore_unknown=ignore_unknown)
        from mypt.run.train import Call

        if rewind not in (None, "gold"):
            raise typer.BadParameter(f"--from takes gold, not {rewind}.")
        call = Call(chosen, resolved, dry_run=dry_run, must_exist=True, command=_command())
        _run(replace(call, from_gold=rewind == "gold"))


def _sections() -> "Mapping[str, type[Section]]":
    from mypt.schema.settings.run import SECTIONS

    return SECTIONS


def _command() -> tuple[str, ...]:
    """The words of this call, for the record."""
    return ("mypt", *sys.argv[1:])


def _run(call: "Call") -> None:
    from mypt.cli.render.progress import ConsoleObserver
    from mypt.run.train import train

    out = console()
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
    for line in closing_lines(call.name, outcome, call.dry_run):
        out.print(line, markup=False, soft_wrap=True)
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
