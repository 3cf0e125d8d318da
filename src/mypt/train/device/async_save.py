"""Bundles written by a thread of their own, so that a GPU goes on training meanwhile."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

from mypt.checkpoint.manager import CheckpointManager, Content

WAITING = 2
"""Saves that may wait for the disk: those of one evaluation, gold and the run's own. Each holds its tensors in RAM."""


class AsyncSaver:
    """Writes bundles one after another, beside training or in its turn; when its context ends, all are written.

    Args:
        beside: whether training goes on while a bundle is written.
    """

    def __init__(self, beside: bool) -> None:
        self.beside = beside
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="save")
        self._writing: deque[Future[None]] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._thread.shutdown(wait=True)
        if error is None:
            self.wait()

    def save(self, to: CheckpointManager, content: Content, done: Callable[[], None]) -> None:
        """Write `content`, which nobody changes from now on, and call `done` when it is on the disk.

        Raises:
            StorageError: the disk refused this save, or one before it.
        """

        def write() -> None:
            to.write(content)
            done()

        if self.beside:
            self._wait_until(WAITING - 1)
            self._writing.append(self._thread.submit(write))
        else:
            write()

    def wait(self) -> None:
        """Return when everything is on the disk.

        Raises:
            StorageError: the disk refused.
        """
        self._wait_until(0)

    def _wait_until(self, left: int) -> None:
        while len(self._writing) > left:
            self._writing.popleft().result()
