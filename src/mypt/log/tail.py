"""A log that is still being written, read as it grows."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mypt.log.reader import LineParser, SkippedLines, reading

POLL_S = 0.5
CLOSING_EVENTS = ("training_complete", "training_stopped")


def follow(
    path: Path, offset: int, run_id: str | None, over: Callable[[float], bool], silent_s: float = 0.0
) -> Iterator[dict[str, Any]]:
    """The events of a run from a place in its log on, until the run ends; waits for lines that are not whole yet.

    Args:
        path: the log.
        offset: the byte to begin at, the start of a line.
        run_id: whose events.
        over: told for how many seconds the run has said nothing, whether there is nothing to wait for.
        silent_s: seconds for which it has said nothing yet.
    """
    parser, heard = LineParser(SkippedLines()), time.monotonic() - silent_s
    with reading(path) as log:
        log.seek(offset)
        while True:
            is_over = over(time.monotonic() - heard)  # asked before the last look, so that no last word is missed
            start, line = log.tell(), log.readline()
            if not line.endswith(b"\n"):
                if is_over:
                    return
                log.seek(start)
                time.sleep(POLL_S)
                continue
            event = parser.parse(line)
            if event is None or event.get("run_id") != run_id:
                continue
            if event["event"] != "evaluation":  # the word of another program
                heard = time.monotonic()
            yield event
            if event["event"] in CLOSING_EVENTS:
                return
