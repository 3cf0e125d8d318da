"""A log that is still being written, read as it grows."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mypt.checkpoint.lock import is_abandoned
from mypt.log.reader import LineParser, SkippedLines

POLL_S = 0.5
CLOSING_EVENTS = ("training_complete", "training_stopped")


def follow(
    path: Path, offset: int, run_id: str | None, bundle: Path | None = None, poll_s: float = POLL_S
) -> Iterator[dict[str, Any]]:
    """The events of a run from a place in its log on, until the run ends; waits for lines that are not whole yet.

    Args:
        path: the log.
        offset: the byte to begin at, the start of a line.
        run_id: whose events.
        bundle: what the run writes; once no process does any more, there is nothing to wait for.
        poll_s: how long to wait for more.
    """
    parser = LineParser(SkippedLines())
    with path.open("rb") as log:
        log.seek(offset)
        while True:
            over = is_abandoned(bundle)  # asked before the last look, so that no last word is missed
            start, line = log.tell(), log.readline()
            if not line.endswith(b"\n"):
                if over:
                    return
                log.seek(start)
                time.sleep(poll_s)
                continue
            event = parser.parse(line)
            if event is None or event.get("run_id") != run_id:
                continue
            yield event
            if event["event"] in CLOSING_EVENTS:
                return
