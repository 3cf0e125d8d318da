"""Writes bundles in a thread of their own while a GPU trains."""

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

from mypt.checkpoint.manager import CheckpointManager, Content


class AsyncSaver:
    """Writes bundles one after another, in a thread or at once; leaving its context waits for all of them.

    Args:
        beside: write in a thread while training continues.

    Attributes:
        latest_s: seconds that the latest save took; 0 before the first.
    """

    def __init__(self, beside: bool) -> None:
        self.beside = beside
        self.latest_s = 0.0
        self._moved_on = 0.0
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="save")
        self._writing: deque[Future[None]] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._thread.shutdown(wait=True)
        if error is None:
            self.wait()

    def save(self, to: CheckpointManager, content: Content, done: Callable[[], None]) -> None:
        """Write `content`, which must not change from now on, and call `done` once it is on disk.

        Raises:
            StorageError: the disk refused this save, or one before it.
        """

        def write() -> None:
            began = time.perf_counter()
            to.write(content)
            self._moved_on = time.perf_counter()
            self.latest_s = self._moved_on - began
            done()

        if self.beside:
            if not self._unwritten():
                self._moved_on = time.perf_counter()
            self._writing.append(self._thread.submit(write))
        else:
            write()

    def under_way_s(self) -> float:
        """Seconds since the save began that a thread is at; 0 where none is."""
        return time.perf_counter() - self._moved_on if self._unwritten() else 0.0

    def seconds_left(self, each: float) -> float:
        """Seconds until everything is on disk, if a save takes `each`."""
        return max(0.0, self._unwritten() * each - self.under_way_s())

    def wait(self) -> None:
        """Wait until everything is on disk.

        Raises:
            StorageError: the disk refused.
        """
        while self._writing:
            self._writing.popleft().result()

    def _unwritten(self) -> int:
        return sum(not save.done() for save in self._writing)
