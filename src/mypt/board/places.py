"""The runs of a folder: which there are, and where each has its bundles and its log."""

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from mypt.checkpoint.files import read_state
from mypt.checkpoint.layout import LOG_FOLDER, STATE_FILE, base_name, bundle_names, log_of, log_path
from mypt.checkpoint.lineage import recorded_name, role_of
from mypt.errors import MyptError
from mypt.log.liveness import Writer, writer_of
from mypt.log.replay import Branch
from mypt.schema.files.state import TrainingState

_END = log_path("").name


@dataclass(frozen=True)
class RunPlace:
    """One run of the folder.

    Attributes:
        id: what the page calls it by; it names nothing on disk.
        name: of the run.
        bundle: where it keeps its last step, or would, if there is none yet.
        parts: the bundles that it has.
        state: the record of the first of them; None where there is none that can be read.
        fault: why the record cannot be read.
        log: None where there is none.
        run_id: which run of the log.
        upto: the branch that led to the bundle, where this is not the last step of its run.
        writer: whether a process writes it.
    """

    id: str
    name: str
    bundle: Path
    parts: tuple[Path, ...]
    state: TrainingState | None
    fault: str | None
    log: Path | None
    run_id: str | None
    upto: Branch | None
    writer: Writer

    @property
    def word(self) -> str:
        """What other verbs call it by: its bundle, or its log where it has none."""
        return self.bundle.name if self.parts else str(self.log)


class Places:
    """Finds the runs of a folder, again and again: a record is read anew only when its file has changed.

    Args:
        out_dir: the folder of bundles; logs without a bundle are looked for in `logs/train` beside it.
    """

    def __init__(self, out_dir: Path) -> None:
        self.out_dir = out_dir
        self._records: dict[str, tuple[object, TrainingState | None, str | None]] = {}

    def find(self) -> list[RunPlace]:
        """All runs, sorted by name. A gold or fp16 bundle is a part of its run where that is there."""
        parts: dict[str, list[str]] = {}
        names = bundle_names(self.out_dir)
        for name in names:
            base = base_name(name)
            parts.setdefault(base if base in names else name, []).append(name)
        taken = self._names_of_locks()
        places = [self._of_bundle(name, sorted(found, key=len), taken) for name, found in parts.items()]
        self._records = {name: self._records[name] for name in parts if name in self._records}
        known = {_same(place.log) for place in places if place.log is not None and place.upto is None}
        logs = sorted((self.out_dir.absolute().parent / LOG_FOLDER).glob(f"*{_END}"))
        places += [self._of_log(log, {*parts}) for log in logs if _same(log) not in known]
        return sorted(places, key=lambda place: place.name)

    def _of_bundle(self, name: str, parts: Iterable[str], taken: set[str]) -> RunPlace:
        bundle = self.out_dir / name
        state, fault = self._record(bundle)
        log, upto, writes = log_of(bundle, state) if state is not None else None, None, bundle
        if log is None or not log.is_file():
            log = self.out_dir.absolute().parent / log_path(name)
        if state is not None and (role := role_of(bundle, state)) != "run":
            upto = Branch.to(state)
            writes = bundle if role == "copy" else bundle.with_name(recorded_name(bundle, state))
        base = base_name(name)
        asks = bundle.is_symlink() or {f".{base}.lock", f".{base}.owner.json"} & taken
        return RunPlace(
            id=_id("run", name), name=name, bundle=bundle, parts=tuple(self.out_dir / part for part in parts),
            state=state, fault=fault, log=log if log.is_file() else None, run_id=state.run_id if state else None,
            upto=upto, writer=writer_of(writes) if asks else Writer(False),
        )  # fmt: skip

    def _of_log(self, log: Path, bundles: set[str]) -> RunPlace:
        """A run that has not saved yet, whose bundle will have the same id, or one whose bundle is gone."""
        name = log.name.removesuffix(_END)
        bundle = self.out_dir / name
        return RunPlace(
            id=_id("log" if name in bundles else "run", name), name=name, bundle=bundle, parts=(), state=None,
            fault=None, log=log, run_id=None, upto=None, writer=writer_of(bundle),
        )  # fmt: skip

    def _record(self, bundle: Path) -> tuple[TrainingState | None, str | None]:
        signature = file_signature(bundle / STATE_FILE)
        known = self._records.get(bundle.name)
        if known is None or known[0] != signature or signature is None:
            try:
                known = signature, read_state(bundle), None
            except MyptError as error:
                known = signature, None, error.what
            self._records[bundle.name] = known
        return known[1:]

    def _names_of_locks(self) -> set[str]:
        """The files beside the bundles that tell of a process which writes or wrote them."""
        with suppress(OSError):
            return {entry.name for entry in os.scandir(self.out_dir) if entry.name[0] == "."}
        return set()


def file_signature(path: Path) -> tuple[int, int, int] | None:
    """What changes when a file is written or replaced; None where there is none."""
    with suppress(OSError):
        found = path.stat()
        return found.st_ino, found.st_size, found.st_mtime_ns
    return None


def _same(path: Path) -> str:
    return os.path.realpath(path)


def _id(kind: str, name: str) -> str:
    return blake2b(f"{kind} {name}".encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()
