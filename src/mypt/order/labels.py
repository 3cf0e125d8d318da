"""`mypt tag`: tags and the note of a run, which stand in the record of each of its bundles."""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from mypt.checkpoint.family import copy_bundle, record_of
from mypt.checkpoint.layout import bundle_names, log_path
from mypt.checkpoint.lineage import recorded_name
from mypt.errors import UsageError
from mypt.order.runs import find_run, held
from mypt.schema.base import explain_validation
from mypt.schema.files.state import TrainingState
from mypt.schema.order.labels import Note, Tag, united


def label(
    name: str, out_dir: Path, notice: Callable[[str], None], add: Sequence[str], drop: Collection[str], note: str | None
) -> TrainingState | None:
    """Change tags and note in the records of a run's bundles; nothing else of them, and no hash of weights, changes.

    Args:
        name: of the run, or of one of its bundles.
        out_dir: folder of the bundles.
        notice: told what a crash had left.
        add: tags to add.
        drop: tags to take away.
        note: the new note; "" for none, None to leave it.

    Returns:
        The record afterwards; None where none can be read.

    Raises:
        UsageError: there is no such run, or a tag or a note is none.
        BusyError: a process writes the run, and would write the old record again.
    """
    try:
        TypeAdapter(tuple[Tag, ...]).validate_python(tuple(add))
        TypeAdapter(Note | None).validate_python(note)
    except ValidationError as error:
        raise UsageError(" ".join(explain_validation(error)), "Choose another.") from error
    run = find_run(name, out_dir)
    if not (add or drop or note is not None):
        return run.state
    with held([run.family.path], notice):
        for bundle in run.bundles:
            state = record_of(bundle)
            if state is None:
                continue
            tags = tuple(tag for tag in united(state.tags, tuple(add)) if tag not in drop)
            now = {"tags": tags, "note": state.note if note is None else note or None}
            if now != {"tags": state.tags, "note": state.note}:
                kept = {field: getattr(state, field) for field in ("folder", "log_file")}
                copy_bundle(bundle, bundle, recorded_name(bundle, state), log_path(bundle.name), **kept, **now)
        return run.state


def tagged(out_dir: Path, tags: Sequence[str]) -> list[str]:
    """The runs of a folder that have all of some tags, without their gold and fp16 bundles.

    Raises:
        UsageError: there is none.
    """
    known = tags_in(out_dir)
    if found := [name for name, own in known.items() if own >= {*tags}]:
        return found
    every = sorted(set().union(*known.values()))
    todo = f"Those in use: {', '.join(every)}." if every else "`mypt tag NAME +TAG` gives a run one."
    raise UsageError(f"No run in {out_dir} has the tag {' and '.join(tags)}.", todo)


def tags_in(out_dir: Path) -> dict[str, set[str]]:
    """The tags of each run of a folder; of a gold or fp16 bundle only where its run is gone."""
    states = {name: record_of(out_dir / name) for name in bundle_names(out_dir)}
    own = {name: state for name, state in states.items() if state is not None}
    runs = {name: recorded_name(out_dir / name, state) for name, state in own.items()}
    return {name: {*state.tags} for name, state in own.items() if runs[name] == name or runs[name] not in own}
