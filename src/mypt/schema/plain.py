"""Records checked and completed without pydantic, by the JSON Schema that is made of their models.

To load the models takes longer than all else that a verb does which only reads. `records.json` beside this module is
what the models publish; a test keeps the two equal.
"""

import json
import re
from collections.abc import Callable
from functools import cache
from math import isfinite
from pathlib import Path
from types import SimpleNamespace
from typing import Any

Schema = dict[str, Any]
SCHEMA_FILE = Path(__file__).with_name("records.json")
_TYPES: dict[str, type] = {"integer": int, "string": str, "boolean": bool, "null": type(None)}
_BOUNDS: dict[str, Callable[[Any, Any], bool]] = {
    "minimum": lambda value, bound: value >= bound,
    "maximum": lambda value, bound: value <= bound,
    "exclusiveMinimum": lambda value, bound: value > bound,
    "exclusiveMaximum": lambda value, bound: value < bound,
    "pattern": lambda value, pattern: re.search(pattern, value) is not None,
    "enum": lambda value, choices: value in choices,
    "const": lambda value, only: value == only,
}


class UnfitError(ValueError):
    """A value is not what the schema asks for; the model can say why, or knows how to convert it."""


class Plain(SimpleNamespace):
    """A record with the fields of its model and their defaults, in their order, and without its methods."""


@cache
def definitions() -> dict[str, Schema]:
    """The schema of each record and event by the name of its model."""
    return dict(json.loads(SCHEMA_FILE.read_bytes())["$defs"])


def plain(model: str, value: object) -> Any:
    """A JSON object as the record that a model describes, in all but rules that span several fields.

    Raises:
        UnfitError: it is another one.
    """
    return _read(definitions()[model], value)


def to_json_text(value: object, *, indent: bool = False) -> str:
    """A dataclass, or whatever else is made of plain records, as JSON in UTF-8; what is no number becomes null."""
    import orjson  # half a millisecond that most tables do without

    return orjson.dumps(value, default=_fields, option=orjson.OPT_INDENT_2 if indent else None).decode("utf-8")


def plain_values(value: object) -> Any:
    """The same as `plain_json`, as dictionaries, lists, texts and numbers."""
    return json.loads(to_json_text(value))


def resolved(schema: Schema) -> Schema:
    """A schema itself, or the one that it refers to."""
    return definitions()[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema


def _read(schema: Schema, value: object) -> Any:
    schema = resolved(schema)
    found = _of_any(schema["anyOf"], value) if "anyOf" in schema else _of_type(schema, value)
    for keyword in schema.keys() & _BOUNDS.keys():
        if not _BOUNDS[keyword](value, schema[keyword]):
            raise UnfitError
    return found


def _of_any(choices: list[Schema], value: object) -> Any:
    for choice in choices:
        try:
            return _read(choice, value)
        except UnfitError:
            continue
    raise UnfitError


def _of_type(schema: Schema, value: object) -> Any:
    match schema.get("type"), value:
        case None, _:
            return value
        case "object", dict():
            return _record(schema, value) if "properties" in schema else _mapping(schema, value)
        case "array", list():
            return tuple(_read(schema["items"], item) for item in value)
        case "number", int() | float() if type(value) is not bool and isfinite(value):
            return float(value)
        case str(name), _ if type(value) is _TYPES.get(name):
            return value
    raise UnfitError


def _record(schema: Schema, value: dict[str, Any]) -> Plain:
    properties = schema["properties"]
    if not schema.get("additionalProperties", True) and not value.keys() <= properties.keys():
        raise UnfitError
    fields = {}
    for name, field in properties.items():
        if name not in value and "default" not in field:
            raise UnfitError
        fields[name] = _read(field, value.get(name, field.get("default")))
    return Plain(**fields)


def _mapping(schema: Schema, value: dict[str, Any]) -> dict[str, Any]:
    held = schema.get("additionalProperties", True)
    return {k: _read(held, v) for k, v in value.items()} if isinstance(held, dict) else value


def _fields(value: object) -> dict[str, Any]:
    return {name: held for name, held in vars(value).items() if not name.startswith("_")}
