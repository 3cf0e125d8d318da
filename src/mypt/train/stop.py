"""Ending a session before max_iters, with everything saved: by a signal, a time limit, or at a given step."""

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType


@dataclass
class Stop:
    """A request to stop, checked after every step.

    Attributes:
        signum: the signal that asked for it; None if none did.
        at_step: stop when this step is done.
        began: when the session's time started to count.
    """

    signum: int | None = None
    at_step: int | None = None
    began: float = field(default_factory=time.perf_counter)

    def reason(self, step: int, max_minutes: float | None, needed_s: float) -> str | None:
        """Why to stop after `step`; None to go on.

        Args:
            step: steps done.
            max_minutes: the limit of the session.
            needed_s: seconds that one more step, with what follows it, and a save would take.
        """
        if self.signum is not None:
            return signal.Signals(self.signum).name
        if max_minutes is not None and time.perf_counter() - self.began + needed_s > 60 * max_minutes:
            return "max_minutes"
        return "at_step" if step == self.at_step else None


@contextmanager
def stop_on_signals(stop: Stop) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM stop after the step that is running; a second one ends the process at once."""

    def handle(signum: int, _: FrameType | None) -> None:
        if stop.signum is not None:
            sys.exit(128 + signum)
        stop.signum = signum

    before = {s: signal.signal(s, handle) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
