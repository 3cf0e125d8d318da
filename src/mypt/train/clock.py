"""Where a session's time goes."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from mypt.schema.events import timestamp


@dataclass
class Clock:
    """Seconds of a session since it started: in steps, evaluations and saves, and the latest of each."""

    started_at: str = field(default_factory=timestamp)
    began: float = field(default_factory=time.perf_counter)
    training: float = 0.0
    evaluating: float = 0.0
    saving: float = 0.0
    latest: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def measure(self, what: str) -> Iterator[None]:
        """Add the time of a block to `training`, `evaluating` or `saving`."""
        start = time.perf_counter()
        yield
        self.latest[what] = time.perf_counter() - start
        setattr(self, what, getattr(self, what) + self.latest[what])

    @property
    def elapsed(self) -> float:
        """Seconds since the session started."""
        return time.perf_counter() - self.began
