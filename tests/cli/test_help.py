"""Help pages: what people set on a screen, the rest on request, whole at any width."""

import re
from functools import cache
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from mypt.cli.app import app
from mypt.schema.base import extra_of
from mypt.schema.settings.run import SECTIONS

TOP: Any = get_command(app)
VERBS = [
    words
    for name, command in TOP.commands.items()
    for words in ([[name, inner] for inner in command.commands] if hasattr(command, "commands") else [[name]])
]
GROUPS = [[], *([name] for name, command in TOP.commands.items() if hasattr(command, "commands"))]
SETTINGS = {name: extra_of(s, name) for s in SECTIONS.values() for name in s.model_fields}
SCREEN = 66
"""Lines of the longest page at 80 columns, or about a screen."""


@cache
def page(*words: str, width: int = 80) -> str:
    result = CliRunner().invoke(app, [*words], env={"COLUMNS": str(width)})
    assert result.exit_code == 0
    return result.output


def options(text: str) -> set[str]:
    """The settings whose options a page shows."""
    return {
        name for name in SETTINGS if re.search(rf"^  (?:--?[\w-]+, )*--{name.replace('_', '-')}(?![\w-])", text, re.M)
    }


@pytest.mark.parametrize("words", [*VERBS, *GROUPS], ids=" ".join)
@pytest.mark.parametrize("width", [30, 60, 80, 140])
def test_a_page_is_whole_at_any_width_and_about_a_screen_long(words: list[str], width: int) -> None:
    text = page(*words, "--help", width=width)
    assert "…" not in text
    assert not [
        line for line in text.splitlines()
        if len(line.rstrip()) > width and not line.startswith("Example: ") and " more options: " not in line
    ]  # fmt: skip
    assert len(text.splitlines()) <= SCREEN or width < 80
    assert "".join(page(*words, "--help", width=200).split()) == "".join(text.split())


@pytest.mark.parametrize("verb", ["train", "resume"])
def test_a_short_page_has_what_people_set_and_names_the_one_with_all(verb: str) -> None:
    short, whole = page(verb, "--help"), page(verb, "--help-all")
    common = {n for n, extra in SETTINGS.items() if extra["common"]}
    if verb == "resume":
        common -= {n for n, extra in SETTINGS.items() if extra["on_resume"] == "refused"}
    assert options(short) == common and 5 < len(common) < 17
    assert options(whole) == {n for n, extra in SETTINGS.items() if extra["option"]}
    assert [line for line in whole.splitlines() if line in SECTIONS] == [*SECTIONS]
    left_out = len(re.findall(r"^  -", whole, re.M)) - len(re.findall(r"^  -", short, re.M))
    assert f"{left_out} more options: mypt {verb} --help-all" in short
    assert "Example: mypt " in short and "Example: mypt " in whole
    assert "more options" not in whole


def test_a_page_that_is_short_anyway_leaves_nothing_out() -> None:
    text = page("inspect", "--help")
    assert "--help-all" not in text and "--width" in text and "--debug" in text


def test_a_shell_is_offered_every_option(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_MYPT_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "mypt train --")
    monkeypatch.setenv("COMP_CWORD", "2")
    offered = set(CliRunner().invoke(app, [], prog_name="mypt").output.split())
    wanted = {f"--{n.replace('_', '-')}" for n, extra in SETTINGS.items() if extra["option"]}
    assert wanted | {"--help-all", "--preset", "--debug"} <= offered
