"""Runs a training again and again, with a fault at each point where it changes the disk. Linux only.

    python -m tests.run.faults kill|refuse PART PARTS

Each run is a forked child, so that torch is loaded once. A child trains, meets its fault at point n, and ends. A second
child then checks the bundle, calls the same command again, and compares the result with that of a run without fault.

What a kill leaves is what is on the disk, so one run is enough for most kills: it lays a copy of its folder aside at
each point. At the first and the last point of every kind a run is really killed.
"""

import errno
import gc
import hashlib
import io
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from mypt.checkpoint import atomic as commit
from mypt.checkpoint.manager import CheckpointManager
from mypt.checkpoint.manifest import check_file, read_manifest
from mypt.errors import StorageError
from mypt.run.train import Call, train
from mypt.schema.resolve import resolve_settings
from mypt.train import benchmark_step
from mypt.train.loop import Trainer
from mypt.train.observer import Observer

SETTINGS = {
    "input_file": ["input.txt"], "tokenization": "char", "n_layer": 1, "n_head": 1, "n_embd": 8, "block_size": 8,
    "batch_size": 2, "eval_iters": 1, "max_iters": 6, "eval_interval": 3, "device": "cpu", "grad_accum_steps": 2,
    "use_amp": False,
}  # fmt: skip
BUNDLES = ("run", "run_gold", "run_fp16")
EVERY = -1
Point = tuple[str, str]
Half = Callable[[], AbstractContextManager[None]]
Fault = Callable[[int], object]
"""What happens at a point, by its number."""


class Disk:
    """Stands between a run and the disk: notes every change, and calls `fault` before the n-th or each takes effect."""

    def __init__(self, at: int = 0, fault: Fault = lambda _: None) -> None:
        self.at = at
        self.fault = fault
        self.points: list[Point] = []

    def change(self, what: str, path: object, half: Half = nullcontext) -> None:
        """One change is about to happen; `half` does a part of it, which is undone where its context is left."""
        self.points.append((what, os.fspath(path)))  # type: ignore[call-overload]
        if self.at in (len(self.points), EVERY):
            with half():
                self.fault(len(self.points))

    def install(self) -> None:
        """Put this disk under everything that a save uses."""
        real_open, real_rename, real_mkdir, real_exchange = Path.open, Path.rename, Path.mkdir, commit._exchange
        real_fsync, real_unlink, real_rmdir = os.fsync, os.unlink, os.rmdir

        def open_(
            path: Path, mode: str = "r", buffering: int = -1, encoding: str | None = None,
            errors: str | None = None, newline: str | None = None,
        ) -> Any:  # fmt: skip
            if not set(mode) & set("wax+"):
                return real_open(path, mode, buffering, encoding=encoding, errors=errors, newline=newline)
            raw = _RawFile(self, path, "".join(c for c in mode if c not in "bt"))
            file = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
            return file if "b" in mode else io.TextIOWrapper(file, encoding=encoding, errors=errors, newline=newline)

        def fsync(fd: int) -> None:
            self.change("flush", Path(f"/proc/self/fd/{fd}").readlink())
            real_fsync(fd)

        def named(what: str, real: Callable[..., Any]) -> Callable[..., Any]:
            def call(path: Any, *args: Any, **kwargs: Any) -> Any:
                self.change(what, path)
                return real(path, *args, **kwargs)

            return call

        Path.open, os.fsync = open_, fsync  # type: ignore[assignment, method-assign]
        Path.rename, Path.mkdir = named("rename", real_rename), named("mkdir", real_mkdir)  # type: ignore[method-assign]
        commit._exchange = named("switch", real_exchange)
        os.unlink, os.rmdir = named("delete", real_unlink), named("delete", real_rmdir)


class _RawFile(io.FileIO):
    """A file whose every write that reaches the system is a change of the disk."""

    def __init__(self, disk: Disk, path: Path, mode: str) -> None:
        super().__init__(path, mode)
        self._disk, self._path = disk, path

    def write(self, data: Any) -> int:
        @contextmanager
        def half() -> Iterator[None]:
            at = self.tell()
            super(_RawFile, self).write(data[: len(data) // 2])
            yield
            self.truncate(at)
            self.seek(at)

        self._disk.change("write", self._path, half)
        return super().write(data) or 0


def kill(_: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def refuse(code: int) -> Fault:
    def fault(_: int) -> None:
        raise OSError(code, os.strerror(code))

    return fault


FAULTS: dict[str, list[Fault]] = {"kill": [kill], "refuse": [refuse(errno.ENOSPC), refuse(errno.EIO)]}
"""What the points of a session meet in turn."""


def train_once() -> None:
    train(Call("run", resolve_settings(SETTINGS)), Observer())


def train_on(disk: Disk) -> None:
    """Train with the disk in place from the first step on."""
    real = Trainer.run

    def run(trainer: Trainer) -> Any:
        disk.install()
        return real(trainer)

    setattr(Trainer, "run", run)  # noqa: B010 - a plain assignment would ask the type checker for an excuse
    train_once()


def in_child(work: Callable[[], int | None]) -> int:
    """Run in a forked child; its exit code, or minus the signal that ended it."""
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            code = work() or 0
        except StorageError:
            code = 1
        except BaseException as error:
            print(f"unexpected: {type(error).__name__}: {error}", file=sys.stderr)
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def results() -> dict[str, str]:
    """Hashes of what a run comes to."""
    files = [Path("checkpoints") / b / f for b in BUNDLES for f in ("model.pt", "optimizer.pt")]
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in files if p.exists()}


def check_and_go_on(wanted: dict[str, str]) -> str:
    """Empty if the bundle is whole and the run can be brought to the same end as without a fault."""
    for bundle in BUNDLES:
        folder = Path("checkpoints") / bundle
        if not folder.exists() and not commit._old(folder).exists():
            continue
        manager = CheckpointManager(bundle)
        manager.exists()
        for name in read_manifest(folder).files:
            check_file(folder / name)
        state = manager.load().state
        if read_manifest(folder).step != state.step:
            return f"{bundle} mixes steps"
    if in_child(train_once):
        return "the same call fails afterwards"
    got = results()
    if Path("checkpoints/run_fp16").exists() and got != wanted:
        return "the result differs"
    if any(got[n] != h for n, h in wanted.items() if "fp16" not in n):
        return "the weights differ"
    leftover = (".writing", ".old", ".saving", ".owner.json")
    left = [p.name for p in Path("checkpoints").iterdir() if p.name.endswith(leftover)]
    return f"left behind: {left}" if left else ""


def fresh(folder: Path) -> None:
    """An empty working folder with the text in it."""
    from tests.conftest import tiny_text

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    os.chdir(folder)
    Path("input.txt").write_text(tiny_text(), encoding="utf-8")


def copies_at_every_point(base: Path) -> list[Point]:
    """Train once, and lay a copy of the folder aside at every point; the points."""

    def session() -> None:
        disk = Disk(EVERY, lambda n: shutil.copytree(base / "run", base / f"at{n}"))
        train_on(disk)
        Path(base / "points.json").write_text(json.dumps(disk.points), encoding="utf-8")

    fresh(base / "run")
    assert in_child(session) == 0
    found: list[Point] = json.loads((base / "points.json").read_text(encoding="utf-8"))
    return found


def ended_at(n: int, kind: str, fault: Fault, base: Path, copied: bool) -> str:
    """Leave the folder as a fault at a point leaves it; empty if the run ended as it may."""
    if copied:
        shutil.rmtree(base / "run")
        (base / f"at{n}").rename(base / "run")
        os.chdir(base / "run")
        return ""
    fresh(base / "run")
    code = in_child(partial(train_on, Disk(n, fault)))
    return "" if code in ((-signal.SIGKILL,) if kind == "kill" else (0, 1)) else f"ended with {code}"


def main(kind: str, part: int, parts: int) -> dict[str, Any]:
    base = Path(tempfile.mkdtemp())
    benchmark_step.REPEATS = 1
    os.fsync = lambda fd: None  # noqa: ARG005 - only a loss of power would tell
    fresh(base / "run")
    train_once()  # in this process, so that every child finds all modules loaded
    gc.freeze()  # so that no child copies their pages to look through them
    wanted = results()
    points = copies_at_every_point(base)
    kinds = [what for what, _ in points]
    really = {1 + kinds.index(what) for what in kinds} | {len(kinds) - kinds[::-1].index(what) for what in kinds}
    faults: list[str] = []
    for n in range(1 + part, len(points) + 1, parts):
        fault = FAULTS[kind][n // parts % len(FAULTS[kind])]
        why = ended_at(n, kind, fault, base, copied=kind == "kill" and n not in really) or check_and_go_on(wanted)
        if why:
            faults.append(f"point {n} ({points[n - 1][0]} {Path(points[n - 1][1]).name}): {why}")
    os.chdir(base.parent)
    shutil.rmtree(base)
    tried = len(range(part, len(points), parts))
    return {"points": tried, "of": len(points), "kinds": sorted(set(kinds)), "faults": faults}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
