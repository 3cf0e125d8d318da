"""Ending a session before max_iters, with everything saved: by a signal, a time limit, or at a given step."""

import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

from mypt.signals import hearing

SAME_REQUEST_S = 0.25
"""`timeout` and other wrappers send their signal to the process and to its group: that is one request."""


class StopNow(BaseException):
    """Ends a session at its last whole step; no handler of errors takes it, as it is no `Exception`.

    Attributes:
        reason: name of the signal, `max_minutes` or `at_step`.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass
class Stop:
    """A request to stop, looked at between the parts of everything that takes long.

    Attributes:
        signum: the signal that asked for it; None if none did.
        deadline: by `time.perf_counter`; what is not done by then is broken off.
        at_step: stop when this step is done.
        owing: leave an evaluation that is due at that step to the session that goes on from there.
        began: when the session's time started to count.
        heard: when the signal came.
        breaks_in: whether a signal raises from wherever it is caught, without waiting for a look.
    """

    signum: int | None = None
    deadline: float = math.inf
    at_step: int | None = None
    owing: bool = False
    began: float = field(default_factory=time.perf_counter)
    heard: float = 0.0
    breaks_in: bool = False

    def look(self) -> None:
        """Go on, unless a signal or the deadline ends the session.

        Raises:
            StopNow: one of them does.
        """
        self.look_ahead(0.0)

    def look_ahead(self, seconds: float) -> None:
        """Like `look`, before something that takes about so long."""
        if self.signum is not None:
            raise StopNow(signal.Signals(self.signum).name)
        if time.perf_counter() + seconds > self.deadline:
            raise StopNow("max_minutes")

    def limit(self, max_minutes: float | None, reserved_s: float) -> None:
        """Set the deadline so that, of a limit, enough is left for what comes after it."""
        self.deadline = math.inf if max_minutes is None else self.began + 60 * max_minutes - reserved_s

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """For work that has no looks in it, such as compiling, and that may be broken off anywhere."""
        self.look()
        self.breaks_in = True
        try:
            yield
        finally:
            self.breaks_in = False

    def hear(self, signum: int) -> None:
        """Take the first signal."""
        self.signum, self.heard = signum, time.perf_counter()
        if self.breaks_in:
            self.look()

    def repeats(self, signum: int) -> bool:
        """Whether a signal that comes after the first is no second request: XCPU comes again with each second."""
        return time.perf_counter() - self.heard < SAME_REQUEST_S or signal.Signals(signum).name == "SIGXCPU"


@contextmanager
def stop_on_signals(stop: Stop) -> Iterator[None]:
    """Let the first signal ask for a stop; a second one does what it does without this."""

    def handle(signum: int, _: FrameType | None) -> None:
        if stop.signum is None:
            stop.hear(signum)
        elif not stop.repeats(signum):
            signal.signal(signum, before[signum])
            signal.raise_signal(signum)

    with hearing(handle) as before:
        yield
