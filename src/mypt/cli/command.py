"""Commands that turn the words of a call into values themselves.

typer leaves that to pydantic, which takes longer to load than all else that a verb does which only reads.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args, get_origin

import typer
from typer.core import TyperCommand, TyperGroup


class Words:
    """Gives the value of one argument or option; of typer's further checks, only `min` is made.

    Args:
        convert: makes a value of one word.
        several: whether the parameter takes several words.
    """

    def __init__(self, convert: Callable[[str], object], several: bool) -> None:
        self.convert = convert
        self.several = several

    def coerce(self, value: Any, param: Any, ctx: Any) -> object:
        """The value of the words that were given.

        Raises:
            typer.BadParameter: they make no such value.
        """
        if value is None:
            return () if self.several else None
        try:
            return [self.convert(word) for word in value] if self.several else self.convert(value)
        except ValueError as error:
            raise typer.BadParameter(f"{value} {error}.", ctx=ctx, param=param) from error


class Command(TyperCommand):
    """A verb."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Its parameters."""
        return _own(super().get_params(ctx))


class Group(TyperGroup):
    """Verbs under a common word."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Its parameters."""
        return _own(super().get_params(ctx))


def _own(parameters: list[Any]) -> list[Any]:
    for parameter in parameters:
        if (words := _words(parameter)) is not None:
            parameter.get_runtime_param = lambda words=words: words
    return parameters


def _words(parameter: Any) -> Words | None:
    """What gives the value of a parameter; None for a kind that is left to typer."""
    annotation = getattr(getattr(parameter, "type_descriptor", None), "annotation", None)
    several = get_origin(annotation) is list
    kind = get_args(annotation)[0] if several else annotation
    if kind is int:
        return Words(lambda word: _whole_number(word, parameter.min), several)
    return Words(kind, several) if kind in (str, Path, bool) else None


def _whole_number(word: str, least: int | None) -> int:
    try:
        number = int(word)
    except ValueError:
        raise ValueError("is not a whole number") from None
    if least is not None and number < least:
        raise ValueError(f"is less than {least}")
    return number
