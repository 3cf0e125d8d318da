"""Base classes of the schema's models, declaration of settings, and validation messages."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from copy import copy
from pathlib import Path
from typing import Any, Literal, Self, TypeGuard, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import to_jsonable_python

from mypt.visible import visible_json

OnResume = Literal["harmless", "gold", "rounding", "trajectory", "refused"]
"""Effect of changing a setting on resume: harmless, changes what becomes gold, changes the trajectory by no more than
the rounding of sums in another order, changes it altogether, or refused."""


_SHOWN = 200
"""Characters of a wrong value that a message shows."""


P = TypeVar("P", str, Path)


class Model(BaseModel):
    """Base model. Validators are built on first use."""

    model_config = ConfigDict(defer_build=True, protected_namespaces=())


class Record(Model):
    """Content of a file: immutable, and unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Section(Record):
    """A group of settings. NaN, infinities and whole numbers beyond 64 bits are refused."""

    model_config = ConfigDict(allow_inf_nan=False)

    @model_validator(mode="after")
    def _check_size(self) -> Self:
        for name, value in self:
            if isinstance(value, int) and not -(2**63) <= value < 2**63:
                raise ValueError(f"{name} must be a number of at most 64 bits")
        return self


def setting(
    default: Any,
    help: str,  # noqa: A002 - named as in typer
    *,
    on_resume: OnResume,
    unit: str | None = None,
    option: bool = True,
    config: bool | None = None,
    names: tuple[str, ...] = (),
    common: bool = False,
    **bounds: Any,
) -> Any:
    """Declare one setting of a `Section`.

    Args:
        default: default value.
        help: full sentence for `--help` and the docs.
        on_resume: effect of changing it on resume.
        unit: unit, shown in `--help`.
        option: whether it is a command-line option; False for fields that mypt fills in.
        config: whether a config file may contain it; defaults to `option`.
        names: aliases of the command-line option, such as `--lr`.
        common: whether people often set it; a section with such settings shows only those in `--help`.
        **bounds: pydantic constraints (gt, ge, lt, le, pattern).
    """
    extra: dict[str, Any] = {"on_resume": on_resume, "unit": unit, "option": option, "names": list(names)}
    extra |= {"config": option if config is None else config, "common": common}
    return Field(default=default, description=help, json_schema_extra=extra, **bounds)


def place(path: P) -> P:
    """A path that can be asked for: no system takes a NUL."""
    if "\0" in str(path):
        raise ValueError("holds a NUL")
    return path


def encodable(value: str) -> str:
    """A text that can be encoded: a word of a call that is not UTF-8 has halves of characters in it."""
    if any("\ud800" <= char <= "\udfff" for char in value):
        raise ValueError("is not UTF-8")
    return value


def is_folder_name(name: object) -> TypeGuard[str]:
    """Whether a value is a name that can stand beside others in a folder."""
    return isinstance(name, str) and name not in ("", ".", "..") and not set(name) & set("/\\\0")


def same_as(section: type[Section], name: str) -> Any:
    """Declare a setting with the same default, help and bounds as in another section."""
    return copy(section.model_fields[name])


def extra_of(section: type[Record], name: str) -> dict[str, Any]:
    """The `on_resume`, `unit`, `option`, `config`, `names` and `common` that a field was declared with."""
    extra = section.model_fields[name].json_schema_extra
    return dict(extra) if isinstance(extra, dict) else {}


def explain_validation(error: ValidationError, given: Mapping[str, str] | None = None) -> list[str]:
    """One line for each validation error: `source: field value: message`."""
    lines: dict[tuple[str, str], str] = {}
    for item in error.errors():
        field = str(item["loc"][0]) if item["loc"] else ""
        source = f"{(given or {}).get(field, '')}: ".removeprefix(": ")
        message = item["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
        if item["type"] == "string_pattern_mismatch" and field == "device":
            message = "must be auto, cpu, mps, cuda or cuda:N"
        if item["type"] == "extra_forbidden":
            message = "is not a setting"
        value = f"{field} {_shown(item['input'], item['type'])}: " if field else ""
        lines.setdefault((field, "" if field else message), f"{source}{value}{message}.")
    return list(lines.values())


def _shown(value: object, fault: str) -> str:
    """A value as it was given, a text that should not be one in quotes."""
    plain = isinstance(value, str) and not fault.endswith("_type")
    text = str(value) if plain else json.dumps(value, default=str)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


class _Repeating(dict[str, Any]):
    """An object of a JSON text in which a key stands more than once, with every value that it had."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.pairs = pairs


def from_json_text(text: str) -> tuple[Any, list[str]]:
    """Decode JSON that people write, and name the keys that an object has more than once.

    Returns:
        The content, in which the last value of such a key stands, and the path of each of them, such as
        `curriculum.phases[0].name`.

    Raises:
        ValueError: it is not JSON.
        RecursionError: it is nested too deeply.
    """
    repeating: list[_Repeating] = []

    def build(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(plain := dict(pairs)) == len(pairs):
            return plain
        repeating.append(_Repeating(pairs))
        return repeating[-1]

    content = json.loads(text, object_pairs_hook=build)
    return content, list(dict.fromkeys(_repeated_keys(content, ""))) if repeating else []


def _repeated_keys(value: object, path: str) -> Iterator[str]:
    """Paths of the keys that stand more than once, those within earlier values of such a key too."""
    if isinstance(value, dict):
        pairs = value.pairs if isinstance(value, _Repeating) else list(value.items())
        within = f"{path}." if path else ""
        yield from (f"{within}{key}" for key, times in Counter(key for key, _ in pairs).items() if times > 1)
        for key, inner in pairs:
            yield from _repeated_keys(inner, f"{within}{key}")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _repeated_keys(inner, f"{path}[{number}]")


def to_json_text(value: object, *, indent: bool = False) -> str:
    """Serialize a model or a dataclass to JSON that a terminal can show; NaN and infinities become null."""
    plain = to_jsonable_python(value, inf_nan_mode="null")
    how: dict[str, Any] = {"indent": 2} if indent else {"separators": (",", ":")}
    return visible_json(json.dumps(plain, ensure_ascii=False, **how))
