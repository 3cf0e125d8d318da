"""The documentation is true: commands parse, pages exist, snippets and examples run."""

import json
import os
import re
import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pydantic import TypeAdapter
from rich.text import Text

from mypt.checkpoint.describe import BundleDescription
from mypt.checkpoint.overview import Overview
from mypt.log.compare import Comparison
from mypt.log.figures import Summary
from mypt.schema.base import extra_of
from mypt.schema.settings.run import SECTIONS
from tests.conftest import SHORT, TINY, Mypt
from tests.docs.pages import COMMANDS, PAGES, ROOT, blocks, parameters_of

LINKING = [*PAGES, ROOT / "CHANGELOG.md"]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@pytest.mark.parametrize("verb", COMMANDS)
def test_every_verb_has_a_page_and_an_example_in_its_help(verb: str, mypt: Mypt) -> None:
    name = verb.split()[0]
    page = ROOT / "docs" / f"{name}.md"
    assert page.is_file() and f"mypt {verb}" in page.read_text(encoding="utf-8")
    assert f"docs/{name}.md" in (ROOT / "README.md").read_text(encoding="utf-8")
    shown = mypt(*verb.split(), "--help").output
    assert f"Example: mypt {verb}" in shown
    for option in parameters_of(verb):
        assert getattr(option, "help", None), f"{verb} {option.name} has no help"
        assert option.help.rstrip().endswith((".", "]", ")")), option.help


def test_links_lead_somewhere() -> None:
    for page in LINKING:
        for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert target.startswith("http") or (page.parent / target).exists(), f"{page.name}: {target}"


def test_readme_names_every_page() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert all(f"docs/{p.name}" in readme for p in PAGES if p.parent.name == "docs")


def test_the_readme_transcript_has_the_form_that_is_printed_today(mypt: Mypt) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (transcript,) = [b.text for b in blocks(ROOT / "README.md") if "Training finished!" in b.text]
    printed = mypt(
        "train", "demo", "--preset", "tiny", "--max-iters", "2", "--eval-iters", "1", "--block-size", "32"
    ).output

    def shape(text: str) -> list[str]:
        lines = [re.sub(r"\d[\d.,:e-]*[KMBhsmd]?", "#", line.rstrip()) for line in text.splitlines()]
        return [
            line for line in lines if line.startswith(("step #", "  val #", "No --", "Plan", "Training", "  R", "  D"))
        ]

    assert set(shape(transcript)) == set(shape(printed)) and len(shape(printed)) >= 7
    assert "make demo" in readme.split("```")[1] and "make test" in readme.split("```")[1]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.name)
def test_examples_run(
    path: Path, mypt: Mypt, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = ["--preset", "tiny", "--max-iters", "2", "--eval-iters", "1", "--block-size", "16", "--n-embd", "16"]
    mypt("train", "dante", "--input-file", "input.txt", *run)
    argument = {"inspect_runs.py": "checkpoints", "plot_log.py": "logs/train/dante_eval.jsonl"}
    monkeypatch.setattr(sys, "argv", [str(path), argument.get(path.name, "input.txt")])
    runpy.run_path(str(path), run_name="__main__")
    assert len(capsys.readouterr().out.splitlines()) >= 2


DAMAGES: dict[str, Callable[[Path], object]] = {
    "cut": lambda bundle: (bundle / "training_state.json").write_text("{"),
    "no object": lambda bundle: (bundle / "config.json").write_text("[]"),
    "no UTF-8": lambda bundle: (bundle / "tokenizer.json").write_bytes(b"\xff\xfe"),
    "another's": lambda bundle: (bundle / "config.json").write_text('{"model_type": "gpt2"}'),
    "gone": lambda bundle: (bundle / "training_state.json").unlink(),
    "a folder": lambda bundle: [f(bundle / "tokenizer.json") for f in (Path.unlink, Path.mkdir)],
}


def test_the_example_that_lists_runs_names_each_damaged_one_and_shows_the_others(
    mypt: Mypt, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mypt("train", "whole", *SHORT)
    for name, damage in DAMAGES.items():
        damage(Path(shutil.copytree("checkpoints/whole", f"checkpoints/{name}")))
    monkeypatch.setattr(sys, "argv", ["inspect_runs.py", "checkpoints"])
    runpy.run_path(str(ROOT / "examples" / "inspect_runs.py"), run_name="__main__")
    shown = capsys.readouterr()
    assert {line.split()[0] for line in shown.out.splitlines()} == {"name", "whole", "whole_gold", "whole_fp16"}
    told = dict(line.split(" is left out: ") for line in shown.err.splitlines())
    assert told.keys() == DAMAGES.keys() and all(told.values())


def test_help_states_no_default_that_the_schema_does_not() -> None:
    """Options come from the schema alone: no verb declares a setting of its own by hand."""
    for verb in ("train", "resume"):
        names = {p.name for p in parameters_of(verb)}
        assert {n for s in SECTIONS.values() for n in s.model_fields if extra_of(s, n)["option"]} <= names


def reference() -> str:
    """Every verb as the command line itself describes it: call, meaning, options with their defaults."""
    parts = [
        "# Reference",
        "Made from the command line itself, as `mypt VERB --help` is, or `--help-all` where that is short.",
    ]
    for verb, command in COMMANDS.items():
        parameters = parameters_of(verb)
        arguments = [_word(p) for p in parameters if not p.opts[0].startswith("-")]
        parts += [f"## mypt {verb}", f"```text\nmypt {' '.join([verb, *arguments, '[OPTIONS]'])}\n```"]
        parts.append("\n".join(line.strip() for line in (command.help or "").splitlines()))
        parts.append("\n".join(f"- {_spelled(p)}: {_plain(p.help)}" for p in parameters if p.help))
        parts.append(_plain(command.epilog or ""))
    return "\n\n".join(parts) + "\n"


def _spelled(option: Any) -> str:
    words = [o for o in (*option.opts, *option.secondary_opts) if o.startswith("-")]
    return ", ".join(f"`{word}`" for word in words) or f"`{_word(option)}`"


def _word(argument: Any) -> str:
    return f"{argument.metavar or argument.name.upper()}" + ("..." if argument.nargs == -1 else "")


def _plain(text: str) -> str:
    return re.sub(r"\[/?dim\]", "", text).replace(r"\[", "[")


@pytest.mark.parametrize("verb", COMMANDS)
def test_no_help_text_loses_a_word_in_brackets(verb: str) -> None:
    command = COMMANDS[verb]
    for text in (command.help, command.epilog, *(parameter.help for parameter in parameters_of(verb))):
        assert Text.from_markup(text or "").plain == _plain(text or "")


@pytest.mark.parametrize(
    "call", ["inspect --sort x", "compare a b --over x", "logs plot a --over x", "resume --from x"]
)
def test_a_wrong_choice_is_told_in_plain_words(call: str, mypt: Mypt) -> None:
    shown = mypt(*call.split(), ok=False)
    assert shown.exit_code == 2 and "'x' is not one of" in shown.stderr and "Value error" not in shown.stderr


def test_the_reference_is_what_the_command_line_says() -> None:
    page = ROOT / "docs" / "reference.md"
    if os.environ.get("UPDATE_SNAPSHOTS"):
        page.write_text(reference(), encoding="utf-8", newline="\n")
    assert page.read_text(encoding="utf-8") == reference(), "`UPDATE_SNAPSHOTS=1 pytest` writes it anew"


SCHEMAS: dict[str, TypeAdapter[Any]] = {
    "inspect": TypeAdapter(BundleDescription),
    "inspect-all": TypeAdapter(Overview),
    "compare": TypeAdapter(Comparison),
    "logs-summarize": TypeAdapter(Summary),
}


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_published_schema_is_that_of_the_output(name: str, mypt: Mypt) -> None:
    page = ROOT / "docs" / "schemas" / f"{name}.json"
    schema = json.dumps(SCHEMAS[name].json_schema(mode="serialization"), indent=2) + "\n"
    if os.environ.get("UPDATE_SNAPSHOTS"):
        page.write_text(schema, encoding="utf-8", newline="\n")
    assert page.read_text(encoding="utf-8") == schema, "`UPDATE_SNAPSHOTS=1 pytest` writes it anew"
    for model in ("a", "b"):
        mypt("train", model, "--input-file", "input.txt", *TINY, "--max-iters", "4", "--eval-interval", "2")
    calls = {
        "inspect": ["inspect", "a"], "inspect-all": ["inspect"], "compare": ["compare", "a", "b"],
        "logs-summarize": ["logs", "summarize", "a"],
    }  # fmt: skip
    jsonschema.validate(json.loads(mypt(*calls[name], "--json").output), json.loads(schema))
