"""`mypt logs summarize|show|tail|plot|export|mirror`."""

import signal
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from mypt.checkpoint.layout import LOG_FOLDER
from mypt.cli.arguments import LogName, OutDir, Over, Tagged, events_that_begin, log_argument
from mypt.cli.console import busy, console, echo, echo_json, say, work_console
from mypt.cli.verb import Verb, group
from mypt.errors import InputError, UsageError, did_you_mean
from mypt.schema.base import to_json_text
from mypt.schema.settings.output import DEFAULT_OUT_DIR, Mirror, TableEvent
from mypt.signals import Interrupted

if TYPE_CHECKING:
    from mypt.log.run_record import RunRecord

_LAST_EVALS = 5

app = group("logs", "Look at the logs of runs.")


@app.command(cls=Verb, epilog="Example: mypt logs summarize dante")
def summarize(
    ctx: typer.Context,
    logs: Annotated[
        list[str] | None,
        log_argument(f"Paths of logs, or names of models; every log in {LOG_FOLDER.as_posix()} if none is given."),
    ] = None,
    tag: Tagged = None,
    out_dir: OutDir = DEFAULT_OUT_DIR,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a log instead of pages.")] = False,
) -> None:
    """Show how runs went: losses, time, gold, and what deserves a look."""
    from mypt.log.locate import all_logs, find_log
    from mypt.log.summary import summarize as read

    if tag:
        from mypt.order.labels import tagged

        logs = [*(logs or ()), *tagged(out_dir, tag)]
    places = [find_log(word, out_dir) for word in logs or map(str, all_logs())]
    if not places:
        raise InputError(f"There is no log in {LOG_FOLDER.as_posix()}.", "`mypt train` writes one for each model.")
    for place in places:
        with busy(f"Reading {place.path}"):
            summary = read(place.path, place.run_id, place.bundle, place.upto)
        if as_json:
            echo_json(to_json_text(summary))
        else:
            from mypt.cli.render.summary import summary_page

            out = console(ctx)
            out.print(summary_page(summary, out.width))


@app.command(cls=Verb, epilog="Example: mypt logs show dante --event gold_checkpoint")
def show(
    ctx: typer.Context,
    log: LogName,
    event: Annotated[
        list[str] | None,
        typer.Option("--event", help="Only events of this name; can be given again.", autocompletion=events_that_begin),
    ] = None,
    last: Annotated[int | None, typer.Option("--last", help="Only so many from the end.", min=1, max=10**9)] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Also events that a later session superseded, and those of other runs.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON lines instead of a table.")] = False,
    out_dir: OutDir = DEFAULT_OUT_DIR,
) -> None:
    """Show the events of a run."""
    from mypt.log.locate import find_log
    from mypt.log.reader import read_events
    from mypt.log.replay import Replay
    from mypt.schema.files.events import EVENTS
    from mypt.schema.files.log_line import json_line

    for name in event or ():
        if name not in EVENTS:
            what = f"There is no event {name!r}{did_you_mean(name, EVENTS)}"
            raise UsageError(what, f"Known: {', '.join(EVENTS)}.")
    place = find_log(log, out_dir)
    events = read_events(place.path) if every else Replay(place.path, place.run_id, upto=place.upto).live()
    found = (e for e in events if e["event"] in (event or EVENTS))
    chosen: Iterator[dict[str, Any]] = iter(deque(found, last)) if last else found
    if as_json:
        for e in chosen:
            echo_json(json_line(e))
        return
    from mypt.cli.render.events import events_table

    rows = list(chosen)
    console(ctx).print(events_table(rows) if rows else "The log has no such event.")


@app.command(cls=Verb, epilog="Example: mypt logs tail dante")
def tail(
    log: LogName,
    follow: Annotated[bool, typer.Option("--follow/--no-follow", help="Go on until the run ends, or Ctrl-C.")] = True,
    out_dir: OutDir = DEFAULT_OUT_DIR,
) -> None:
    """Print the last evaluations of a run as it printed them, and follow it while it goes on."""
    from mypt.cli.render.events import Follower
    from mypt.log.locate import find_log

    place = find_log(log, out_dir)
    follower = Follower(place, _LAST_EVALS)
    try:
        for line in follower.lines(follow):
            echo(line)
    except Interrupted as interrupted:
        if interrupted.signum == signal.SIGINT:  # Ctrl-C is how a user ends what follows a run
            raise typer.Exit from None
        raise


@app.command(cls=Verb, epilog="Example: mypt logs plot dante --out curves.png")
def plot(
    ctx: typer.Context,
    logs: Annotated[list[str], log_argument("Paths of logs, or names of models; several are drawn together.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="Save a report (.html) or a picture (.png, .svg) instead of drawing in the terminal."
        ),
    ] = None,
    over: Over = "tokens",
    out_dir: OutDir = DEFAULT_OUT_DIR,
) -> None:
    """Draw val loss, of one run train loss and logged steps too; in a file also eval sets, learning rates and marks."""
    from mypt.cli.draw import runs, saving, terminal

    terminal.check() if out is None else saving.check(out)
    with busy("Reading the runs"):
        records, courses = runs.read(logs, out_dir)
    drawn = {course.name for course in courses}
    if empty := [record.label for record in records if record.label not in drawn]:
        raise InputError(f"There is nothing to draw of {', '.join(empty)}.", "Wait for its first evaluation.")
    shown = console(ctx) if out is None else work_console(ctx)
    if out is None:
        typer.echo(terminal.plot(courses, over, shown.width, colour=terminal.coloured(shown)))
    else:
        saving.save(courses, over, out, None, lambda: _page(logs, records, out_dir))
    say(shown, *(f"{run.label}: {sentence}" for run in records for sentence in run.missing))
    if out is not None:
        say(shown, f"Saved {out}.")


def _page(logs: list[str], records: "list[RunRecord]", out_dir: Path) -> dict[str, Any]:
    """What a report says beside its curves: of one run how it went, of several the verdict."""
    from mypt.cli.render.board import summary_page, verdict_page
    from mypt.log.compare import compared
    from mypt.log.locate import find_log
    from mypt.log.summary import summarize as read

    if len(logs) > 1:
        return verdict_page(compared(records))
    place = find_log(logs[0], out_dir)
    return summary_page(read(place.path, place.run_id, place.bundle, place.upto))


@app.command(cls=Verb, epilog="Example: mypt logs mirror dante --to tensorboard")
def mirror(
    ctx: typer.Context,
    log: LogName,
    to: Annotated[Mirror, typer.Option("--to", help="The tracker to send it to.", metavar="|".join(get_args(Mirror)))],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for the tracker's files; by default where it keeps those of live runs."),
    ] = None,
    out_dir: OutDir = DEFAULT_OUT_DIR,
) -> None:
    """Send what a log holds to a tracker, as `mypt train --mirror` sends it while training."""
    from mypt.log.locate import find_log
    from mypt.log.replay import Replay
    from mypt.mirror.afterwards import mirror_events

    place = find_log(log, out_dir)
    replay = Replay(place.path, place.run_id, upto=place.upto)
    name = place.bundle.name if place.bundle else place.path.stem
    with busy(f"Sending to {to}"):
        sent = mirror_events(replay.live(), to, name, out)
    say(work_console(ctx), *replay.unread, f"Sent {sent:,} events to {to}.")


@app.command(cls=Verb, epilog="Example: mypt logs export dante --csv dante.csv")
def export(
    ctx: typer.Context,
    log: LogName,
    csv: Annotated[Path | None, typer.Option("--csv", help="CSV file to write.")] = None,
    parquet: Annotated[
        Path | None, typer.Option("--parquet", help=r"Parquet file to write; needs mypt\[parquet].")
    ] = None,
    tensorboard: Annotated[
        Path | None,
        typer.Option("--tensorboard", help=r"Folder for TensorBoard's event files; needs mypt\[tensorboard]."),
    ] = None,
    event: Annotated[
        TableEvent,
        typer.Option(
            "--event",
            help="Which events: eval for evaluations, step for single steps, evaluation for those of `mypt evaluate`.",
            metavar="EVENT",
        ),
    ] = "eval",
    out_dir: OutDir = DEFAULT_OUT_DIR,
) -> None:
    """Write evaluations or steps of a run, one row each, over a file that is there, or as TensorBoard's curves."""
    from mypt.log.export import event_table, write_csv, write_parquet, write_tensorboard
    from mypt.log.locate import find_log

    if not (csv or parquet or tensorboard):
        raise UsageError("There is nothing to write.", "Give --csv FILE, --parquet FILE or --tensorboard FOLDER.")
    place = find_log(log, out_dir)
    with busy(f"Reading {place.path}"):
        table = event_table(place.path, place.run_id, event, place.upto)
    writers = ((csv, write_csv), (parquet, write_parquet), (tensorboard, write_tensorboard))
    for target, write in writers:
        if target is not None:
            with busy(f"Writing {target}"):
                written = write(table, target)
            what = "steps" if event == "step" else "evaluations"
            say(work_console(ctx), f"Wrote {written:,} {what} to {target}.")
