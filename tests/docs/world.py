"""The folder that the pages speak of, in small: texts, data and runs, by the names that they have there."""

import gzip
import json
import random
import shutil
import string
from pathlib import Path

from tests.conftest import stopping_at, tiny_text
from tests.docs.pages import ROOT, Shell, blocks

LETTERS = string.ascii_letters + string.digits + string.punctuation
"""What a character model has to know, as prompts of the pages have them."""
TALKS = [("Mix blue and yellow.", "green"), ("Add 1 and 3.", "4"), ("Mix red and white.", "pink")]
NAMES = ("dante", "moved/dante", "paradiso", "purgatorio", "poems", "moved/poems", "code", "canto", "more")
"""Texts; `moved/dante` is the one of `dante`."""
RUN = "mypt train dante --input-file dante.txt"
GONE_ON_WITH = "mypt resume dante --max-iters 2000"
"""The run that most pages take for granted, and how it was gone on with, until somebody stopped it."""


def write_inputs(folder: Path) -> None:
    """Texts, tables, config files and scripts."""
    text = tiny_text()
    shutil.copytree(ROOT / "examples", folder / "examples")
    for name in [*NAMES, "tinyshakespeare", *(f"texts/{i:02}" for i in range(30))]:
        longer = 4 if name == "poems" else 1
        own = "" if name.endswith("dante") else f"{name}\n{text[:1500] * longer}"
        path = folder / f"{name}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"{LETTERS}\n{own or text}\n", encoding="utf-8")
    for name in ("a.png", "b.py", ".hidden", "._a.txt", ".DS_Store", "README.md"):
        (folder / "texts" / name).write_text("not a text of the corpus", encoding="utf-8")
    (folder / "texts" / "empty.txt").touch()
    pairs = [(question, f"{answer} {i}") for i in range(40) for question, answer in TALKS]
    talks = [{"id": 1, "messages": [said("user", q), said("assistant", a, name="x")]} for q, a in pairs]
    talks[3]["messages"] = [said("user", "Is anybody there?")]
    (folder / "talks.jsonl").write_text("".join(json.dumps(talk) + "\n" for talk in talks), encoding="utf-8")
    letters = random.Random(5)
    (folder / "random.txt").write_text("".join(letters.choices(string.ascii_lowercase, k=600)), encoding="utf-8")
    write_corpus(folder)
    (folder / "dante.json").write_text(json_of("train.md"), encoding="utf-8")
    (folder / "inherited.json").write_text('{"n_layer": 2, "colour": "red"}', encoding="utf-8")


def said(role: str, content: str, **more: str) -> dict[str, str]:
    """A message of a conversation."""
    return {"role": role, "content": content, **more}


def write_corpus(folder: Path) -> None:
    """Packed rows and a table, as the page on preparing has them."""
    import pyarrow as arrow
    from pyarrow import parquet

    rows = [{"body": f"{LETTERS} {i} {tiny_text()[:200]}"} for i in range(200)]
    (folder / "corpus").mkdir()
    with gzip.open(folder / "corpus" / "a.jsonl.gz", "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    parquet.write_table(arrow.Table.from_pylist(rows), folder / "more.parquet")


def json_of(page: str) -> str:
    (found,) = (b.text for b in blocks(ROOT / "docs" / page) if b.language == "json")
    return found


def build(folder: Path, shell: Shell) -> None:
    write_inputs(folder)
    shell.run(RUN)
    with stopping_at(6):
        shell.run(GONE_ON_WITH)
