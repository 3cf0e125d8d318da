"""How a session ends: at max_iters, or before that by a signal, a time limit, an error, or at a given step."""

import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

from mypt.errors import DivergedError, InputError, MyptError, ProcessError, ShortOfMemoryError
from mypt.schema.files.events import Eval, TrainingComplete
from mypt.schema.files.state import TrainingState
from mypt.signals import hearing

SAME_REQUEST_S = 0.25
"""`timeout` and other wrappers send their signal to the process and to its group: that is one request."""
PASSED_ON_S = 2.0
"""In which torchrun passes on to its processes the Ctrl-C that they have had from the terminal too."""

ENDS: dict[type[MyptError], str] = {
    DivergedError: "diverged", ShortOfMemoryError: "out_of_memory", InputError: "data", ProcessError: "process",
}  # fmt: skip
"""The errors that end a session with an event, and the reason that it names."""


@dataclass
class FitResult:
    """What a training session leaves behind.

    Attributes:
        state: the state at the end, as it was saved.
        evals: every evaluation of this session, in order.
        complete: the closing event of the log; None if the session was stopped before max_iters.
        stopped: why it was stopped; None if it was not.
    """

    state: TrainingState
    evals: list[Eval]
    complete: TrainingComplete | None = None
    stopped: str | None = None


class StopNow(BaseException):
    """Ends a session at its last whole step; no handler of errors takes it, as it is no `Exception`.

    Attributes:
        reason: name of the signal, `max_minutes` or `at_step`.
        place: the process that it comes from, where there are several.
    """

    def __init__(self, reason: str, place: str | None = None) -> None:
        super().__init__(reason, place)
        self.reason = reason
        self.place = place

    def __str__(self) -> str:
        return self.reason


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
        elastic: whether torchrun started this process. A queue that ends a job may signal torchrun and its processes,
            each of which then gets the signal from both: only SIGINT, which a person sends, can be a second request.
        timed: whether the time limit is this process's to watch.
    """

    signum: int | None = None
    deadline: float = math.inf
    at_step: int | None = None
    owing: bool = False
    began: float = field(default_factory=time.perf_counter)
    heard: float = 0.0
    breaks_in: bool = False
    elastic: bool = False
    timed: bool = True

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
        ends = max_minutes is not None and self.timed
        self.deadline = self.began + 60 * (max_minutes or 0.0) - reserved_s if ends else math.inf

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
        if self.elastic:
            return signum != signal.SIGINT or time.perf_counter() - self.heard < PASSED_ON_S
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
