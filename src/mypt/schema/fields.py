"""How a setting is declared: one call gives its default, bounds, help text, unit and resume rule."""

from copy import copy
from typing import Any, Literal

from pydantic import ConfigDict, Field

from mypt.schema.base import Record

OnResume = Literal["harmless", "trajectory", "refused"]
"""What a change of a setting means to a run that goes on: nothing, another trajectory, or a refusal."""


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
