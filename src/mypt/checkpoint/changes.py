"""Compares the settings and environment of a recorded run with those of a resume."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mypt.schema.base import OnResume, extra_of
from mypt.schema.files.state import Environment
from mypt.schema.settings.run import SECTIONS

_ENVIRONMENT: dict[str, OnResume] = {
    "mypt": "harmless", "python": "harmless", "platform": "harmless",
    "torch": "trajectory", "numpy": "trajectory", "tiktoken": "trajectory",
    "device": "trajectory", "threads": "trajectory", "processor": "trajectory",
}  # fmt: skip


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


def changed_environment(recorded: Environment | None, now: Environment) -> list[Change]:
    """The fields of the environment that differ; unrecorded ones are skipped."""
    if recorded is None:
        return []
    before, after = recorded.model_dump(), now.model_dump()
    return [
        Change(name, before[name], after[name], meaning)
        for name, meaning in _ENVIRONMENT.items()
        if before[name] is not None and before[name] != after[name]
    ]
