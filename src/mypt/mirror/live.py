"""Mirrors of a run that trains: each tracker in a thread of its own, and none can delay or end the run."""

import time
from collections.abc import Callable, Iterable, Mapping
from queue import Full, Queue
from threading import Thread
from typing import Any

from mypt.mirror.points import point_of
from mypt.mirror.trackers import TRACKERS, TrackedRun, check_installed, fault_of
from mypt.schema.settings.output import Mirror

WAITING = 10_000
"""Events that may wait for a tracker; one that is further behind is given up."""
CLOSE_S = 10.0
"""Seconds that all trackers together get to finish at the end of a run."""


class Mirrors:
    """The trackers of a run.

    Args:
        kinds: which.
        name: of the model.
        notice: told once of each tracker that fails; called in the thread that sends.

    Raises:
        UsageError: one is not installed.
    """

    def __init__(self, kinds: Iterable[Mirror], name: str, notice: Callable[[str], None]) -> None:
        self._kinds: tuple[Mirror, ...] = tuple(dict.fromkeys(kinds))
        check_installed(self._kinds)
        self._name, self._notice = name, notice
        self._feeds: list[_Feed] | None = None

    def send(self, event: Mapping[str, Any]) -> None:
        """Hand on an event, as the log has it; the first names the run."""
        if self._feeds is None:
            run = TrackedRun(self._name, event.get("run_id"))
            self._feeds = [_Feed(kind, run) for kind in self._kinds]
        for feed in self._feeds:
            feed.send(event)
        self._tell()

    def close(self, within: float = CLOSE_S) -> None:
        """Let the trackers finish, for a while: what hangs is left."""
        deadline = time.monotonic() + within
        for feed in self._feeds or ():
            feed.send(None)
        for feed in self._feeds or ():
            feed.finish(max(0.0, deadline - time.monotonic()))
        self._tell()

    def _tell(self) -> None:
        for feed in self._feeds or ():
            if feed.fault is not None and not feed.told:
                feed.told = True
                self._notice(f"The mirror in {feed.kind} ended: {feed.fault} The run and its log are untouched.")


class _Feed:
    """One tracker, fed from a queue; the thread does not keep the program alive."""

    def __init__(self, kind: Mirror, run: TrackedRun) -> None:
        self.kind, self.run = kind, run
        self.fault: str | None = None
        self.told = False
        self._waiting: Queue[Mapping[str, Any] | None] = Queue(WAITING)
        self._thread = Thread(target=self._work, name=f"mirror-{kind}", daemon=True)
        self._thread.start()

    def send(self, event: Mapping[str, Any] | None) -> None:
        if self.fault is None:
            try:
                self._waiting.put_nowait(event)
            except Full:
                self.fault = f"it is {WAITING:,} events behind."

    def finish(self, within: float) -> None:
        if self.fault is None:
            self._thread.join(within)
            if self._thread.is_alive():
                self.fault = "it did not finish in time, so its end may be missing there."

    def _work(self) -> None:
        try:
            tracker = None
            while (event := self._waiting.get()) is not None and self.fault is None:
                point = point_of(event)
                tracker = tracker or TRACKERS[self.kind](self.run, dict(point.config))
                tracker.add(point)
            if tracker is not None:
                tracker.close()
        except BaseException as error:  # a tracker may exit, which would end this thread without a word
            self.fault = f"{fault_of(error)}."
