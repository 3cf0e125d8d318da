"""docs/files.md falls behind nothing: every field is on it, and its examples and lists are what the code has."""

import importlib
import inspect
import json
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

import mypt.schema.files
import mypt.schema.order
from mypt.log.messages import eval_lines, gold_line
from mypt.schema.base import extra_of
from mypt.schema.files.events import EVENTS, Eval, GoldBlocked, GoldCheckpoint
from mypt.schema.settings.config import GPTConfig
from mypt.schema.settings.run import SECTIONS
from mypt.schema.settings.training import TrainingConfig
from tests.conftest import TINY, Mypt

PAGE = (Path(__file__).parents[2] / "docs" / "files.md").read_text(encoding="utf-8")
ROOMS = (mypt.schema.files, mypt.schema.order)
EXAMPLES = [json.loads(line) for line in PAGE.splitlines() if line.startswith('{"event"')]


def models() -> Iterator[type[BaseModel]]:
    """What is written to disk: every model of the files, and the settings that they record."""
    yield from (GPTConfig, TrainingConfig)
    for module in (m for room in ROOMS for m in pkgutil.iter_modules(room.__path__, f"{room.__name__}.")):
        for _, found in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if issubclass(found, BaseModel) and found.__module__ == module.name:
                yield found


def test_every_field_is_named() -> None:
    named = set(re.findall(r"`(\w+)`", PAGE))
    every = list(models())
    assert len(every) > 20 and set(EVENTS.values()) <= set(every)
    missing = {f"{model.__name__}.{name}" for model in every for name in model.model_fields if name not in named}
    assert not missing


def test_every_event_has_an_example_with_all_its_fields() -> None:
    assert {e["event"] for e in EXAMPLES} == EVENTS.keys()
    for example in EXAMPLES:
        model = EVENTS[example["event"]]
        assert model.model_fields.keys() <= example.keys(), example["event"]
        written = {**model.model_validate(example).model_dump(mode="json")}
        assert json.dumps(written) == json.dumps(example), "fields are in the order in which they are written"


def test_the_example_of_the_architecture_has_all_its_fields_in_order() -> None:
    (example,) = (json.loads(b) for b in re.findall(r"^```json\n(\{\n.*?)^```", PAGE, re.M | re.S))
    assert list(example) == list(GPTConfig.model_fields)
    assert GPTConfig.model_validate(example).model_dump() == example


def test_console_lines_are_those_of_the_examples() -> None:
    events = {e["event"]: e for e in EXAMPLES}
    shown = [
        *eval_lines(Eval.model_validate(events["eval"]), 2000, 43),
        gold_line(GoldCheckpoint.model_validate(events["gold_checkpoint"])),
        gold_line(GoldBlocked.model_validate(events["gold_blocked"])),
    ]
    for line in shown:
        assert f"\n{line}\n" in PAGE, line


def test_closing_lines_are_those_that_are_printed(mypt: Mypt) -> None:
    printed = mypt(
        "train", "dante", "--input-file", "input.txt", *TINY, "--max-iters", "2", "--eval-interval", "1"
    ).output
    block = re.search(r"^Training finished!\n(?:  .*\n)+", PAGE, re.M)
    last = re.search(r"^Training finished!\n(?:  .*\n)+", printed, re.M)
    assert block and last
    assert re.sub(r"\d+\.\d+|\d+", "#", block[0]) == re.sub(r"\d+\.\d+|\d+", "#", last[0])


@pytest.mark.parametrize("meaning", ["harmless", "rounding", "trajectory", "refused"])
def test_what_a_resume_may_change_is_what_the_schema_says(meaning: str) -> None:
    opening = {"rounding": "| within rounding", "trajectory": "| changes the trajectory"}.get(meaning, f"| {meaning}")
    (row,) = [line for line in PAGE.splitlines() if line.startswith(opening)]
    declared = [name for s in SECTIONS.values() for name in s.model_fields if extra_of(s, name)["on_resume"] == meaning]
    assert sorted(re.findall(r"`(\w+)`", row)) == sorted(declared)
