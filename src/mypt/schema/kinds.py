"""Whether a line of a log is an event, told from the kinds of its values alone.

A log has few shapes of lines, so the answer to each is found once and looked up from then on.
"""

from functools import lru_cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from mypt.schema.events import EVENTS, Eval

SHAPES = 1024
"""Shapes of lines to remember."""
_NUMBER = frozenset({int, float})
_Kinds = frozenset[type]


@lru_cache(maxsize=SHAPES)
def fits(event: str, keys: tuple[str, ...], kinds: tuple[type, ...]) -> bool:
    """Whether an object is an event: it has every field that the event needs, and each value has the right kind.

    Args:
        event: its `event` field.
        keys: its keys.
        kinds: the types of its values, in the same order.
    """
    return event in EVENTS and _same_kinds(EVENTS[event], dict(zip(keys, kinds, strict=True)))


def start_fits(config: dict[str, Any]) -> bool:
    """Whether the `config` of a training_start has what decides which lines are live."""
    return type(config.get("start_step")) is int and type(config.get("max_iters")) is int


@lru_cache(maxsize=SHAPES)
def eval_sets(keys: tuple[str, ...]) -> tuple[str, ...]:
    """Those keys of an eval event that are losses of further eval sets."""
    return tuple(k for k in keys if k.startswith("eval_") and k != "eval_duration_s")


def _same_kinds(model: type[BaseModel], given: dict[str, type]) -> bool:
    for name, field in model.model_fields.items():
        if name not in given:
            if field.is_required():
                return False
        elif given[name] not in _kinds_of(field.annotation):
            return False
    sets = eval_sets(tuple(given)) if model is Eval else ()
    names_run = given.get("run_id", NoneType) in (str, NoneType) and given.get("attempt", NoneType) in (int, NoneType)
    return names_run and all(given[key] in _NUMBER | {NoneType} for key in sets)


def _kinds_of(annotation: Any) -> _Kinds:
    """The types that JSON gives for a field."""
    origin = get_origin(annotation)
    if origin in (Union, UnionType):
        return frozenset().union(*(_kinds_of(a) for a in get_args(annotation)))
    if origin is Literal:
        return frozenset({str})
    if hasattr(annotation, "__metadata__"):
        return _kinds_of(get_args(annotation)[0])
    if annotation is float:
        return _NUMBER
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return frozenset({dict})
    return frozenset({origin or annotation})
