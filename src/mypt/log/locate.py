"""Which log is meant, by its path or by the name of a model, and whether it may be written."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mypt.checkpoint.family import record_of
from mypt.checkpoint.files import read_state
from mypt.checkpoint.layout import CONFIG_FILE, LOG_FOLDER, bundle_path, log_of, log_path
from mypt.checkpoint.lineage import recorded_name, role_of
from mypt.errors import BundleError, ConflictError, InputError, did_you_mean
from mypt.log.reader import reading
from mypt.log.replay import Branch, has_run
from mypt.schema.files.state import TrainingState

_END = log_path("").name
_BEGINNING = b'{"event"'


@dataclass(frozen=True)
class FoundLog:
    """A log that was found.

    Attributes:
        bundle: the folder that its run writes to; None where that cannot be told.
        run_id: of the run that is meant, where a bundle says it.
        upto: the branch that led to the bundle that was asked for, where that is not the last step of its run.
    """

    path: Path
    bundle: Path | None = None
    run_id: str | None = None
    upto: Branch | None = None


def find_log(word: str, out_dir: Path) -> FoundLog:
    """The log at a path, or of a model: the one that the model's record names, or the one named after it.

    Raises:
        InputError: there is none; the sentence names those that are there.
    """
    path = Path(word)
    if path.is_file():
        return FoundLog(path, out_dir / path.name.removesuffix(_END))
    own = log_path(path.name)
    with suppress(BundleError):
        if (out_dir / word / CONFIG_FILE).is_file() or (path / CONFIG_FILE).is_file():
            bundle = bundle_path(word, out_dir)
            state = read_state(bundle)
            recorded = log_of(bundle, state)
            if recorded is not None and recorded.is_file():
                return _log_of_bundle(recorded, bundle, state)
    if own.is_file():
        return FoundLog(own, out_dir / path.name)
    names = [p.name.removesuffix(_END) for p in all_logs()]
    there = f"Those in {LOG_FOLDER.as_posix()}: {', '.join(names)}."
    todo = there if names else "`mypt train` writes one for each model."
    raise InputError(f"There is no log {word!r}{did_you_mean(word, names)}", todo)


def _log_of_bundle(log: Path, bundle: Path, state: TrainingState) -> FoundLog:
    """A run's log for one of its bundles; a copy, a gold or an export knows nothing of what came after it."""
    role = role_of(bundle, state)
    writer = bundle if role == "copy" else bundle.with_name(recorded_name(bundle, state))
    return FoundLog(log, writer, state.run_id, None if role == "run" else Branch.to(state))


def all_logs() -> list[Path]:
    """Every log in the folder where runs keep them, sorted."""
    return sorted(LOG_FOLDER.glob("*.jsonl"))


def own_log(bundle: Path) -> Path | None:
    """The log of a bundle's run, if its record can be read and names one that is this run's."""
    state = record_of(bundle)
    return log_of(bundle, state) if state is not None and _is_own(bundle, state) else None


def check_recorded_log(bundle: Path, state: TrainingState) -> None:
    """Make sure that the log which a record names is where logs of its run are kept, or holds events of the run.

    Raises:
        ConflictError: it may be any file.
    """
    if not _is_own(bundle, state):
        raise ConflictError(
            f"The record of {bundle} names the log {log_of(bundle, state)}, which holds nothing of this run.",
            f"Give the log by --log-file, that one or `--log-file {log_path(bundle.name).as_posix()}`.",
        )


def check_appendable(log: Path) -> None:
    """Make sure that events can be appended to a file without spoiling it.

    Raises:
        ConflictError: it is something else than a log.
    """
    reason = None
    if log.is_symlink() and not log.exists():
        reason = "is a link that leads nowhere"
    elif log.exists() and not log.is_file():
        reason = "is no regular file"
    elif log.exists():
        with reading(log) as file:
            start = file.read(4096).lstrip()
        reason = None if start.startswith(_BEGINNING) or not start else "is no log of mypt"
    if reason:
        raise ConflictError(f"{log} {reason}, and events would be appended to it.", "Give another --log-file.")


def _is_own(bundle: Path, state: TrainingState) -> bool:
    log = log_of(bundle, state)
    if log is None:
        return True
    usual = [log_path(name) for name in (bundle.name, recorded_name(bundle, state))]
    places = (bundle.absolute().parent.parent, Path.cwd())
    return log in [place / path for place in places for path in usual] or has_run(log, state.run_id)
