"""Every command of every page is run, what the pages show is what is printed, and every exception has its reason."""

from pathlib import Path

import pytest

from tests.docs.pages import (
    COMMANDS,
    PAGES,
    SHELL,
    TOP,
    Block,
    Shell,
    blocks,
    inline_calls,
    lines,
    mypt_words,
    parameters_of,
    parse,
    pipeline,
    python_block,
    verb_of,
    within,
)
from tests.docs.scenes import FOREIGN, GENERATED, NOT_PRINTED, NOT_RUN, SCENES
from tests.docs.world import json_of

CHANGES = PAGES[0].with_name("CHANGELOG.md")
LINES = [line for page in PAGES for block in blocks(page) if block.language in SHELL for line in lines(block)]
"""Every line for a shell."""


@pytest.mark.parametrize("page", [p for p in PAGES if p.name not in GENERATED], ids=lambda page: page.name)
def test_what_a_page_tells_to_do_works_and_prints_what_it_shows(page: Path, shell: Shell) -> None:
    names: dict[str, object] = {"__name__": "docs"}
    for before in SCENES.get(page.name, "").strip().splitlines():
        shell.run(before.strip(), as_given=True)
    for block in blocks(page):
        if block.language == "python":
            shell.printed.append(python_block(block, names))
        for line in lines(block) if block.language in SHELL else []:
            if not excepted(NOT_RUN, line) and pipeline(line.text)[0][0][0] not in FOREIGN:
                shell.run(line.text)
    shown = [block for block in blocks(page) if block.language == "text" and not excepted(NOT_PRINTED, block)]
    wrong = [block.text for block in shown if not any(within(block.text, said) for said in shell.printed)]
    assert not shell.failed and not wrong, "\n\n".join([*shell.failed, *(f"never printed:\n{text}" for text in wrong)])


def excepted(exceptions: dict[tuple[str, str], str], block: Block) -> list[tuple[str, str]]:
    """The exceptions that a block or a line of one is named by."""
    return [(page, words) for page, words in exceptions if page == block.page and block.text.startswith(words)]


@pytest.mark.parametrize("page", ["config.md", "train.md"])
def test_a_config_file_of_a_page_is_right_where_its_data_are(page: str, shell: Shell) -> None:
    Path("page.json").write_text(json_of(page), encoding="utf-8")
    for folder in ("code_eval", "general", "dante") if page == "config.md" else ():
        shell.run(f"mypt prepare texts/ --out data/{folder}")
    shell.run("mypt config check page.json")
    assert not shell.failed, shell.failed
    assert "right" in shell.printed[-1].splitlines()[-1]


def test_what_is_not_run_is_read_by_the_command_line() -> None:
    programs = [program for line in LINES if excepted(NOT_RUN, line) for program in pipeline(line.text)[0]]
    calls = [words for program in programs if (words := mypt_words(program))]
    assert len(calls) > 8
    for words in calls:
        parse(words)


@pytest.mark.parametrize("page", [*PAGES, CHANGES], ids=lambda page: page.name)
def test_calls_within_sentences_have_verbs_and_options_that_there_are(page: Path) -> None:
    for words in inline_calls(page):
        verb = verb_of(words)
        if (verb in TOP and verb not in COMMANDS) or verb.startswith("-") or verb == "VERB":
            continue  # a group of verbs, or all of them
        assert verb in COMMANDS, words
        known = {o for p in parameters_of(verb) for o in (*p.opts, *p.secondary_opts)} | {"--help", "--help-all"}
        for word in words[1:]:
            assert not word.startswith("--") or word.split("=")[0].replace("_", "-") in known, words


def test_every_exception_is_still_there() -> None:
    assert len(LINES) > 100
    shown = [block for page in PAGES for block in blocks(page) if block.language == "text"]
    for exceptions, named in ((NOT_RUN, LINES), (NOT_PRINTED, shown)):
        assert sorted(key for block in named for key in excepted(exceptions, block)) == sorted(exceptions)
    assert {pipeline(line.text)[0][0][0] for line in LINES} >= FOREIGN.keys()
    assert {page.name for page in PAGES} >= {*GENERATED, *SCENES}


@pytest.mark.parametrize(
    ("shown", "same"),
    [
        ("  a   b\n ───────\n  x   7", True),
        ("  a   b\n ─────\n  x   12.5", True),
        ("  a   b\n ───────", False),
        ("  a   c\n ───────\n  x   7", False),
        ("All of it: 9 checks.", True),
        ("All of it: 8 checks.", False),
        ("Result\n  a   b\n ───────\n  x   7\nAll of it: 9 checks.", True),
        ("Result\n...\nAll of it: 9 checks.", True),
        ("Result\nAll of it: 9 checks.", False),
    ],
)
def test_a_page_may_show_whole_pieces_alone(shown: str, same: bool) -> None:
    assert within(shown, "Result\n\n  a   b\n ───────\n  x   3.1\n\nAll of it: 9 checks.\n") is same
