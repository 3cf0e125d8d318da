"""Runs a training that two processes save in parts, with a fault where either changes the disk. Linux only.

    python -m tests.parallel.kills

Processes are forked, so that torch is loaded once; they meet as under torchrun. What is left where all are killed at
once is what is on the disk, so one run is enough for that: it lays a copy of its folder aside at each point. At the
first and the last point of each kind, and of each process, that process alone is really killed; at those of the second
one the disk is full, too. After each, the same command has to come to the end of a run without fault.
"""

import atexit
import errno
import gc
import hashlib
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import _dynamo
from torch.distributed import TCPStore  # type: ignore[attr-defined]
from torch.distributed.checkpoint import hf_storage, state_dict_loader, state_dict_saver

from mypt.checkpoint import atomic as commit
from mypt.checkpoint.manager import CheckpointManager, weights_sha256
from mypt.checkpoint.manifest import check_file, read_manifest
from mypt.checkpoint.parts.heads import parts_of
from mypt.errors import MyptError
from mypt.launch import MARK, Launch
from mypt.run.parallel.follow import follow
from mypt.run.train import Call, train
from mypt.run.verify import verify_bundle
from mypt.schema.resolve import resolve_settings
from mypt.train import benchmark_step
from mypt.train.loop import Trainer
from mypt.train.observer import Observer
from mypt.train.parallel import meeting, sharded_step
from tests.run.faults import BUNDLES, EVERY, SETTINGS, Disk, Fault, Point, fresh, kill, refuse

LOADED = (_dynamo, hf_storage, state_dict_loader, state_dict_saver, sharded_step)
"""What each process would load when it comes to it."""
CALL = {**SETTINGS, "parallel": "fsdp", "save_in_parts": "on", "n_embd": 12}
PROCESSES = 2


@dataclass
class Faults:
    """What a process meets: at the how many-th change of the disk, and what."""

    rank: int = -1
    at: int = 0
    fault: Fault = field(default=lambda _: None)


def job(faults: Faults, copied_to: Path | None = None) -> list[int]:
    """Call the command in all processes; their exit codes, or minus the signals that ended them."""
    store = TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    pids = []
    for rank in range(PROCESSES):
        pid = os.fork()
        if pid == 0:
            code = _process(rank, store.port, faults, copied_to)
            atexit._run_exitfuncs()  # the first process says that it leaves, as it does when Python ends
            os._exit(code)
        pids.append(pid)
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]


def _process(rank: int, port: int, faults: Faults, copied_to: Path | None) -> int:
    os.environ |= {
        MARK: "job", "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(PROCESSES),
        "LOCAL_WORLD_SIZE": str(PROCESSES), "MASTER_ADDR": "localhost", "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
    }  # fmt: skip
    disk = Disk(faults.at, faults.fault) if faults.rank == rank else Disk()
    if copied_to is not None:
        disk = Disk(EVERY, lambda n: _copy(Path.cwd(), copied_to / f"{rank}.{n}"))
    real = Trainer.run

    def run(trainer: Trainer) -> Any:
        disk.install()
        try:
            return real(trainer)
        finally:
            if copied_to is not None:
                Path(copied_to, f"points{rank}.json").write_text(json.dumps(disk.points), encoding="utf-8")

    setattr(Trainer, "run", run)  # noqa: B010 - a plain assignment would ask the type checker for an excuse
    try:
        if rank:
            follow(Launch.of())
        else:
            train(Call("run", resolve_settings(CALL)), Observer())
    except MyptError:
        return 1
    except SystemExit as end:
        return int(end.code or 0)
    except BaseException as error:
        print(f"process {rank}, unexpected: {type(error).__name__}: {error}", file=sys.stderr)
        return 99
    return 0


def _copy(folder: Path, to: Path) -> None:
    """What is on the disk now; a file that the other process is about to remove may be gone."""
    shutil.copytree(folder, to, ignore_dangling_symlinks=True, copy_function=_copy_if_there)


def _copy_if_there(source: str, target: str) -> None:
    if os.path.exists(source):  # noqa: PTH110 - a Path is made for each file otherwise
        shutil.copy2(source, target)


def results() -> dict[str, str]:
    """Hashes of the weights that a run comes to, whatever files they are in."""
    there = [name for name in BUNDLES if Path("checkpoints", name).exists()]
    return {name: weights_sha256(CheckpointManager(name).load().model) for name in there}


def damage() -> str:
    """Empty if every bundle that is there is whole, and all of it of one step."""
    for bundle in BUNDLES:
        folder = Path("checkpoints") / bundle
        if not folder.exists() and not commit._old(folder).exists():
            continue
        CheckpointManager(bundle).exists()
        for name in read_manifest(folder).files:
            check_file(folder / name)
        if faults := [check for check in verify_bundle(folder, alone=True) if check.ok is False]:
            return f"{bundle}: {faults[0].found}"
    return ""


def going_on(wanted: dict[str, str]) -> str:
    """Empty if the same command comes to the same end as without a fault, and leaves nothing behind."""
    if job(Faults()) != [0] * PROCESSES:
        return "the same call fails afterwards"
    got = results()  # a run that is over makes no fp16 bundle any more
    if {name: got.get(name) for name in wanted if name in got or "fp16" not in name} != got:
        return "the weights differ"
    if not parts_of(Path("checkpoints/run"), "optimizer"):
        return "it is not saved in parts"
    leftover = (".writing", ".old", ".saving", ".owner.json")
    left = [p.name for p in Path("checkpoints").iterdir() if p.name.endswith(leftover)]
    return f"left behind: {left}" if left else ""


def _kind_of_state() -> str:
    """What a run goes on from: the bundles that are there, and what is left of an interrupted save."""
    there = sorted(Path("checkpoints").iterdir()) if Path("checkpoints").exists() else []
    manifests = [path / "manifest.json" for path in there]
    told = [f"{m.parent.name} {m.read_text(encoding='utf-8') if m.exists() else ''}" for m in manifests]
    return hashlib.sha256("".join(told).encode()).hexdigest()


def all_killed_at_once(base: Path, wanted: dict[str, str]) -> tuple[list[str], list[list[Point]], int]:
    """Faults found in the copies that a run lays aside at each point, the points of each process, and states met."""
    fresh(base / "run")
    assert job(Faults(), copied_to=base) == [0] * PROCESSES
    points = [json.loads((base / f"points{rank}.json").read_text(encoding="utf-8")) for rank in range(PROCESSES)]
    found, known = [], set()
    for rank, of_one in enumerate(points):
        for n, (what, path) in enumerate(of_one, start=1):
            os.chdir(base / f"{rank}.{n}")
            why, state = damage(), _kind_of_state()
            if not why and state not in known:
                known.add(state)
                why = going_on(wanted)
            if why:
                found.append(f"all killed at point {n} of process {rank} ({what} {Path(path).name}): {why}")
    return found, points, len(known)


def one_meets(faults: Faults, codes: Callable[[int], bool], base: Path, wanted: dict[str, str]) -> str:
    """Empty if both processes end as they may, and nothing is lost."""
    fresh(base / "run")
    ended = job(faults)
    if not codes(ended[faults.rank]) or ended[1 - faults.rank] == 99:
        return f"they ended with {ended}"
    return damage() or going_on(wanted)


def main() -> dict[str, Any]:
    base = Path(tempfile.mkdtemp())
    benchmark_step.REPEATS, meeting.ANSWER_S = 1, 0.5
    os.fsync = lambda fd: None  # noqa: ARG005 - only a loss of power would tell
    gc.freeze()  # so that no child copies their pages to look through them
    fresh(base / "run")
    assert job(Faults()) == [0] * PROCESSES
    wanted = results()
    found, points, states = all_killed_at_once(base, wanted)
    tried = 0
    for rank, of_one in enumerate(points):
        kinds = [what for what, _ in of_one]
        ends = {1 + kinds.index(what) for what in kinds} | {len(kinds) - kinds[::-1].index(what) for what in kinds}
        met: list[tuple[int, Fault, Callable[[int], bool]]] = [
            *((n, kill, (-signal.SIGKILL).__eq__) for n in sorted(ends)),
            *((n, refuse(errno.ENOSPC), (0, 1).__contains__) for n in sorted(ends) if rank),
        ]
        for n, fault, codes in met:
            tried += 1
            if why := one_meets(Faults(rank, n, fault), codes, base, wanted):
                what = "killed" if fault is kill else "refused"
                found.append(f"process {rank} {what} at point {n} ({of_one[n - 1][0]} {of_one[n - 1][1]}): {why}")
    os.chdir(base.parent)
    shutil.rmtree(base)
    kinds_of = [sorted({what for what, _ in of_one}) for of_one in points]
    return {"points": [*map(len, points)], "states": states, "tried": tried, "kinds": kinds_of, "faults": found}


if __name__ == "__main__":
    print(json.dumps(main()))
