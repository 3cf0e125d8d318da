"""Writes the log of a run: JSON events, one a line, appended and flushed, never rewritten."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mypt.checkpoint.atomic import storage_errors
from mypt.log.replay import Branch, Replay
from mypt.schema.files.log_line import Event, json_line


class RunLog:
    """Appends events to a run's log.

    Args:
        path: the log; its folder is made when the first event is written.
        run_id: names the run in each of its lines.
        attempt: number of the session, from 1.
    """

    def __init__(self, path: Path, run_id: str | None = None, attempt: int = 1) -> None:
        self.path = path
        self.run_id = run_id
        self.attempt = attempt

    def append(self, event: Event) -> dict[str, Any]:
        """Write one event as one line, flushed to the disk, after closing a line that a crash left torn.

        Returns:
            What the line holds.

        Raises:
            StorageError: the disk refused.
        """
        content = {**event.model_dump(), "run_id": self.run_id, "attempt": self.attempt}
        self.write([json_line(content)])
        return content

    def write(self, lines: Iterable[str]) -> None:
        """Write whole lines, flushed to the disk once; raises as `append`."""
        with storage_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab+") as log:
                if log.tell():
                    log.seek(-1, os.SEEK_END)
                    if log.read() != b"\n":
                        log.write(b"\n")
                for line in lines:
                    log.write(line.encode("utf-8") + b"\n")
                log.flush()
                os.fsync(log.fileno())


def copy_branch(source: Path, run_id: str | None, upto: Branch, target: RunLog) -> None:
    """Begin the log of a new run with the events that led to the bundle that it goes on from, under its own id.

    Args:
        source: the log that has them.
        run_id: whose they are there.
        upto: where the new run leaves that one.
        target: the log of the new run.

    Raises:
        InputError: the log cannot be read, or has no event of that run.
        StorageError: the disk refused.
    """
    events = Replay(source, run_id, upto=upto).events()
    target.write(json_line({**event, "run_id": target.run_id}) for event, _ in events)
