"""A bundle that was copied or renamed by hand: at its first resume it becomes a run of its own."""

from pathlib import Path
from uuid import uuid4

from mypt.checkpoint.family import Family, copy_bundle, record_of
from mypt.checkpoint.layout import display_path, log_of, log_path, log_reference
from mypt.checkpoint.lineage import is_copy, recorded_name
from mypt.checkpoint.manager import CheckpointManager, weights_sha256
from mypt.errors import BundleError
from mypt.log.replay import Branch, has_run
from mypt.log.writer import RunLog, copy_branch
from mypt.schema.files.state import ParentRecord, TrainingState
from mypt.train.observer import Observer


def own_identity(source: Path, name: str, state: TrainingState, log: Path | None) -> TrainingState:
    """The record of a bundle as that of the run that its folder is named after.

    A copy gets an id and a log of its own, and its origin in the record. Where bundles and log were renamed together,
    so that the log of the new name holds the run, it stays the same run.

    Args:
        source: the bundle that is gone on from.
        name: of the run that goes on.
        state: the record of `source`.
        log: the log that the call gives.

    Raises:
        BundleError: the weights cannot be read.
    """
    was, old_log = recorded_name(source, state), log_of(source, state)
    copied = is_copy(source, state)
    if was == name and not copied:
        return state.model_copy(update={"name": name})
    usual = f"{source.absolute().parent.name}_{name}" if was == name else name
    own_log = log or (_beside(old_log, was, usual) if old_log else log_path(usual))
    update: dict[str, object] = {"name": name, "log_file": log_reference(own_log, source)}
    renamed = (
        not copied and old_log is not None and not has_run(old_log, state.run_id) and has_run(own_log, state.run_id)
    )
    if not renamed:
        update |= {"run_id": uuid4().hex[:12], "forked_from": (*state.forked_from, _origin(source, state))}
    return state.model_copy(update=update)


def _beside(log: Path, was: str, name: str) -> Path:
    """The log of a new name, where that of the old one is."""
    return log.with_name(log_path(name).name if log.name == log_path(was).name else f"{name}_{log.name}")


def settle(family: Family, state: TrainingState, observer: Observer) -> None:
    """Give the bundles of a name the identity of the run that goes on, and its log what it has in common with others.

    The log comes first, then the run's own bundle, then gold and fp16, so that a kill in between leaves nothing that
    the next resume does not complete.

    Args:
        family: the name.
        state: of the run that goes on.
        observer: notified of what is copied.
    """
    before = record_of(family.path)
    if before is not None and not _is_settled(family, family.path, before, state):
        if before.run_id != state.run_id:
            _tell(family.path, before, state, observer)
            _copy_history(family.path, before, state)
        _relabel(family.path, before, state)
    ids = {state.run_id, *(origin.run_id for origin in state.forked_from[-1:])}
    for path in (family.gold, family.fp16):
        there = record_of(path)
        if there is not None and there.run_id in ids and not _is_settled(family, path, there, state):
            _relabel(path, there, state)
    if before is not None and state.forked_from and not family.gold.exists():
        _copy_gold(family, before.progress.gold.step, state, observer)


def complete(family: Family, observer: Observer) -> None:
    """Go on with a `settle` that was killed after the run's own bundle had its identity."""
    state = record_of(family.path)
    if state is not None and state.forked_from and recorded_name(family.path, state) == family.path.name:
        settle(family, state, observer)


def _is_settled(family: Family, path: Path, there: TrainingState, state: TrainingState) -> bool:
    return there.run_id == state.run_id and recorded_name(path, there) == family.path.name


def _tell(path: Path, before: TrainingState, state: TrainingState, observer: Observer) -> None:
    log = log_of(path, state)
    observer.notice(
        f"{path} was made as {recorded_name(path, before)}; from step {before.step} on it is a run of its own"
        + (f", with its log in {display_path(log)}." if log else ".")
    )


def _copy_history(path: Path, before: TrainingState, state: TrainingState) -> None:
    """Begin the log of the new run with what led to the bundle, as far as it is there."""
    old, new = log_of(path, before), log_of(path, state)
    if old is not None and new is not None and has_run(old, before.run_id):
        copy_branch(old, before.run_id, Branch.to(before), RunLog(new, state.run_id))


def _copy_gold(family: Family, step: int | None, state: TrainingState, observer: Observer) -> None:
    """Keep the gold of the history as the run's own: the bundle itself if it is that, else the one of its origin."""
    origin = state.forked_from[-1]
    for path in (family.path, Family(Path(origin.path)).gold) if step is not None and step <= origin.step else ():
        there = record_of(path)
        if there is not None and there.step == step and there.run_id in (state.run_id, origin.run_id):
            _relabel(path, there, state, family.gold)
            observer.notice(f"Kept the gold bundle of {path.name} as {family.gold}.")
            return


def _relabel(path: Path, there: TrainingState, state: TrainingState, target: Path | None = None) -> None:
    """Rewrite the record of a bundle, or of a copy of it; a damaged one stays as it is.

    Its own step is where the new run took it over, so that a rewind to it knows its origin as well.
    """
    update: dict[str, object] = {"run_id": state.run_id, "forked_from": there.forked_from}
    log = log_of(path, state)
    try:
        if there.run_id != state.run_id:
            update["forked_from"] = (*there.forked_from, _origin(path, there))
        copy_bundle(path, target or path, str(state.name), log or log_path(str(state.name)), **update)
    except BundleError:
        return


def _origin(path: Path, state: TrainingState) -> ParentRecord:
    """What a bundle was before it became one of another run."""
    name = recorded_name(path, state)
    return ParentRecord(
        name=name,
        path=str(path.with_name(name).absolute()),
        step=state.step,
        run_id=state.run_id,
        weights_sha256=weights_sha256(CheckpointManager(path.name, path.parent).load().model),
    )
