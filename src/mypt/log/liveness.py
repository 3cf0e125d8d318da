"""Whether a run goes on: the lock on its bundle tells, and where none does, the silence of its log."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from mypt.checkpoint.lock import holder

PATIENCE_S = 600.0
PATIENT_GAPS = 5.0
"""A log that no lock tells of is silent for good after so long, or after so many of its longest gaps."""


@dataclass(frozen=True)
class Writer:
    """Whether a process writes a run.

    Attributes:
        alive: True if one holds the lock on the run's bundle, False if none does, None where that cannot be told: it
            was another host's, whose locks may not show here, or there is no bundle.
        host: the other host; None if that is not it.
    """

    alive: bool | None
    host: str | None = None


def writer_of(bundle: Path | None) -> Writer:
    """Who writes a run, by the lock on its bundle; a lock on its gold or fp16 bundle alone is not the run's."""
    if bundle is None:
        return Writer(None)
    found = holder(bundle)
    if found is None or found.name not in ("", bundle.name):
        return Writer(False if bundle.exists() else None)
    return Writer(found.alive, found.host if found.alive is None else None)


def seconds_since(timestamp: str) -> float | None:
    """How long a moment of the log is ago; 0 if it lies ahead, as between clocks, None if it is no time."""
    try:
        then = datetime.fromisoformat(timestamp)
    except ValueError:
        return None
    return max(0.0, (datetime.now(then.tzinfo) - then).total_seconds())
