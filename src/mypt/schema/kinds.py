"""Whether a line of a log is an event, told from the kinds of its values alone.

A log has few shapes of lines, so the answer to each is found once and looked up from then on.
"""

from functools import cache, lru_cache
from types import NoneType
from typing import Any

from mypt.schema.plain import Schema, definitions, resolved

SHAPES = 1024
"""Shapes of lines to remember."""
_NUMBER = frozenset({int, float})
_KINDS: dict[str, frozenset[type]] = {
    "integer": frozenset({int}), "number": _NUMBER, "string": frozenset({str}), "boolean": frozenset({bool}),
    "null": frozenset({NoneType}), "array": frozenset({list}), "object": frozenset({dict}),
}  # fmt: skip


@cache
def event_schemas() -> dict[str, Schema]:
    """The schema of each event by the value of its `event` field, in the order of a run."""
    found = {d["properties"].get("event", {}).get("const"): d for d in definitions().values() if "properties" in d}
    return {name: schema for name, schema in found.items() if name is not None}


@lru_cache(maxsize=SHAPES)
def fits(event: str, keys: tuple[str, ...], kinds: tuple[type, ...]) -> bool:
    """Whether an object is an event: it has every field that the event needs, and each value has the right kind.

    Args:
        event: its `event` field.
        keys: its keys.
        kinds: the types of its values, in the same order.
    """
    return event in event_schemas() and _same_kinds(event, dict(zip(keys, kinds, strict=True)))


def start_fits(config: dict[str, Any]) -> bool:
    """Whether the `config` of a training_start has what decides which lines are live."""
    return type(config.get("start_step")) is int and type(config.get("max_iters")) is int


@lru_cache(maxsize=SHAPES)
def eval_sets(keys: tuple[str, ...]) -> tuple[str, ...]:
    """Those keys of an eval event that are losses of further eval sets."""
    return tuple(k for k in keys if k.startswith("eval_") and k != "eval_duration_s")


def _same_kinds(event: str, given: dict[str, type]) -> bool:
    for name, field in event_schemas()[event]["properties"].items():
        if name not in given:
            if "default" not in field:
                return False
        elif given[name] not in _kinds_of(field):
            return False
    sets = eval_sets(tuple(given)) if event == "eval" else ()
    names_run = given.get("run_id", NoneType) in (str, NoneType) and given.get("attempt", NoneType) in (int, NoneType)
    return names_run and all(given[key] in _NUMBER | {NoneType} for key in sets)


def _kinds_of(field: Schema) -> frozenset[type]:
    """The types that JSON gives for a field."""
    field = resolved(field)
    if "anyOf" in field:
        return frozenset().union(*map(_kinds_of, field["anyOf"]))
    return _KINDS[field["type"]]
