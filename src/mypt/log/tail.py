"""A log that is still being written, read as it grows."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mypt.checkpoint.lock import is_abandoned
from mypt.log.reader import LineParser, PassedOver

POLL_S = 0.5
ENDS = ("training_complete", "training_stopped")


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
    parser = LineParser(PassedOver())
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
            if event["event"] in ENDS:
                return


def whole_bytes(path: Path) -> int:
    """The size of a log up to its last whole line."""
    with path.open("rb") as log:
        size = log.seek(0, 2)
        while size:
            start = max(0, size - 4096)
            log.seek(start)
            if (end := log.read(size - start).rfind(b"\n")) >= 0:
                return start + end + 1
            size = start
    return 0
