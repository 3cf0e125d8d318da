"""Compares the settings and environment of a recorded run with those of a resume, and its sessions with each other."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mypt.schema.base import OnResume, extra_of
from mypt.schema.files.environment import Environment
from mypt.schema.files.state import TrainingState
from mypt.schema.settings.run import SECTIONS

MEANINGS: dict[OnResume, str] = {
    "harmless": "harmless", "gold": "changes what becomes gold", "trajectory": "changes the trajectory",
    "rounding": "trajectory within rounding", "refused": "refused",
}  # fmt: skip
"""The effect of a change, for people."""
_ENVIRONMENT: dict[str, OnResume] = {
    "mypt": "harmless", "python": "harmless", "platform": "harmless",
    "torch": "trajectory", "numpy": "trajectory", "tiktoken": "trajectory",
    "device": "trajectory", "threads": "trajectory", "processor": "trajectory",
    "processes": "rounding", "hosts": "harmless", "backend": "rounding",
}  # fmt: skip


UNTOLD = ("start_step", "amp_reason", "deterministic_reason", "torch_compile_reason")
"""What a session records beside the settings that were chosen: where it began, and what it measured."""


@dataclass(frozen=True)
class Change:
    """One setting or part of the environment that differs: its value in the bundle and from the resume on."""

    name: str
    recorded: Any
    now: Any
    meaning: OnResume


def changed_settings(recorded: Mapping[str, Any], now: Mapping[str, Any]) -> list[Change]:
    """The settings that are in both and differ, in schema order."""
    return [
        Change(name, recorded[name], now[name], extra_of(section, name)["on_resume"])
        for section in SECTIONS.values()
        for name in section.model_fields
        if name in recorded and name in now and recorded[name] != now[name]
    ]


def changed_environment(recorded: Environment | None, now: Environment, *, exact: bool = False) -> list[Change]:
    """The fields of the environment that differ; unrecorded ones are skipped.

    Args:
        recorded: of a session.
        now: of this process.
        exact: whether gradients are added up so that the number of processes changes nothing.
    """
    if recorded is None:
        return []
    before, after = recorded.model_dump(), now.model_dump()
    return [
        Change(name, before[name], after[name], "harmless" if exact and meaning == "rounding" else meaning)
        for name, meaning in _ENVIRONMENT.items()
        if before[name] is not None and before[name] != after[name]
    ]


@dataclass(frozen=True)
class ValueFrom:
    """A value of a setting, and the step after which it held."""

    from_step: int
    value: Any


def sessions_of(state: TrainingState) -> list[tuple[int, dict[str, Any]]]:
    """The first step of each session that led to a state, with its settings, environment and eval sets."""
    return [
        (
            session.start_step,
            {
                **session.training_config.model_dump(mode="json"),
                **{name: value for name, value in session.environment.model_dump().items() if value is not None},
                "eval_sets": {name: record.fingerprint for name, record in session.eval_sets.items()},
            },
        )
        for session in state.sessions
    ]


def changed_between(sessions: Iterable[tuple[int, Mapping[str, Any]]]) -> dict[str, list[ValueFrom]]:
    """Every value of what did not stay the same through the sessions of a run, in order.

    Args:
        sessions: the first step of each and what it records, in the order in which they were started; a session
            supersedes those that had started at its own first step or later.
    """
    live: list[tuple[int, Mapping[str, Any]]] = []
    for start, facts in sessions:
        live = [(earlier, recorded) for earlier, recorded in live if earlier < start]
        live.append((start, facts))
    courses: dict[str, list[ValueFrom]] = {}
    for start, facts in live:
        for name, value in facts.items():
            course = courses.setdefault(name, [])
            if name not in UNTOLD and (not course or course[-1].value != value):
                course.append(ValueFrom(start, value))
    return {name: course for name, course in courses.items() if len(course) > 1}
