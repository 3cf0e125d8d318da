"""Tables that several pages are made of, and how values stand in them."""

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Column, Table
from rich.text import Text

from mypt.visible import visible

if TYPE_CHECKING:
    from mypt.checkpoint.changes import ValueFrom
    from mypt.schema.files.state import DataRecord

_LEAST, _LEAST_TEXT, _TEXT = 14, 20, 40
"""How narrow a column may become, and one with texts of more than so many characters."""
_INDENT = 4
"""Of what stands below the first cell of a row in a list."""


def data_size(data: "DataRecord") -> str:
    """`1,115,394 characters, 1,115,394 tokens (...), 0 document borders`."""
    characters = f"{data.characters:,} characters, " if data.characters is not None else ""
    tokens = f"{data.train_tokens + data.val_tokens:,} tokens"
    borders = f", {data.documents:,} document borders" if data.documents is not None else ""
    return f"{characters}{tokens} ({data.train_tokens:,} train, {data.val_tokens:,} val){borders}"


class FittingTable(Table):
    """A table that is never wider than the terminal and cuts nothing.

    Where it has too many columns, those that it can do without are left out. Where that is not enough, it becomes a
    list: each row as its first cell and, below, the others under their headings.

    Args:
        title: what stands above.
        spare: headings of columns that it can do without, the first to go first.
        **how: as in rich.
    """

    def __init__(self, title: str | None, *, spare: Sequence[str] = (), **how: Any) -> None:
        super().__init__(title=title, title_justify="left", box=SIMPLE_HEAD, **how)
        self.spare = spare

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The table, or the list, for the width that there is."""
        columns = [(column, *_widths(column)) for column in self.columns]
        for heading in (None, *self.spare):
            columns = [one for one in columns if one[0].header != heading]
            room = options.max_width - self._around(len(columns))
            if sum(least for *_, least in columns) <= room:
                yield self._as_table(columns, room)
                return
        yield from self._as_list(options.max_width)

    def _around(self, columns: int) -> int:
        """What the edges of a table and the spaces beside its cells take."""
        _, right, _, left = self.padding
        return columns * (left + right) - (0 if self.pad_edge else left + right) + columns + 1

    def _as_table(self, columns: list[tuple[Column, int, int]], room: int) -> Table:
        widths = [min(widest, room) for _, widest, _ in columns]
        for _ in range(sum(widths) - room):
            widths[max(range(len(columns)), key=lambda i: (widths[i] > columns[i][2]) * widths[i])] -= 1
        table = Table(
            title=self.title, title_justify="left", box=self.box, show_header=self.show_header,
            padding=self.padding, pad_edge=self.pad_edge,
        )  # fmt: skip
        for (column, *_), width in zip(columns, widths, strict=True):
            table.add_column(column.header, justify=column.justify, overflow="fold", width=width)
        for cells in zip(*(column.cells for column, *_ in columns), strict=True):
            table.add_row(*cells)
        return table

    def _as_list(self, width: int) -> Iterator[RenderableType]:
        headings = [visible(str(column.header)) for column in self.columns[1:]]
        beside = min(max(map(cell_len, headings), default=0), width // 2 - _INDENT)
        if self.title:
            yield Text(visible(str(self.title)), "italic")
        for name, *cells in zip(*(column.cells for column in self.columns), strict=True):
            called = f"{self.columns[0].header} " if str(name)[:1].isdigit() else ""
            yield Padding(Text(visible(called + str(name)), "bold"), (0, 0, 0, 2))
            grid = Table.grid(padding=(0, 1, 0, 0))
            for column in (beside, None)[not beside :]:
                grid.add_column(overflow="fold", width=column)
            for heading, cell in zip(headings, cells, strict=True):
                if str(cell).strip():
                    value = cell.strip() if isinstance(cell, str) else cell
                    grid.add_row(*(heading, value)[not beside :])
            yield Padding(grid, (0, 0, 0, _INDENT))
        yield ""


def _widths(column: Column) -> tuple[int, int]:
    """What a column takes with every cell in one line, and at least."""
    cells = (line for cell in (column.header, *column.cells) for line in visible(str(cell)).splitlines())
    widest = max(map(cell_len, cells), default=0)
    least = column.min_width or (_LEAST_TEXT if widest > _TEXT else _LEAST)
    return widest, widest if column.no_wrap else min(widest, least)


def pairs_table(title: str | None, rows: Iterable[tuple[str, str | Text]]) -> Table:
    """Names and values under a title."""
    table = FittingTable(title, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column()
    for name, value in rows:
        table.add_row(name, value)
    return table


def rows_table(title: str, headings: Sequence[str], rows: Iterable[Sequence[str]], spare: Sequence[str] = ()) -> Table:
    """Rows of a name and figures under a title and headings."""
    return columns_table(title, headings, rows, right=headings[1:], whole=headings[1:], spare=spare)


def columns_table(
    title: str | None,
    headings: Sequence[str],
    rows: Iterable[Sequence[str | Text]],
    *,
    right: Collection[str] = (),
    whole: Collection[str] = (),
    spare: Sequence[str] = (),
) -> Table:
    """Rows under headings, some of them set to the right, some never folded, some left out where there is no room."""
    table = FittingTable(title, spare=spare)
    for heading in headings:
        table.add_column(heading, justify="right" if heading in right else "left", no_wrap=heading in whole)
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
