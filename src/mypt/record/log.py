"""The log of a run: JSON events, one a line, appended and flushed, never rewritten."""

import json
from pathlib import Path

from mypt.record.commit import storage_errors
from mypt.schema.events import Event


class RunLog:
    """Appends events to a run's log.

    Args:
        path: the log; its folder is made when the first event is written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, event: Event) -> None:
        """Write one event as one flushed line, after closing a line that a crash left torn.

        Raises:
            StorageError: the disk refused.
        """
        line = json.dumps(event.model_dump(mode="json"), ensure_ascii=False)
        with storage_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab+") as log:
                if log.tell() and not _ends_whole(self.path):
                    log.write(b"\n")
                log.write(line.encode("utf-8") + b"\n")


def _ends_whole(path: Path) -> bool:
    with path.open("rb") as log:
        log.seek(-1, 2)
        return log.read(1) == b"\n"
