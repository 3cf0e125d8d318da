"""One line of a run's log, whatever its event: what each has, and how numbers are spelled that JSON has no word for."""

import json
from collections.abc import Mapping
from math import isfinite
from typing import Any, Self

from pydantic import ConfigDict, model_validator

from mypt.schema.base import Model

WHOLE_NUMBERS = range(-(2**63), 2**63)
"""No run counts further than 64 bits; a longer number would be too large for a float."""
NONFINITE = ("nan", "inf", "-inf")
"""The numbers that JSON has no word for."""


class Event(Model):
    """One line of the log. Its writer adds `run_id` and `attempt`, the number of the session, at the end."""

    model_config = ConfigDict(extra="allow")

    @model_validator(mode="before")
    @classmethod
    def _in_range(cls, content: Any) -> Any:
        if _has_long_number(content):
            raise ValueError("a whole number does not fit into 64 bits")
        return content

    @model_validator(mode="after")
    def _names_run(self) -> Self:
        extra = self.model_extra or {}
        if not isinstance(extra.get("run_id"), str | None):
            raise ValueError("run_id is no text")
        attempt = extra.get("attempt")
        if not isinstance(attempt, int | None) or isinstance(attempt, bool):
            raise ValueError("attempt is no whole number")
        if "nonfinite" in extra:
            raise ValueError("nonfinite names no number of this event")
        return self


def json_line(content: Mapping[str, Any]) -> str:
    """An event as a line of JSON: a number that is not finite is null, and `nonfinite` says what it is.

    Of a path whose bytes are no UTF-8 Python keeps those bytes as surrogates, which JSON knows by their escapes alone.
    """
    names = {k: str(v) for k, v in content.items() if isinstance(v, float) and not isfinite(v)}
    if names:
        last = {k: content[k] for k in ("run_id", "attempt") if k in content}
        first = {k: None if k in names else v for k, v in content.items() if k not in last}
        content = {**first, "nonfinite": names, **last}
    line = json.dumps(content, ensure_ascii=False, allow_nan=False)
    return line.encode("utf-8", "backslashreplace").decode("utf-8")


def unspelled(content: dict[str, Any]) -> dict[str, Any]:
    """The event of a `json_line`, with its numbers in their places again."""
    names = content.get("nonfinite")
    if names is None and content.get("event") == "eval" and content.get("val_loss", 0.0) is None:
        names = {"val_loss": "nan"}  # an earlier version did not say what it was
    if not isinstance(names, dict) or any(content.get(k, v) is not None for k, v in names.items()):
        return content
    if any(v not in NONFINITE for v in names.values()):
        return content
    numbers = {k: float(v) for k, v in names.items()}
    return {k: numbers.get(k, v) for k, v in content.items() if k != "nonfinite"}


def _has_long_number(value: object) -> bool:
    if isinstance(value, dict):
        return any(map(_has_long_number, value.values()))
    if isinstance(value, list):
        return any(map(_has_long_number, value))
    return isinstance(value, int) and value not in WHOLE_NUMBERS
