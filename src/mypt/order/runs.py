"""Which bundles of a folder, and which log, are those of one run."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from mypt.checkpoint.family import Family, is_bundle, record_of
from mypt.checkpoint.layout import base_name, bundle_names, bundle_path, check_name, log_of, log_path
from mypt.checkpoint.lineage import recorded_name
from mypt.checkpoint.lock import locked
from mypt.log.locate import own_log
from mypt.schema.files.state import TrainingState


@dataclass(frozen=True)
class KeptRun:
    """A run as it lies in a folder.

    Attributes:
        family: its places.
        bundles: what it has there, its own bundle first.
        log: its log; None without one.
        log_is_its_own: whether the log has the usual name and no other bundle names it.
    """

    family: Family
    bundles: tuple[Path, ...]
    log: Path | None
    log_is_its_own: bool

    @property
    def name(self) -> str:
        """Its name."""
        return self.family.path.name

    @property
    def state(self) -> TrainingState | None:
        """The first of its records that can be read."""
        return next(filter(None, map(record_of, self.bundles)), None)

    @property
    def has_the_usual_log(self) -> bool:
        """Whether its log is named after it."""
        return self.log is not None and self.log.name == log_path(self.name).name


def place_named(word: str, out_dir: Path) -> Path:
    """The place of a name in a folder, which may be given with the folder before it.

    Raises:
        UsageError: it can be no name.
    """
    path = Path(word)
    return out_dir / check_name(path.name if path.parent == out_dir else word)


def find_run(word: str, out_dir: Path) -> KeptRun:
    """The run of a name.

    Raises:
        UsageError: there is none.
    """
    run = run_at(place_named(word, out_dir))
    if not run.bundles:
        bundle_path(run.name, out_dir)  # which names those that are there
    return run


def run_at(path: Path, logs: Mapping[Path, Path | None] | None = None) -> KeptRun:
    """What a run of a name has; it may be nothing.

    Args:
        path: of its own bundle.
        logs: of all bundles of the folder, where they are known already.
    """
    family = Family(path)
    first = record_of(path)
    run_id = None if first is None else first.run_id
    bundles = tuple(p for p in family.paths if is_bundle(p) and (p == path or _belongs(p, path.name, run_id)))
    log = next((log for log in map(own_log, bundles) if log is not None and log.is_file()), None)
    usual = log is not None and log.name == log_path(path.name).name
    logs = logs_in(path.parent) if usual and logs is None else logs or {}
    return KeptRun(family, bundles, log, usual and log not in {logs[other] for other in logs.keys() - {*bundles}})


def _belongs(bundle: Path, name: str, run_id: str | None) -> bool:
    """Whether what is at the place of a run's gold or fp16 bundle is that; a damaged one is taken for it."""
    state = record_of(bundle)
    return state is None or recorded_name(bundle, state) == name or (run_id is not None and state.run_id == run_id)


def logs_in(out_dir: Path) -> dict[Path, Path | None]:
    """The log that each bundle of a folder names."""
    states = {path: record_of(path) for path in (out_dir / name for name in bundle_names(out_dir))}
    return {path: log_of(path, state) for path, state in states.items() if state is not None}


@contextmanager
def held(paths: Iterable[Path], notice: Callable[[str], None]) -> Iterator[None]:
    """Hold the locks on several names at once, always in the same order.

    Raises:
        BusyError: another process writes one of them.
    """
    by_lock = {base_name(path.name): path for path in paths}
    with ExitStack() as locks:
        for _, path in sorted(by_lock.items()):
            locks.enter_context(locked(path, notice))
        yield
