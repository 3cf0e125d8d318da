"""What differs between a recorded run and the call that goes on with it, and what that means."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mypt.schema.base import OnResume, extra_of
from mypt.schema.files.state import Environment
from mypt.schema.settings.run import SECTIONS

_ENVIRONMENT: dict[str, OnResume] = {
    "mypt": "harmless", "python": "harmless", "platform": "harmless",
    "torch": "trajectory",
    "numpy": "trajectory",
    "tiktoken": "trajectory", "device": "trajectory", "threads": "trajectory",
    "processor": "trajectory",
}  # fmt: skip


@dataclass(frozen=True)
class Change:
    """One difference.

    Attributes:
        name: the setting or circumstance.
        recorded: its value in the record.
        now: its value from here on.
        meaning: harmless, changes the trajectory, or refused.
    """

    name: str
    recorded: Any
    now: Any
    meaning: OnResume


def changed_settings(recorded: Mapping[str, Any], now: Mapping[str, Any]) -> list[Change]:
    """The settings present in both that differ, in the order of the schema."""
    return [
        Change(name, recorded[name], now[name], extra_of(section, name)["on_resume"])
        for section in SECTIONS.values()
        for name in section.model_fields
        if name in recorded and name in now and recorded[name] != now[name]
    ]


def changed_environment(recorded: Environment | None, now: Environment) -> list[Change]:
    """The circumstances that differ, of those that the record tells."""
    if recorded is None:
        return []
    before, after = recorded.model_dump(), now.model_dump()
    return [
        Change(name, before[name], after[name], meaning)
        for name, meaning in _ENVIRONMENT.items()
        if before[name] is not None and before[name] != after[name]
    ]
