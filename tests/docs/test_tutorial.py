"""The tutorial: its commands work one after the other, and each was printed by the one before."""

import os
import urllib.request
from pathlib import Path

import pytest
from rich.console import Console
from typer import testing

from tests.board.test_verb import board
from tests.docs.pages import ROOT, SHELL, Shell, blocks, lines

PAGE = ROOT / "docs" / "tutorial.md"
BOARD = "mypt board --open"
STEPS = [line.text for block in blocks(PAGE) if block.language in SHELL for line in lines(block)]
FIRST, *NEXT = [line for line in STEPS if line.startswith("mypt ")]


def asked() -> str:
    """The page of a board that is opened without a browser."""
    with board() as (_, port), urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20) as page:
        text: str = page.read().decode()
        return text


@pytest.fixture
def in_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `mypt generate` take what it writes to for a terminal, where alone it says what may come next."""
    monkeypatch.setattr(testing._NamedTextIOWrapper, "isatty", lambda _: True, raising=False)
    monkeypatch.setattr(Console, "is_terminal", property(lambda _: True))


def test_it_begins_with_the_command_of_the_readme_and_leads_through_every_stage() -> None:
    assert FIRST in (ROOT / "README.md").read_text(encoding="utf-8")
    assert [line.split()[1] for line in (FIRST, *NEXT)] == [
        "train", "board", "train", "compare", "generate", "export", "verify",
    ]  # fmt: skip


@pytest.mark.skipif(os.name != "posix", reason="the board is ended by a signal")
def test_each_step_is_a_command_that_the_one_before_has_printed(shell: Shell, request: pytest.FixtureRequest) -> None:
    shell.run("mypt rm dante --purge")
    said = shell.run(FIRST)
    for step in NEXT:
        assert step in [line.strip().removeprefix("Watch it from another terminal: ") for line in said.splitlines()]
        if step == BOARD:  # stands beside what goes on
            assert Path.cwd().joinpath("checkpoints").is_dir() and "<title>" in asked()
            continue
        if step.startswith("mypt generate"):
            request.getfixturevalue("in_a_terminal")
        said = shell.run(step)
    assert not shell.failed
