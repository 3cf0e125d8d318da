"""The lineage of a bundle: which run it is of, the models that this started from and the commands of their sessions."""

import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from mypt.checkpoint.files import read_state
from mypt.checkpoint.layout import log_path
from mypt.errors import BundleError
from mypt.schema.files.state import ParentRecord, TrainingState

Role = Literal["run", "gold", "fp16", "copy"]
"""What a bundle is to the run that its record names: the last step, the best, the export, or of another name."""


@dataclass(kw_only=True)
class Ancestor:
    """One run of a lineage.

    Attributes:
        name: name of its bundle.
        step: step of the weights that its successor, or the bundle itself, uses.
        commands: shell commands of its sessions up to that step.
        note: why the information is incomplete; None if it is complete.
    """

    name: str
    step: int
    commands: tuple[str, ...] = ()
    note: str | None = None


def recorded_name(bundle: Path, state: TrainingState) -> str:
    """Name of the run that a bundle's record is of.

    Records of earlier versions do not say it. Their log does where it has the usual name and no call gave another;
    otherwise the folder is taken to be the run's own.
    """
    if state.name is not None:
        return state.name
    log, end = Path(state.log_file or "").name, log_path("").name
    chosen = any(word.startswith(("--log-file", "--log_file")) for s in state.sessions for word in s.command)
    return log.removesuffix(end) if log.endswith(end) and log != end and not chosen else bundle.name


def is_copy(bundle: Path, state: TrainingState) -> bool:
    """Whether a bundle was copied under its own name: the folder that it was saved in has the run's as well."""
    there = bundle.absolute().parent.parent / (state.folder or "") / bundle.name
    if state.folder is None or not there.is_dir() or there.samefile(bundle):
        return False
    try:
        return read_state(there).run_id == state.run_id
    except BundleError:
        return False


def role_of(bundle: Path, state: TrainingState) -> Role:
    """What a bundle is to its run, by the names of its folder and of its run."""
    name = recorded_name(bundle, state)
    roles: dict[str, Role] = {name: "run", f"{name}_gold": "gold", f"{name}_fp16": "fp16"}
    return "copy" if is_copy(bundle, state) else roles.get(bundle.name, "copy")


def lineage(path: Path, state: TrainingState) -> list[Ancestor]:
    """The ancestors of a bundle, oldest first, and the bundle itself last.

    The runs that it was a copy of are among them; what they did before is part of its own record.
    """
    begun = 0
    ancestors = []
    for origin in state.forked_from:
        ancestors.append(Ancestor(name=origin.name, step=origin.step, commands=_commands(state, origin.step, begun)))
        begun = origin.step
    own = Ancestor(name=path.name, step=state.step, commands=_commands(state, state.step, begun))
    ancestors = [*_imported(state), *ancestors, own]
    parent, seen = state.parent, {str(path.absolute())}
    while parent is not None and parent.path not in seen:
        seen.add(parent.path)
        known, parent = _look_up(parent)
        ancestors = [*known, *ancestors]
    return ancestors


def _imported(state: TrainingState) -> list[Ancestor]:
    """What the weights of an imported model were made from."""
    source = state.imported
    if source is None:
        return []
    files = ", ".join(f"{file.name} sha256 {file.sha256[:12]}…" for file in source.files)
    return [Ancestor(name=source.path, step=0, note=f"imported, {source.kind} {source.model_type}: {files}")]


def _look_up(parent: ParentRecord) -> tuple[list[Ancestor], ParentRecord | None]:
    """A parent, completed from its bundle if that is still of the same run, with its origin, and its own parent."""
    ancestor = Ancestor(name=parent.name, step=parent.step)
    try:
        state = read_state(Path(parent.path))
    except BundleError:
        return [replace(ancestor, note="its bundle is gone or damaged")], None
    if state.run_id != parent.run_id:
        return [replace(ancestor, note="its bundle belongs to another run now")], None
    note = f"its bundle is at step {state.step} now" if state.step != parent.step else None
    own = replace(ancestor, commands=_commands(state, parent.step), note=note)
    return [*_imported(state), own], state.parent


def _commands(state: TrainingState, step: int, begun: int = 0) -> tuple[str, ...]:
    """The commands of the sessions that started from the step `begun` on and before `step`."""
    sessions = [s for s in state.sessions if s.command and begun <= s.start_step < max(step, begun + 1)]
    return tuple(shlex.join(s.command) for s in sessions)
