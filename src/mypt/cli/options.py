"""Options made from the schema: each setting's help, unit, default and choices."""

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import Any, get_args

import typer

from mypt.schema.base import Section, extra_of


def options_of(sections: Mapping[str, type[Section]]) -> dict[str, inspect.Parameter]:
    """The option of every setting that the command line has, by field name, under the heading of its section."""
    return {
        name: _option(name, heading, section)
        for heading, section in sections.items()
        for name in section.model_fields
        if extra_of(section, name)["option"]
    }


def _option(name: str, heading: str, section: type[Section]) -> inspect.Parameter:
    """One field of the schema as an option; its value stays text, so that the schema finds every fault at once."""
    field, extra = section.model_fields[name], extra_of(section, name)
    spelling = "--" + name.replace("_", "-")
    kinds = [kind for kind in get_args(field.annotation) or (field.annotation,) if kind is not NoneType]
    is_flag = kinds == [bool]
    choices = [c for kind in kinds for c in (kind, *get_args(kind)) if isinstance(c, str)]
    several = field.default in ((), {})
    default = "" if several or field.default is None else field.default
    if is_flag and field.default is not None:
        default = "on" if field.default else "off"
    notes = [str(n) for n in (extra["unit"], f"default {default}" if str(default) else None) if n]
    help_text = f"{field.description}" + (f" [dim]({'; '.join(notes)})[/dim]" if notes else "")
    if is_flag:
        annotation: Any = bool | None
        spelling, metavar = f"{spelling}/--no-{spelling[2:]}", None
    elif several:
        annotation, metavar = list[str] | None, "TEXT" if field.default == () else "NAME=PATH"
    else:
        annotation, metavar = str | None, "|".join(choices) or _metavar(kinds)
    option = typer.Option(
        None, spelling, *extra["names"], help=help_text, metavar=metavar, rich_help_panel=heading, show_default=False
    )
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=option, annotation=annotation)


def _metavar(kinds: Sequence[Any]) -> str:
    if Path in kinds:
        return "PATH"
    return "NUMBER" if float in kinds else "COUNT" if int in kinds else "TEXT"
