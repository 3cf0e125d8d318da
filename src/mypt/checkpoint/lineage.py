"""What a bundle descends from: the models that its run started from, its sessions, and its gold."""

import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mypt.checkpoint.files import read_state
from mypt.errors import BundleError

if TYPE_CHECKING:
    from mypt.schema.files.state import ParentRecord, TrainingState


@dataclass(kw_only=True)
class Ancestor:
    """One run in the line, oldest first.

    Attributes:
        name: of its bundle.
        step: at which the next one, or the bundle itself, took its weights.
        commands: of its sessions up to that step, as they can be typed again.
        note: why no more is known of it; None if all is.
    """

    name: str
    step: int
    commands: tuple[str, ...] = ()
    note: str | None = None


def lineage(path: Path, state: "TrainingState") -> list[Ancestor]:
    """The line that leads to a bundle, itself last."""
    line = [Ancestor(name=path.name, step=state.step, commands=_commands(state, state.step))]
    parent, seen = state.parent, {str(path.absolute())}
    while parent is not None and parent.path not in seen:
        seen.add(parent.path)
        ancestor, parent = _look_up(parent)
        line.insert(0, ancestor)
    return line


def _look_up(parent: "ParentRecord") -> tuple[Ancestor, "ParentRecord | None"]:
    """A recorded parent, from its bundle if that is still the same run's, and the parent before it."""
    bare = Ancestor(name=parent.name, step=parent.step)
    try:
        state = read_state(Path(parent.path))
    except BundleError:
        return replace(bare, note="its bundle is gone or damaged"), None
    if state.run_id != parent.run_id:
        return replace(bare, note="its bundle is of another run now"), None
    moved = f"its bundle is at step {state.step} now" if state.step != parent.step else None
    return replace(bare, commands=_commands(state, parent.step), note=moved), state.parent


def _commands(state: "TrainingState", step: int) -> tuple[str, ...]:
    return tuple(shlex.join(s.command) for s in state.sessions if s.command and s.start_step < max(step, 1))
