"""Tables that several pages are made of, and how values stand in them."""

import json
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from mypt.checkpoint.changes import ValueFrom
    from mypt.schema.files.state import DataRecord


def data_size(data: "DataRecord") -> str:
    """`1,115,394 characters, 1,115,394 tokens (...), 0 document borders`."""
    characters = f"{data.characters:,} characters, " if data.characters is not None else ""
    tokens = f"{data.train_tokens + data.val_tokens:,} tokens"
    borders = f", {data.documents:,} document borders" if data.documents is not None else ""
    return f"{characters}{tokens} ({data.train_tokens:,} train, {data.val_tokens:,} val){borders}"


def pairs_table(title: str | None, rows: Iterable[tuple[str, str | Text]]) -> Table:
    """Names and values under a title."""
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, show_header=False)
    table.add_column("name", no_wrap=True)
    table.add_column("value", overflow="fold")
    for name, value in rows:
        table.add_row(name, value)
    return table


def rows_table(title: str, headings: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """Rows of a name and figures under a title and headings."""
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    table.add_column(headings[0], no_wrap=True)
    for heading in headings[1:]:
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(*row)
    return table


def columns_table(
    title: str | None,
    headings: Sequence[str],
    rows: Iterable[Sequence[str | Text]],
    *,
    right: Collection[str] = (),
    whole: Collection[str] = (),
) -> Table:
    """Rows under headings, some of them set to the right, some never folded."""
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for heading in headings:
        table.add_column(
            heading,
            justify="right" if heading in right else "left",
            overflow="ellipsis" if heading in whole else "fold",
            no_wrap=heading in whole,
        )
    for row in rows:
        table.add_row(*row)
    return table


def course(values: Sequence["ValueFrom"], shown: Callable[[Any], str]) -> str:
    """`0.0003, from step 500 0.0001`: every value that a setting had."""
    first, *later = values
    return ", ".join([shown(first.value), *(f"from step {v.from_step:,} {shown(v.value)}" for v in later)])


def plain(value: object) -> str:
    """As it stands in the JSON file: true, null, 0.0003, rope."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
