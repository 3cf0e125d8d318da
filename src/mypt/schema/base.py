"""What the models of the schema have in common, how a setting is declared, and how what is wrong is told."""

import json
from collections.abc import Mapping
from copy import copy
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import to_json

OnResume = Literal["harmless", "trajectory", "refused"]
"""What a change of a setting means to a run that goes on: nothing, another trajectory, or a refusal."""


class Model(BaseModel):
    """A model whose validators are built on first use, for most calls need few of them."""

    model_config = ConfigDict(defer_build=True, protected_namespaces=())


class Record(Model):
    """What a file holds: nothing that it does not know, and nothing that changes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Section(Record):
    """A group of settings. Unknown keys, NaN and infinities are refused."""

    model_config = ConfigDict(allow_inf_nan=False)


def setting(
    default: Any,
    help: str,  # noqa: A002 - the word that users and typer have for it
    *,
    on_resume: OnResume,
    unit: str | None = None,
    option: bool = True,
    config: bool | None = None,
    names: tuple[str, ...] = (),
    **bounds: Any,
) -> Any:
    """Declare one setting of a `Section`.

    Args:
        default: the value when nobody gives one.
        help: a full sentence for `--help` and the docs.
        on_resume: what changing it means to a run that goes on.
        unit: what the number counts, shown in `--help`.
        option: whether the command line has it; False for a field that mypt records and nobody sets.
        config: whether a config file may have it; by default what the command line has.
        names: further spellings of the command line option, such as `--lr`.
        **bounds: pydantic's own constraints (gt, ge, lt, le, pattern).
    """
    extra: dict[str, Any] = {"on_resume": on_resume, "unit": unit, "option": option, "names": list(names)}
    extra["config"] = option if config is None else config
    return Field(default=default, description=help, json_schema_extra=extra, **bounds)


def same_as(section: type[Section], name: str) -> Any:
    """Declare a setting as another section has it."""
    return copy(section.model_fields[name])


def extra_of(section: type[Record], name: str) -> dict[str, Any]:
    """The declaration's extras (`on_resume`, `unit`, `option`, `config`, `names`) of one field."""
    extra = section.model_fields[name].json_schema_extra
    return dict(extra) if isinstance(extra, dict) else {}


def explain_validation(error: ValidationError, given: Mapping[str, str] | None = None) -> list[str]:
    """Pydantic's findings, one readable line each: `source: field value: what is wrong`."""
    lines: dict[tuple[str, str], str] = {}
    for item in error.errors():
        field = str(item["loc"][0]) if item["loc"] else ""
        source = f"{(given or {}).get(field, '')}: ".removeprefix(": ")
        message = item["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
        if item["type"] == "string_pattern_mismatch" and field == "device":
            message = "must be auto, cpu, mps, cuda or cuda:N"
        if item["type"] == "extra_forbidden":
            message = "is not a setting"
        value = f"{field} {_shown(item['input'])}: " if field else ""
        lines.setdefault((field, "" if field else message), f"{source}{value}{message}.")
    return list(lines.values())


def _shown(value: object) -> str:
    return str(value) if isinstance(value, str) else json.dumps(value, default=str)


def to_json_text(value: object, *, indent: bool = False) -> str:
    """A model, or a dataclass of models, as JSON; losses that are not finite become null."""
    return to_json(value, indent=2 if indent else None, inf_nan_mode="null").decode("utf-8")
