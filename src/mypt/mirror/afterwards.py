"""Sends what a log holds to a tracker, in one go."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mypt.errors import ExportError, MyptError
from mypt.mirror.points import point_of
from mypt.mirror.trackers import TRACKERS, TrackedRun, Tracker, check_installed, fault_of
from mypt.schema.settings.output import Mirror


def mirror_events(events: Iterable[Mapping[str, Any]], kind: Mirror, name: str, folder: Path | None) -> int:
    """Send events of one run to a tracker that has none of it yet; the number of them.

    Args:
        events: as the lines of the log have them; the first names the run.
        kind: the tracker.
        name: of the model.
        folder: where the tracker keeps its files; None leaves that to it.

    Raises:
        UsageError: the tracker is not installed, or its folder has files of another run.
        ExportError: the tracker failed.
    """
    check_installed([kind])
    tracker: Tracker | None = None
    sent = 0
    try:
        for event in events:
            point = point_of(event)
            if tracker is None:
                run = TrackedRun(name, event.get("run_id"), live=False, folder=folder)
                tracker = TRACKERS[kind](run, dict(point.config))
            tracker.add(point)
            sent += 1
        if tracker is not None:
            tracker.close()
    except MyptError:
        raise
    except (Exception, SystemExit) as error:  # a tracker may exit
        raise ExportError(
            f"{kind} failed after {sent:,} events: {fault_of(error)}.", "Mend what it names; the log is as it was."
        ) from error
    return sent
