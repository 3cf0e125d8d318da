"""The lineage of a bundle: which run it is of, the models that this started from and the commands of their sessions."""

import re
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


def run_name(bundle: Path, state: TrainingState) -> str:
    """Name of the run that a bundle's record is of.

    Records of earlier versions do not say it. Their log does where it has the default name and no call gave another;
    otherwise the folder is taken to be the run's own.
    """
    if state.name is not None:
        return state.name
    logged = re.fullmatch(re.escape(log_path("\0").as_posix()).replace("\0", "(.+)"), state.log_file or "")
    chosen = any(word.startswith(("--log-file", "--log_file")) for s in state.sessions for word in s.command)
    return logged[1] if logged and not chosen else bundle.name


def role_of(bundle: Path, state: TrainingState) -> Role:
    """What a bundle is to its run, by the names of its folder and of its run."""
    name = run_name(bundle, state)
    roles: dict[str, Role] = {name: "run", f"{name}_gold": "gold", f"{name}_fp16": "fp16"}
    return roles.get(bundle.name, "copy")


def lineage(path: Path, state: TrainingState) -> list[Ancestor]:
    """The ancestors of a bundle, oldest first, and the bundle itself last."""
    ancestors = [Ancestor(name=path.name, step=state.step, commands=_commands(state, state.step))]
    parent, seen = state.parent, {str(path.absolute())}
    while parent is not None and parent.path not in seen:
        seen.add(parent.path)
        ancestor, parent = _look_up(parent)
        ancestors.insert(0, ancestor)
    return ancestors


def _look_up(parent: ParentRecord) -> tuple[Ancestor, ParentRecord | None]:
    """A parent, completed from its bundle if that still belongs to the same run, and its own parent."""
    ancestor = Ancestor(name=parent.name, step=parent.step)
    try:
        state = read_state(Path(parent.path))
    except BundleError:
        return replace(ancestor, note="its bundle is gone or damaged"), None
    if state.run_id != parent.run_id:
        return replace(ancestor, note="its bundle belongs to another run now"), None
    note = f"its bundle is at step {state.step} now" if state.step != parent.step else None
    return replace(ancestor, commands=_commands(state, parent.step), note=note), state.parent


def _commands(state: TrainingState, step: int) -> tuple[str, ...]:
    return tuple(shlex.join(s.command) for s in state.sessions if s.command and s.start_step < max(step, 1))
