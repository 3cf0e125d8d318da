"""`mypt du`: what the runs of a folder take on the disk; a file that has several names counts once."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from mypt.checkpoint.layout import base_name, bundle_names
from mypt.order.runs import KeptRun, logs_in, run_at


@dataclass(kw_only=True)
class RunUsage:
    """What a run takes, in bytes.

    Attributes:
        name: of the run.
        last: its own bundle.
        gold: its gold bundle.
        fp16: its fp16 bundle.
        log: its log, where that is its own.
        total: all of it, a file that has several names once.
    """

    name: str
    last: int = 0
    gold: int = 0
    fp16: int = 0
    log: int = 0
    total: int = 0


@dataclass(kw_only=True)
class Usage:
    """Output of `mypt du --json`; `schema_version` increases when a field changes its meaning.

    Attributes:
        runs: what each run takes, the largest first.
        trash: what was removed and is not deleted yet.
        shared: what would be taken on top, if no file had several names.
        total: what all of it takes.
    """

    schema_version: Literal[1] = 1
    runs: list[RunUsage] = field(default_factory=list)
    trash: int = 0
    shared: int = 0
    total: int = 0


def usage(out_dir: Path) -> Usage:
    """What the runs of a folder and its trash take."""
    found, seen, named = Usage(), dict[tuple[int, int], int](), 0
    for run in runs_of(out_dir):
        files = {path: dict(_files(path)) for path in run.bundles}
        log = dict(_files(run.log)) if run.log is not None and run.log_is_its_own else {}
        sizes = {path: sum(of.values()) for path, of in files.items()}
        own: dict[tuple[int, int], int] = {}
        for part in (*files.values(), log):
            own |= part
            named += sum(part.values())
        seen |= own
        parts = dict(zip(("last", "gold", "fp16"), run.family.paths, strict=True))
        found.runs.append(
            RunUsage(
                name=run.name,
                log=sum(log.values()),
                total=sum(own.values()),
                **{part: sizes.get(path, 0) for part, path in parts.items()},
            )
        )
    trash = dict(_files(out_dir / ".trash"))
    found.trash = sum(trash.values())
    found.total = sum((seen | trash).values())
    found.shared = named + found.trash - found.total
    found.runs.sort(key=lambda run: (-run.total, run.name))
    return found


def runs_of(out_dir: Path) -> list[KeptRun]:
    """The runs of a folder by name; a gold or fp16 bundle whose run is gone counts as one of its name."""
    names, logs = bundle_names(out_dir), logs_in(out_dir)
    found: list[KeptRun] = []
    taken: set[Path] = set()
    for name in sorted(names, key=lambda n: (base_name(n) != n, n)):
        if out_dir / name not in taken:
            found.append(run_at(out_dir / name, logs))
            taken |= {*found[-1].bundles}
    return sorted(found, key=lambda run: run.name)


def bytes_of(run: KeptRun) -> int:
    """What a run takes with its own log, a file that has several names once."""
    paths = [*run.bundles, *([run.log] if run.log is not None and run.log_is_its_own else [])]
    return total_of(paths)


def total_of(paths: Iterable[Path]) -> int:
    """What files and folders take together, a file that has several names once."""
    return sum({key: size for path in paths for key, size in _files(path)}.values())


def _files(path: Path) -> Iterator[tuple[tuple[int, int], int]]:
    """Every file at a path by what it is on the disk, with its bytes."""
    for file in (path, *path.rglob("*")) if path.is_dir() else (path,):
        try:
            stat = file.stat()
        except OSError:  # a link that leads nowhere, or a file that a save has just replaced
            continue
        if file.is_file():
            yield (stat.st_dev, stat.st_ino), stat.st_size
