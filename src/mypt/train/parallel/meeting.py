"""Where the processes of a run meet before they can talk to each other, and when one of them no longer can: a store."""

import atexit
import os
import pickle
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from mypt.errors import MyptError, ProcessError
from mypt.launch import Launch

LOOK_S = 0.05
"""Between two looks at the store."""
ANSWER_S = 5.0
"""In which every process that lives has noticed that another one does not."""
_BEGUN, _FORM, _LEFT, _ALIVE, _FAULT = "begun", "form", "left", "alive/", "fault"


class Meeting:
    """The store that torchrun keeps for the job; what is in it of an earlier start of the processes is not seen.

    Args:
        launch: of this process.
    """

    def __init__(self, launch: Launch) -> None:
        self.launch = launch
        self._job, _, _ = next(iter(rendezvous("env://")))
        attempt = f"mypt/{launch.restarts}/{os.environ.get('MASTER_PORT')}"
        self._store = PrefixStore(attempt, self._job)
        self._hosts = [launch.place]
        if launch.leads:
            atexit.register(self._tell, _LEFT)

    def begin(self, run_id: str, attempt: int) -> None:
        """Note the first session of a run that the job begins, for its processes that are started anew."""
        if (begun := self.begun()) is None or begun[0] != run_id:
            self._job.set(_BEGUN, f"{run_id} {attempt}")

    def begun(self) -> tuple[str, int] | None:
        """The run that the job had begun before its processes were started anew, and its session; None if none."""
        if not self._job.check([_BEGUN]):
            return None
        run_id, attempt = self._job.get(_BEGUN).decode().split()
        return run_id, int(attempt)

    def call(self, timeout_s: float) -> None:
        """Let the others come, and wait for them to."""
        self._store.set(_FORM, str(timeout_s))
        self._form(timeout_s)

    def come(self) -> bool:
        """Wait for the call; returns whether it came, which it does not where there is nothing to do together."""
        try:
            while not self._store.check([_FORM]):
                if self._store.check([_LEFT]):
                    return False
                time.sleep(LOOK_S)
        except RuntimeError:  # the store is gone, and torchrun with it
            return False
        self._form(float(self._store.get(_FORM)))
        return True

    def _form(self, timeout_s: float) -> None:
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo"
        dist.init_process_group(
            backend, store=PrefixStore("group", self._store), rank=self.launch.rank, world_size=self.launch.size,
            timeout=timedelta(seconds=timeout_s),
        )  # fmt: skip
        places: list[str] = [""] * self.launch.size
        dist.all_gather_object(places, self.launch.place)
        self._hosts = places

    def leave_after_the_first(self) -> None:
        """Wait until the first process has said and saved everything: when another one ends, torchrun ends all."""
        with suppress(RuntimeError):
            while not self._store.check([_LEFT]):
                time.sleep(LOOK_S)

    @contextmanager
    def told(self) -> Iterator[None]:
        """Leave, for those who will miss this process, the error that ends it."""
        try:
            yield
        except BaseException as error:
            place = self.launch.place
            what = f"{place[0].upper()}{place[1:]} ended with {type(error).__name__}: {error}."
            own = error if isinstance(error, MyptError) else ProcessError(what, _TODO)
            with suppress(RuntimeError):
                self._store.set(_FAULT, pickle.dumps(own).hex())
            raise

    def close(self) -> None:
        """End what was formed."""
        if dist.is_initialized():
            dist.destroy_process_group()

    def who_is_lost(self, doing: str) -> tuple[MyptError, bool]:
        """Why what is done together cannot be done any more, and whether this process is the one to say so.

        Args:
            doing: what torch says of it.
        """
        try:
            return self._missing(doing)
        except RuntimeError:  # the store is gone, and torchrun with it
            return ProcessError(f"The processes of the run have lost each other ({doing}).", _TODO), self.launch.leads

    def _missing(self, doing: str) -> tuple[MyptError, bool]:
        self._tell(f"{_ALIVE}{self.launch.rank}")
        began, ranks = time.monotonic(), range(self.launch.size)
        missing = [*ranks]
        while missing and time.monotonic() - began < ANSWER_S:
            if self._store.check([_FAULT]):
                error: MyptError = pickle.loads(bytes.fromhex(self._store.get(_FAULT).decode()))
                return error, self.launch.leads
            missing = [r for r in ranks if not self._store.check([f"{_ALIVE}{r}"])]
            time.sleep(LOOK_S)
        if not missing:
            return ProcessError(f"The processes of the run have lost each other ({doing}).", _TODO), self.launch.leads
        speaks = min(r for r in ranks if r not in missing) == self.launch.rank
        lost = " and ".join(self._hosts[r] for r in missing)
        hangs = "timed out" in doing.lower()
        verb = ("hang" if hangs else "are lost") if len(missing) > 1 else ("hangs" if hangs else "is lost")
        return ProcessError(f"{lost[0].upper()}{lost[1:]} {verb}.", _TODO, [f"The others found: {doing}"]), speaks

    def _tell(self, key: str) -> None:
        with suppress(RuntimeError):
            self._store.set(key, "1")


@contextmanager
def meeting_of(launch: Launch) -> Iterator[Meeting | None]:
    """Where the processes of a job meet while the first of them does its work; None where torchrun started none."""
    if not launch.elastic and launch.size == 1:
        yield None
        return
    meeting = Meeting(launch)
    try:
        with meeting.told():
            yield meeting
    finally:
        meeting.close()


_TODO = (
    "Call again with the same command to go on from the last save; `torchrun --max-restarts N` does so by itself, and "
    "--collective-timeout sets how long the others wait."
)
