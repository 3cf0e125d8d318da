"""Help pages: what a verb does, and its options by section; in a narrow terminal each option has lines of its own."""

import re
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from mypt.cli.console import ShownConsole

_RARE = {"model_name", "ignore_unknown", "width", "debug"}
"""Options that are no settings and that a short page leaves out too."""
_TERM = 32
"""The most columns of an option beside its help; a longer one has a line of its own."""
_NARROW = 70
"""Columns below which every option has a line of its own."""


def show_help(command: Any, ctx: Any, left_out: Collection[str] = ()) -> None:
    """Show the help of a verb, or of a group of them.

    Args:
        command: the verb or the group.
        ctx: the context of its call.
        left_out: names of settings that the page does not show; nor does it show other options that few call for.
    """
    every, shown = command.get_params(ctx), ShownConsole()
    parameters = [p for p in every if p.name not in {*left_out, *_RARE}] if left_out else every
    usage = " ".join((ctx.command_path, *command.collect_usage_pieces(ctx)))
    shown.print(Text.assemble(("Usage: ", "bold"), usage))
    for paragraph in re.split(r"\n\s*\n", command.help or ""):
        shown.print("", _text(paragraph), sep="\n")
    sections = _sections(command, ctx, parameters)
    column = min(max(term.cell_len for rows in sections.values() for term, _ in rows) + 4, _TERM)
    for heading, rows in sections.items():
        shown.print("", Text(heading, "bold"), *_entries(rows, column, shown.width), sep="\n")
    shown.print()
    if more := len(every) - len(parameters):
        shown.print(f"{more} more options: {ctx.command_path} --help-all", soft_wrap=True)
    if command.epilog:
        shown.print(_text(command.epilog), soft_wrap=True)


def _sections(command: Any, ctx: Any, parameters: Iterable[Any]) -> dict[str, list[tuple[Text, Text]]]:
    """The terms of a page by heading, each with what it means."""
    sections: dict[str, list[tuple[Text, Text]]] = {"Commands": [], "Arguments": [], "Options": []}
    for parameter in parameters:
        is_option = parameter.param_type_name == "option"
        heading = getattr(parameter, "rich_help_panel", None) or ("Options" if is_option else "Arguments")
        term = _option(parameter) if is_option else Text(parameter.metavar or parameter.name.upper(), "cyan")
        sections.setdefault(heading, []).append((term, _text(parameter.help or "")))
    if hasattr(command, "list_commands"):
        verbs = [command.get_command(ctx, name) for name in command.list_commands(ctx)]
        sections["Commands"] = [(Text(verb.name, "cyan"), _text(verb.get_short_help_str(limit=1000))) for verb in verbs]
    return {heading: rows for heading, rows in sections.items() if rows}


def _option(option: Any) -> Text:
    """`--lr, --learning-rate NUMBER`, or `--bias / --no-bias` of a flag."""
    term = Text(", ".join(sorted(option.opts, key=len)), "cyan")
    if option.secondary_opts:
        term.append(" / ", "not cyan").append(", ".join(option.secondary_opts))
    if not option.is_flag:
        term.append(f" {option.metavar or option.name.rpartition('_')[2].upper()}", "not cyan yellow")
    return term


def _entries(rows: Iterable[tuple[Text, Text]], column: int, width: int) -> Iterator[RenderableType]:
    """Each term with its meaning: beside it where there is room, else below."""
    for term, meaning in rows:
        if width < _NARROW or term.cell_len + 4 > column:
            yield Padding(term, (0, 0, 0, 2))
            yield Padding(meaning, (0, 0, 0, 6 if width < _NARROW else column))
        else:
            line = Table.grid(padding=0)
            line.add_column(width=column)
            line.add_column(ratio=1, overflow="fold")
            line.add_row(Text("  ").append_text(term), meaning)
            yield line


def _text(markup: str) -> Text:
    """A help text, whose lines are no lines of the page."""
    return Text.from_markup(" ".join(markup.split()))
