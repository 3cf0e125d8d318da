"""The processes of a run: what one has or raises, all have or raise."""

import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

from mypt.errors import MyptError, ProcessError
from mypt.launch import Launch
from mypt.train.stop import StopNow

if TYPE_CHECKING:
    from mypt.train.parallel.meeting import Meeting

T = TypeVar("T")


@dataclass
class Part:
    """What a process does of something that all do; where there are several, what it raises is kept.

    Attributes:
        kept: whether it is kept, until all know of it.
        error: what was raised; None if nothing was.
    """

    kept: bool
    error: BaseException | None = None

    @property
    def failed(self) -> bool:
        """Whether something was raised."""
        return self.error is not None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> bool:
        if not self.kept or not isinstance(error, StopNow | Exception):
            return False
        self.error = self.error or error
        return True


@dataclass
class Group:
    """The processes of a run, or of a part of it.

    Attributes:
        launch: of this process.
        meeting: where they meet; None where there is one process.
        lost: whether they have lost each other; then whoever is left goes on alone, to save and to leave.
        speaks: whether this process is the one to say so.
        failed: whether it is this one that has left the others in what they do together.
    """

    launch: Launch = field(default_factory=Launch)
    meeting: "Meeting | None" = None
    lost: bool = False
    speaks: bool = False
    failed: bool = False

    @property
    def size(self) -> int:
        """How many processes there are."""
        return self.launch.size if self.meeting and not self.lost else 1

    @property
    def rank(self) -> int:
        """The number of this process."""
        return self.launch.rank if self.meeting else 0

    @property
    def leads(self) -> bool:
        """Whether this process decides, writes and shows."""
        return self.rank == 0

    def part(self) -> Part:
        """A context for what this process does of something that all do."""
        return Part(kept=self.size > 1)

    def first(self, work: Callable[[], T]) -> T:
        """Let the first process do something; all have its result, or raise its error."""
        if self.size == 1:
            return work()
        told: list[Any] = [None, None]
        part = self.part()
        if self.leads:
            with part:
                told[0] = work()
            told[1] = part.error if isinstance(part.error, StopNow | MyptError) else self._portable(part.error)
        with self.together():
            dist.broadcast_object_list(told, 0, device=torch.device("cpu"))
        if part.error or told[1]:
            raise part.error or told[1]
        return cast(T, told[0])

    def each(self, work: Callable[[], T]) -> list[T]:
        """Let every process do something; all have all results in the order of the ranks, or raise the same error."""
        if self.size == 1:
            return [work()]
        part, result = self.part(), None
        with part:
            result = work()
        self.settle(part)
        return cast(list[T], self.gathered(result))

    def settle(self, part: Part) -> None:
        """Raise on all what was raised on any; an error before a request to stop, a lower rank before a higher one."""
        if self.size == 1:
            return
        told = [error for error in self.gathered(self._portable(part.error)) if error is not None]
        if told:
            raise next((error for error in told if not isinstance(error, StopNow)), told[0]) from part.error

    def gathered(self, value: object) -> list[Any]:
        """The values of all processes, in the order of the ranks."""
        values: list[Any] = [None] * self.size
        with self.together():
            dist.all_gather_object(values, value)
        return values

    def summed(self, values: Sequence[float]) -> list[float]:
        """The sums over all processes, exact for whole numbers below 2^53."""
        if self.size == 1:
            return [*values]
        return self.sum(torch.tensor(values, dtype=torch.float64)).tolist()

    def sum(self, tensor: Tensor) -> Tensor:
        """A tensor, summed over all processes in place."""
        if self.size > 1:
            with self.together():
                dist.all_reduce(tensor)
        return tensor

    @contextmanager
    def together(self) -> Iterator[None]:
        """Around what all processes do at one time.

        Raises:
            ProcessError: it cannot be done, as one of them is lost, hangs, or has left a message.
        """
        try:
            yield
        except RuntimeError as error:
            assert self.meeting is not None
            self.lost = True
            if hasattr(signal, "pthread_sigmask"):  # not on Windows
                signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # torchrun's, which ends all when one ends
            told, self.speaks = self.meeting.who_is_lost(str(error).splitlines()[0])
            raise told from error

    @contextmanager
    def passing(self) -> Iterator[None]:
        """Around what all do at one time, and which may fail on this process alone: then the others have lost it.

        Raises:
            ProcessError: as `together`, where another process has failed.
        """
        try:
            yield
        except Exception as error:
            if self.lost:
                raise
            if _is_of_the_link(error):
                with self.together():
                    raise
            self.lost = self.failed = True
            if isinstance(error, MyptError) and self.meeting:
                raise cast(MyptError, self._portable(error)) from error
            raise

    def _portable(self, error: BaseException | None) -> BaseException | None:
        """An error as other processes raise it: with the process and the host that it comes from."""
        place = self.launch.place
        if isinstance(error, StopNow):
            return StopNow(error.reason, place)
        what = f"{place[0].upper()}{place[1:]}"
        if isinstance(error, MyptError):
            return type(error)(f"{what}: {error.what}", error.todo, error.details)
        if error is None:
            return None
        text = " ".join(str(error).split()) or "no message"
        todo = "Call again with --debug to see where."
        told = ProcessError(f"{what} failed with {type(error).__name__}: {text}.", todo)
        told.add_note("".join(traceback.format_exception(error)))  # which --debug shows on the first process
        return told


def _is_of_the_link(error: Exception) -> bool:
    """Whether an error says that another process cannot be reached; of gloo it has no type of its own."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))


ALONE = Group()
"""A single process."""
