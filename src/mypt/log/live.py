"""The live events of a run, streamed: without those that a later session superseded by starting before them."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from math import inf
from pathlib import Path
from typing import Any

from mypt.errors import InputError
from mypt.log.reader import PassedOver, events


@dataclass(frozen=True)
class Branch:
    """What decides which events of a run are live.

    Attributes:
        run_id: of the run.
        limits: after each of its starts, counted from none, the last step that no later session superseded.
    """

    run_id: str | None
    limits: tuple[float, ...]


def find_branch(path: Path, run_id: str | None = None) -> Branch:
    """Read the starts of a run, of the last one that started where none is named.

    Raises:
        InputError: there is no log, or no event of the run in it.
    """
    starts: dict[str | None, list[float]] = {}
    latest: str | None = run_id
    for event in events(path):
        run = event.get("run_id")
        is_start = event["event"] == "training_start"
        if run_id is None and (is_start or not starts):
            latest = run
        of_run = starts.setdefault(run, [])
        if is_start:
            of_run.append(event["config"]["start_step"])
    if latest not in starts:
        raise nothing_found(path, run_id)
    limits = accumulate(reversed([*starts[latest], inf]), min)
    return Branch(latest, tuple(limits)[::-1])


def live_events(path: Path, branch: Branch, passed: PassedOver | None = None) -> Iterator[dict[str, Any]]:
    """The events of a run that no later session superseded by starting before them, in order.

    A switch of phase belongs to the step after it, so a session that starts right there has written its own.
    """
    started = 0
    for event in events(path, passed):
        if event.get("run_id") != branch.run_id:
            continue
        started += event["event"] == "training_start"
        if started >= len(branch.limits):  # it was appended since the branch was read
            return
        if event.get("iter", 0) <= branch.limits[started] - (event["event"] == "phase_switch"):
            yield event


def live_evals(path: Path, run_id: str | None) -> Iterator[dict[str, Any]]:
    """The live evaluations of a run.

    Raises:
        InputError: the log cannot be read, or has no event of the run.
    """
    return (e for e in live_events(path, find_branch(path, run_id)) if e["event"] == "eval")


def nothing_found(path: Path, run_id: str | None) -> InputError:
    """The error for a log without an event of the run."""
    which = "event" if run_id is None else f"event of the run {run_id}"
    return InputError(f"There is no {which} in {path}.", "Give a log that `mypt train` or `mypt resume` has written.")
