"""Jobs that need nothing of one another, done by processes; each leaves a record, so that none is done twice."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel

from mypt.checkpoint.atomic import commit_file, storage_errors
from mypt.checkpoint.files import write_json
from mypt.checkpoint.layout import TOKENIZER_FILE
from mypt.checkpoint.manifest import file_hash
from mypt.data.prepare.shard_writer import UNFINISHED, Workshop, write_unit
from mypt.data.tokenizer import Tokenizer
from mypt.errors import InputError, MyptError
from mypt.schema.files.tokenizer import TokenizerFile
from mypt.schema.settings.prepare import HashRecord, PreparePlan

if TYPE_CHECKING:
    from multiprocessing.sharedctypes import Synchronized

PLAN_FILE = "plan.json"
TICK_S = 0.25
"""Time between two looks at how far the workers are."""

_shop: Workshop | None = None
"""The worker's own, in a worker process."""


@dataclass(frozen=True)
class Job:
    """A unit to tokenize or a source to hash, by its place in the plan."""

    kind: Literal["unit", "source"]
    number: int

    def record(self, out: Path) -> Path:
        """Where its record is, once it is done."""
        return out / UNFINISHED / (f"{self.number:05}.json" if self.kind == "unit" else f"source_{self.number:05}.json")


def run_jobs(
    out: Path, jobs: Sequence[Job], workers: int, finished: Callable[[Job], None], advanced: Callable[[int], None]
) -> None:
    """Do all jobs; one worker is this process itself.

    Args:
        out: the dataset's folder, with plan and tokenizer in it.
        jobs: what is to be done.
        workers: how many at once.
        finished: told of each job that is done.
        advanced: told now and then how many characters are done, all workers together.

    Raises:
        MyptError: the first that a job raised; the others are given up.
    """
    if workers == 1:
        done = 0

        def advance(characters: int) -> None:
            nonlocal done
            done += characters
            advanced(done)

        shop = open_shop(out, advance)
        for job in jobs:
            _do(shop, job)
            finished(job)
        return
    before = set(multiprocessing.active_children())
    spawn = multiprocessing.get_context("spawn")
    count = spawn.Value("q", 0)
    with ProcessPoolExecutor(workers, mp_context=spawn, initializer=_enter, initargs=(out, count)) as pool:
        try:
            futures = {pool.submit(_work, job): job for job in jobs}
            left = set(futures)
            while left:
                done_now, left = wait(left, TICK_S, FIRST_COMPLETED)
                for future in done_now:
                    future.result()
                    finished(futures[future])
                advanced(count.value)
        except BaseException as error:
            for child in set(multiprocessing.active_children()) - before:
                child.kill()
            pool.shutdown(wait=False, cancel_futures=True)
            if isinstance(error, BrokenProcessPool):
                raise MyptError(
                    "A worker process was ended from outside, perhaps for lack of memory.",
                    "Call again, with fewer --workers if it happens again; what is finished is kept.",
                ) from error
            raise


def open_shop(out: Path, advance: Callable[[int], None] = lambda _: None) -> Workshop:
    """Plan and tokenizer as they are on disk, so that all workers have the same."""
    plan = PreparePlan.model_validate_json((out / UNFINISHED / PLAN_FILE).read_bytes())
    return Workshop(
        out, plan, Tokenizer(TokenizerFile.model_validate_json((out / TOKENIZER_FILE).read_bytes())), advance
    )


def commit_json(out: Path, target: Path, content: BaseModel) -> None:
    """Write a record that is there whole or not at all."""
    aside = out / UNFINISHED / f"{target.name}.writing"
    write_json(aside, content)
    commit_file(aside, target)


def _enter(out: Path, count: "Synchronized[int]") -> None:
    """A worker begins: an interrupt is for the process that called, and without that one nothing is left to do."""
    global _shop
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()

    def advance(characters: int) -> None:
        with count.get_lock():
            count.value += characters

    _shop = open_shop(out, advance)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        with contextlib.suppress(OSError):
            parent.join()
        os._exit(1)


def _work(job: Job) -> None:
    assert _shop is not None
    _do(_shop, job)


def _do(shop: Workshop, job: Job) -> None:
    with storage_errors(shop.out, "--out"):
        record = write_unit(shop, job.number) if job.kind == "unit" else _hash(Path(shop.plan.sources[job.number].path))
        commit_json(shop.out, job.record(shop.out), record)


def _hash(path: Path) -> HashRecord:
    try:
        return HashRecord(sha256=file_hash(path).sha256)
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror or error}.", "Check that it is there and may be read."
        ) from error
