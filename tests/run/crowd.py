"""Very many processes of a run in one: each is a thread, and what stands for torch.distributed passes on among them."""

import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from mypt.launch import Launch
from mypt.run.parallel import follow, share
from mypt.train.parallel import group, reduce
from mypt.train.parallel.group import Group
from mypt.train.parallel.meeting import Meeting

Given = list[Any]
"""What each process gives, by its number."""


class Crowd:
    """Stands for torch.distributed, and for the meeting of processes; torch's own generator is common to all of them.

    Args:
        size: how many there are.

    Attributes:
        wrote: the files that each of them opened to write to.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.wrote: dict[int, set[str]] = {}
        self._thread = threading.local()
        self._given: Given = [None] * size
        self._work: Callable[[Given], Any] = list
        self._together: Any = None
        self._barrier = threading.Barrier(size, self._do_work, timeout=300)

    def run(self, first: Callable[[], object], patch: pytest.MonkeyPatch) -> None:
        """Let the first process do something that the others take part in."""
        patch.setattr(Launch, "of", classmethod(lambda *_: Launch(size=self.size)))
        patch.setattr("mypt.run.train.meeting_of", lambda _: nullcontext(self))
        for module in (group, share, reduce):
            patch.setattr(module, "dist", self)
        with ThreadPoolExecutor(self.size) as threads, self._watched():
            for done in [threads.submit(self._play, rank, first) for rank in range(self.size)]:
                done.result()

    def _play(self, rank: int, first: Callable[[], object]) -> None:
        self._thread.rank = rank
        try:
            if rank == 0:
                first()
            else:
                follow._join(Group(Launch(rank=rank, size=self.size), cast(Meeting, self)))
        except BaseException:
            self._barrier.abort()  # the others wait no more
            raise

    @contextmanager
    def _watched(self) -> Iterator[None]:
        watching = True

        def note(event: str, args: tuple[Any, ...]) -> None:
            if watching and event == "open" and args[1] and set(args[1]) & set("wax+"):
                self.wrote.setdefault(self._thread.rank, set()).add(str(args[0]))

        sys.addaudithook(note)
        try:
            yield
        finally:
            watching = False

    def _meet(self, value: object, work: Callable[[Given], Any]) -> Any:
        """Give something, and get what one of all makes of what all give."""
        self._given[self._thread.rank], self._work = value, work
        self._barrier.wait()
        together = self._together
        self._barrier.wait()
        return together

    def _do_work(self) -> None:
        self._together = self._work(self._given)

    def broadcast_object_list(self, values: Given, source: int, **_: object) -> None:
        values[:] = self._meet([*values], lambda given: given[source])

    def all_gather_object(self, values: Given, value: object) -> None:
        values[:] = self._meet(value, list)

    def broadcast(self, tensor: Tensor, source: int) -> None:
        tensor.data.copy_(self._meet(tensor.detach().clone(), lambda given: given[source]))

    def all_reduce(self, tensor: Tensor) -> None:
        tensor.copy_(self._meet(tensor.clone(), lambda given: torch.stack(given).sum(dim=0)))

    def all_to_all_single(self, output: Tensor, tensor: Tensor) -> None:
        parts = self._meet(
            tensor, lambda given: torch.stack(given).view(self.size, self.size, -1)
        )  # by sender, receiver
        output.view(self.size, -1).copy_(parts[:, self._thread.rank])

    def all_gather_into_tensor(self, output: Tensor, tensor: Tensor) -> None:
        output.copy_(self._meet(tensor, torch.cat))

    def call(self, timeout_s: float) -> None: ...

    def begun(self) -> None: ...

    def begin(self, run_id: str, attempt: int) -> None: ...
