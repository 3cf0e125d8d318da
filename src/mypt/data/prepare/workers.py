"""Runs independent jobs in worker processes; each finished job leaves a record and is not repeated."""

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
from mypt.checkpoint.manifest import file_hash
from mypt.data.prepare.shard_writer import WorkerContext, write_unit
from mypt.data.shards import read_dataset_file, read_dataset_tokenizer
from mypt.data.text import input_errors
from mypt.data.tokenizer import Tokenizer
from mypt.errors import MyptError
from mypt.schema.files.dataset import UNFINISHED
from mypt.schema.files.prepare_plan import HashRecord, PreparePlan, UnitRecord
from mypt.signals import STOP_SIGNALS

if TYPE_CHECKING:
    from multiprocessing.sharedctypes import Synchronized

PLAN_FILE = "plan.json"
POLL_S = 0.25
"""Interval at which progress of the workers is reported."""

_context: WorkerContext | None = None
"""Set in worker processes."""


@dataclass(frozen=True)
class Job:
    """A unit to tokenize or a source to hash, by its index in the plan."""

    kind: Literal["unit", "source"]
    number: int

    def record_path(self, out: Path) -> Path:
        """Path of its record, which exists once the job is done."""
        return out / UNFINISHED / (f"{self.number:05}.json" if self.kind == "unit" else f"source_{self.number:05}.json")


def run_jobs(
    out: Path, jobs: Sequence[Job], workers: int, on_done: Callable[[Job], None], on_progress: Callable[[int], None]
) -> None:
    """Run all jobs, in this process if there is one worker.

    Args:
        out: folder of the dataset, with plan and tokenizer.
        jobs: jobs to run.
        workers: number of worker processes.
        on_done: called with each finished job.
        on_progress: called at intervals with the number of characters done by all workers.

    Raises:
        MyptError: the first error of a job; the remaining jobs are canceled.
    """
    if workers == 1:
        total = 0

        def add(characters: int) -> None:
            nonlocal total
            total += characters
            on_progress(total)

        context = _load_context(out, add)
        for job in jobs:
            _run(context, job)
            on_done(job)
        return
    before = set(multiprocessing.active_children())
    spawn = multiprocessing.get_context("spawn")
    count = spawn.Value("q", 0)
    with ProcessPoolExecutor(workers, mp_context=spawn, initializer=_start_worker, initargs=(out, count)) as pool:
        try:
            futures = {pool.submit(_run_in_worker, job): job for job in jobs}
            pending = set(futures)
            while pending:
                done, pending = wait(pending, POLL_S, FIRST_COMPLETED)
                for future in done:
                    future.result()
                    on_done(futures[future])
                on_progress(count.value)
        except BaseException as error:
            for child in set(multiprocessing.active_children()) - before:
                child.kill()
            pool.shutdown(wait=False, cancel_futures=True)
            if isinstance(error, BrokenProcessPool):
                raise MyptError(
                    "A worker process was killed, perhaps because memory ran out.",
                    "Call again, with fewer --workers if it happens again; finished work is kept.",
                ) from error
            raise


def read_plan(out: Path) -> PreparePlan:
    """Read plan.json of an unfinished dataset; raises as `read_dataset_file`."""
    return read_dataset_file(out / UNFINISHED / PLAN_FILE, PreparePlan)


def read_unit_record(out: Path, number: int) -> UnitRecord:
    """Read the record of a finished unit; raises as `read_dataset_file`."""
    return read_dataset_file(Job("unit", number).record_path(out), UnitRecord)


def commit_json(out: Path, target: Path, content: BaseModel) -> None:
    """Write a JSON file of the dataset atomically."""
    temporary = out / UNFINISHED / f"{target.name}.writing"
    temporary.unlink(missing_ok=True)
    write_json(temporary, content)
    commit_file(temporary, target)


def _load_context(out: Path, on_progress: Callable[[int], None]) -> WorkerContext:
    return WorkerContext(out, read_plan(out), Tokenizer(read_dataset_tokenizer(out)), on_progress)


def _start_worker(out: Path, count: "Synchronized[int]") -> None:
    """Initialize a worker process: it leaves signals to its parent and exits when the parent dies."""
    global _context
    for signum in STOP_SIGNALS:
        signal.signal(signum, signal.SIG_IGN)
    threading.Thread(target=_exit_with_parent, daemon=True).start()

    def add(characters: int) -> None:
        with count.get_lock():
            count.value += characters

    _context = _load_context(out, add)


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        with contextlib.suppress(OSError):
            parent.join()
        os._exit(1)


def _run_in_worker(job: Job) -> None:
    assert _context is not None
    _run(_context, job)


def _run(context: WorkerContext, job: Job) -> None:
    with storage_errors(context.out, "--out"):
        if job.kind == "unit":
            record: UnitRecord | HashRecord = write_unit(context, job.number)
        else:
            path = context.plan.sources[job.number].path
            with input_errors(path):
                record = HashRecord(sha256=file_hash(Path(path)).sha256)
        commit_json(context.out, job.record_path(context.out), record)
