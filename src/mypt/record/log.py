"""The log of a run: JSON events, one a line, appended and flushed, never rewritten."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mypt.record.commit import storage_errors
from mypt.schema.events import EVENTS, Event


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
        """Write one event as one flushed line, after closing a line that a crash left torn.

        Raises:
            StorageError: the disk refused.
        """
        content = {**event.model_dump(mode="json"), "run_id": self.run_id, "attempt": self.attempt}
        line = json.dumps(content, ensure_ascii=False)
        with storage_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab+") as log:
                if log.tell() and not _ends_whole(self.path):
                    log.write(b"\n")
                log.write(line.encode("utf-8") + b"\n")


@dataclass(frozen=True)
class LogContent:
    """What a log holds.

    Attributes:
        events: every event that could be read, in order.
        passed_over: lines that are no events: torn, foreign or binary.
    """

    events: tuple[dict[str, Any], ...]
    passed_over: int

    def attempts(self, run_id: str | None) -> list[int]:
        """The session numbers that a run has used, in the order of its events."""
        found = [e.get("attempt") for e in self.events if e.get("run_id") == run_id]
        return [n for n in found if isinstance(n, int)]

    def live(self, run_id: str | None) -> list[dict[str, Any]]:
        """The events of one run without those that a later session superseded by starting before them.

        A switch of phase belongs to the step after it, so a session that starts right there has written its own.
        """
        kept: list[dict[str, Any]] = []
        for event in self.events:
            if event.get("run_id") != run_id:
                continue
            if event["event"] == "training_start":
                start = event["config"]["start_step"]
                kept = [e for e in kept if e.get("iter", 0) <= start - (e["event"] == "phase_switch")]
            kept.append(event)
        return kept


def read_log(path: Path) -> LogContent:
    """Read a log; blank lines are nothing, and lines that are no events are counted."""
    events: list[dict[str, Any]] = []
    passed_over = 0
    for line in path.read_bytes().splitlines() if path.is_file() else []:
        if not line.strip():
            continue
        try:
            content = json.loads(line)
            EVENTS[content["event"]].model_validate(content)
            events.append(content)
        except (ValueError, KeyError, TypeError):
            passed_over += 1
    return LogContent(tuple(events), passed_over)


def _ends_whole(path: Path) -> bool:
    with path.open("rb") as log:
        log.seek(-1, 2)
        return log.read(1) == b"\n"
