"""Tables of any content fit terminals of any width: nothing is cut, and what is left out is what may be."""

import io
import re
from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.cells import cell_len

from mypt.cli.console import ShownConsole
from mypt.cli.render.tables import columns_table, pairs_table

CELL = st.text(st.sampled_from("abc xyz019-/é漢…"), max_size=60) | st.from_regex(r"\A[a-z_]{1,30}\Z")


def lines(table: object, width: int) -> list[str]:
    shown = ShownConsole(file=io.StringIO(), width=width)
    shown.print(table)
    assert isinstance(shown.file, io.StringIO)
    return [line.rstrip() for line in shown.file.getvalue().splitlines()]


def letters(cells: Sequence[str]) -> list[str]:
    return sorted("".join("".join(cells).split()))


@given(
    st.integers(1, 6).flatmap(lambda n: st.lists(st.lists(CELL, min_size=n, max_size=n), min_size=1, max_size=5)),
    st.integers(20, 140), st.sets(st.integers(0, 5)), st.sets(st.integers(1, 5)),
)  # fmt: skip
@example([["a" * 60, "1", "2"], ["b", "1", "2"]], 30, {0, 1, 2}, set())
def test_every_letter_is_shown_within_the_width(
    rows: list[list[str]], width: int, whole: set[int], right: set[int]
) -> None:
    headings = [f"h{i}" for i in range(len(rows[0]))]
    table = columns_table(
        "title", headings, rows, whole=[h for i, h in enumerate(headings) if i in whole],
        right=[h for i, h in enumerate(headings) if i in right],
    )  # fmt: skip
    shown = lines(table, width)
    assert all(cell_len(line) <= width for line in shown)
    body = [re.sub(r"h\d( |$)|─", "", line) for line in shown[1:]]
    assert letters(body) == letters([re.sub(r"h\d( |$)|─", "", cell) for row in rows for cell in row])


@pytest.mark.parametrize(
    ("width", "headings"),
    [(80, "name step tokens val"), (35, "name step val"), (34, "name val"), (27, "name val"), (26, ""), (20, "")],
)
def test_what_may_be_left_out_goes_in_its_order_and_then_rows_become_lists(width: int, headings: str) -> None:
    rows = [("dante", "1,000", "64,000", "1.8776"), ("a_name_that_is_long", "10", "640", "2.0000")]
    whole = ("step", "tokens", "val")
    table = columns_table(None, ("name", *whole), rows, right=whole, whole=whole, spare=("tokens", "step"))
    shown = lines(table, width)
    assert " ".join(" ".join(shown[:3]).split("─")[0].split()).startswith(headings)
    as_list = ["  dante", "    step   1,000", "    tokens 64,000", "    val    1.8776"]
    assert (shown[:4] == as_list) == (not headings)


def test_names_and_values_stand_below_each_other_where_they_do_not_fit_beside() -> None:
    table = pairs_table("Plan", [("training text", "a long value that is folded between its words")])
    assert lines(table, 60)[2:4] == [
        "  training text   a long value that is folded between its",
        "                  words",
    ]
    assert lines(table, 30)[:4] == [
        "Plan", "  training text", "    a long value that is", "    folded between its words",
    ]  # fmt: skip


def test_a_row_that_begins_with_a_number_says_of_what() -> None:
    table = columns_table(None, ("step", "event", "val"), [("100", "gold_checkpoint", "1.8776")], whole=("event",))
    assert lines(table, 20)[:2] == ["  step 100", "    event gold_check"]
