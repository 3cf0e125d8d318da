"""Options made from the schema: each setting's help, unit, default and choices."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import Any, get_args

import typer
from typer.core import TyperOption
from typer.main import get_command_from_info
from typer.models import CommandInfo

from mypt.schema.base import Section, extra_of

_GIVEN = "mypt.settings"
"""Where the context of a call keeps the settings that were given."""


def options_of(sections: Mapping[str, type[Section]]) -> list[TyperOption]:
    """The option of every setting that the command line has, under the heading of its section."""
    return [
        _option(name, heading, section)
        for heading, section in sections.items()
        for name in section.model_fields
        if extra_of(section, name)["option"]
    ]


def uncommon_settings(sections: Mapping[str, type[Section]], *, recorded: bool) -> frozenset[str]:
    """The settings that a short help leaves out; none where no section says which are common.

    Args:
        sections: of the verb.
        recorded: whether those that a recorded run refuses to change are none that people set.
    """
    extras = {name: extra_of(section, name) for section in sections.values() for name in section.model_fields}
    if not any(extra["common"] for extra in extras.values()):
        return frozenset()
    refused = {name for name, extra in extras.items() if recorded and extra["on_resume"] == "refused"}
    return frozenset(name for name, extra in extras.items() if name in refused or not extra["common"])


def given_settings(ctx: typer.Context) -> dict[str, Any]:
    """The settings that were given in a call, by field name; what was not given is not in it."""
    return dict(ctx.meta.get(_GIVEN, {}))


def parameters_of(function: Callable[..., None]) -> list[Any]:
    """The arguments and options that typer makes of a function's parameters."""
    info = CommandInfo(callback=function)
    return get_command_from_info(info, pretty_exceptions_short=False, rich_markup_mode=None).params


def _keep_given(ctx: typer.Context, param: typer.CallbackParam, value: Any) -> None:
    if value is not None:
        ctx.meta.setdefault(_GIVEN, {})[param.name] = value


def _option(name: str, heading: str, section: type[Section]) -> TyperOption:
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
        spelling, metavar = f"{spelling}/--no-{spelling[2:]}", None
    elif choices:
        metavar = "|".join(choices)
    elif several:
        metavar = "TEXT" if field.default == () else "NAME=PATH"
    else:
        metavar = _metavar(kinds)
    declared = typer.Option(
        None, spelling, *extra["names"], help=help_text, metavar=metavar, rich_help_panel=heading, show_default=False,
        expose_value=False, callback=_keep_given, autocompletion=offered(choices) if choices else None,
    )  # fmt: skip
    return _made(name, declared, is_flag=is_flag, several=several)


def _made(name: str, declared: Any, *, is_flag: bool, several: bool) -> TyperOption:
    """The option that typer makes of a parameter, under the name that the schema has for it."""

    def flag(_: bool | None = declared) -> None: ...
    def texts(_: list[str] | None = declared) -> None: ...
    def text(_: str | None = declared) -> None: ...

    option: TyperOption
    (option,) = parameters_of(flag if is_flag else texts if several else text)
    option.name = name
    return option


def offered(words: Iterable[str]) -> Callable[[str], list[str]]:
    """What a shell offers for a value: the words that begin as it does."""
    return lambda incomplete: [word for word in words if word.startswith(incomplete)]


def _metavar(kinds: Sequence[Any]) -> str:
    if Path in kinds:
        return "PATH"
    return "NUMBER" if float in kinds else "COUNT" if int in kinds else "TEXT"
