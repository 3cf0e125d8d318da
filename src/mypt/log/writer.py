"""Writes the log of a run: JSON events, one a line, appended and flushed, never rewritten."""

import os
from pathlib import Path

from mypt.checkpoint.atomic import storage_errors
from mypt.schema.files.events import Event, json_line


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

    def append(self, event: Event) -> None:
        """Write one event as one line, flushed to the disk, after closing a line that a crash left torn.

        Raises:
            StorageError: the disk refused.
        """
        line = json_line({**event.model_dump(), "run_id": self.run_id, "attempt": self.attempt}).encode("utf-8")
        with storage_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab+") as log:
                if log.tell():
                    log.seek(-1, os.SEEK_END)
                    line = line if log.read() == b"\n" else b"\n" + line
                log.write(line + b"\n")
                log.flush()
                os.fsync(log.fileno())
