"""Every kind of recorded input, moved, changed, deleted or left out: what resume and reproduce say and do."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mypt.checkpoint.files import read_state
from mypt.schema.files.state import TrainingState
from mypt.schema.files.tokenizer import END_OF_TEXT
from tests.conftest import TINY, Mypt, Once, flat, tiny_text

SHORT = [*TINY[2:], "--max-iters", "8", "--eval-interval", "4"]
TRAIN = ["--tokenization", "char", *SHORT]


def state() -> TrainingState:
    return read_state(Path("checkpoints/a"))


def write(path: str, text: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text, encoding="utf-8")


def prepare(mypt: Mypt, out: str, text: str) -> None:
    """A dataset of a text, with the tokenizer of the first one."""
    pieces = [(text * 2)[37 * i : 37 * i + 80 + i % 17] for i in range(60)]
    write(f"made/{out}.jsonl", "".join(json.dumps({"text": piece}) + "\n" for piece in pieces))
    same = ["--tokenizer-of", "one"] if Path("one").is_dir() else ["--tokenization", "char"]
    mypt("prepare", f"made/{out}.jsonl", "--out", out, *same, "--val-share", "0.3")


def config(**settings: object) -> str:
    write(path := f"{len(list(Path().glob('*.json')))}.json", json.dumps(settings))
    return path


PHASES: dict[str, list[dict[str, Any]]] = {"phases": [
    {"name": "first", "dataset_dir": "one", "until_iter": 5}, {"name": "then", "dataset_dir": "two"},
]}  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """A kind of input.

    Attributes:
        path: where it is.
        train: the words of the call that train with it.
        give: the options that give it a new place.
        named: what an error has to name.
    """

    path: str
    train: Callable[[Mypt], list[str]]
    give: Callable[[str], list[str]]
    named: str
    is_eval: bool = False


def with_text(_: Mypt) -> list[str]:
    write("elsewhere/other.txt", tiny_text()[::-1] * 2)
    return [*TRAIN, "--input-file", "input.txt", "--eval-set", "poems=elsewhere/other.txt"]


def with_shards(mypt: Mypt) -> list[str]:
    prepare(mypt, "one", tiny_text() + tiny_text()[::-1])
    prepare(mypt, "two", tiny_text()[::-1] + tiny_text())
    return [*SHORT, "--dataset-dir", "one", "--eval-dataset-dir", "two"]


def with_phases(mypt: Mypt) -> list[str]:
    with_shards(mypt)
    return [*SHORT, "--config-file", config(curriculum=PHASES)]


KINDS = {
    "text": Kind("input.txt", with_text, lambda p: ["--input-file", p], "--input-file"),
    "eval text": Kind(
        "elsewhere/other.txt", with_text, lambda p: ["--eval-set", f"poems={p}"], "--eval-set poems=PATH", True
    ),
    "shards": Kind("one", with_shards, lambda p: ["--dataset-dir", p], "--dataset-dir"),
    "eval shards": Kind("two", with_shards, lambda p: ["--eval-dataset-dir", p], "--eval-set general=PATH", True),
    "first phase": Kind("one", with_phases, lambda p: ["--phase", f"first={p}"], "--phase first=PATH"),
    "second phase": Kind("two", with_phases, lambda p: ["--phase", f"then={p}"], "--phase then=PATH"),
}


def change(kind: Kind) -> None:
    """Change an input in place, in a way that its size does not show."""
    path = Path(kind.path)
    for file in [path] if path.is_file() else [path / "val/00000.bin", path / "train/00000.bin"]:
        content = bytearray(file.read_bytes())
        at = len(content) // 2 & ~1
        content[at : at + 4] = content[at + 4 : at + 8] if content[at : at + 4] != content[at + 4 : at + 8] else b"1234"
        file.write_bytes(content)


def run(mypt: Mypt, verb: str, *words: str, ok: bool = True) -> Any:
    return mypt(verb, "a", *words, *(["--max-iters", str(state().step + 4)] if verb == "resume" else []), ok=ok)


@pytest.mark.parametrize("verb", ["resume", "reproduce"])
@pytest.mark.parametrize("name", KINDS)
def test_what_has_moved_is_given_once_and_found_from_then_on(name: str, verb: str, mypt: Mypt, once: Once) -> None:
    kind = KINDS[name]
    once("train", "a", *kind.train(mypt))
    Path("moved").mkdir()
    new = f"moved/{Path(kind.path).name}"
    shutil.move(kind.path, new)
    before = {p: p.read_bytes() for p in Path("checkpoints").rglob("*") if p.is_file()}
    lost = run(mypt, verb, ok=False)
    assert lost.exit_code == 2 and "does not exist" in flat(lost.stderr) and kind.named in flat(lost.stderr)
    assert {p: p.read_bytes() for p in before} == before
    wrong = run(mypt, verb, *kind.give("elsewhere"), ok=False)  # a folder without anything of it
    assert wrong.exit_code == 2
    out = flat(run(mypt, verb, *kind.give(new)).output)
    if verb == "reproduce":
        assert "identical: all 8 steps" in out
        return
    assert "harmless" in out and ("eval_sets" in out) == kind.is_eval
    run(mypt, "resume")
    assert state().step == 16
    assert "identical: all 16 steps" in mypt("reproduce", "a").output
    assert not [c for c in json.loads(mypt("verify", "--json").output) if c["ok"] is False]


@pytest.mark.parametrize("verb", ["resume", "reproduce"])
@pytest.mark.parametrize("name", KINDS)
def test_what_was_changed_is_refused_wherever_it_lies(name: str, verb: str, mypt: Mypt, once: Once) -> None:
    kind = KINDS[name]
    once("train", "a", *kind.train(mypt))
    Path("kept").mkdir()
    kept = f"kept/{Path(kind.path).name}"
    (shutil.copytree if Path(kind.path).is_dir() else shutil.copy2)(kind.path, kept)
    change(kind)
    for words in ([], kind.give(kind.path)):
        if words and kind.is_eval and verb == "resume":
            continue  # it then is another measure, below
        refused = run(mypt, verb, *words, ok=False)
        assert refused.exit_code == 2, refused.output
        assert kind.named.partition("=")[0] in flat(refused.stderr)
    out = run(mypt, verb, *kind.give(kept)).output  # the advice works
    assert verb == "resume" or "identical: all 8 steps" in out


@pytest.mark.parametrize("name", [n for n, kind in KINDS.items() if kind.is_eval])
def test_another_measure_is_taken_when_it_is_asked_for(name: str, mypt: Mypt, once: Once) -> None:
    kind = KINDS[name]
    once("train", "a", *kind.train(mypt))
    (before,) = state().eval_sets.values()
    shutil.copytree("two", "kept") if Path("two").is_dir() else shutil.copy2(kind.path, "kept")
    Path(kind.path).rename("away")
    text = "selva oscura che la diritta via era smarrita " * 40
    prepare(mypt, kind.path, text) if Path("away").is_dir() else write(kind.path, text)
    out = flat(run(mypt, "resume", *kind.give(kind.path)).output)
    assert "another measure" in out.replace("\n", " ")
    (after,) = state().eval_sets.values()
    assert after.fingerprint != before.fingerprint and after.sources[0].path == before.sources[0].path
    run(mypt, "resume")
    lost = mypt("reproduce", "a", ok=False)  # the first session was measured by the other one
    assert lost.exit_code == 2 and kind.named in flat(lost.stderr)
    assert "identical: all 16 steps" in mypt("reproduce", "a", *kind.give("kept")).output


@pytest.mark.parametrize("how", ["by name", "by an empty list", "by null", "by a list without it"])
@pytest.mark.parametrize("there", [True, False])
def test_an_eval_set_is_left_out(how: str, there: bool, mypt: Mypt) -> None:
    write("more.txt", tiny_text())
    both = ["--eval-set", "poems=elsewhere/other.txt", "--eval-set", "more=more.txt"]
    mypt("train", "a", *with_text(mypt)[:-2], *both)
    if not there:
        Path("elsewhere/other.txt").unlink()
    words = {
        "by name": ["--eval-set", "poems="],
        "by an empty list": ["--config-file", config(eval_sets={})],
        "by null": ["--config-file", config(eval_sets=None)],
        "by a list without it": ["--config-file", config(eval_sets={"more": "more.txt"})],
    }[how]
    left = {"more"} if how in ("by name", "by a list without it") else set()
    assert "eval_sets" in run(mypt, "resume", *words).output
    assert set(state().eval_sets) == left
    run(mypt, "resume")
    lines = [json.loads(x) for x in Path("logs/train/a_eval.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [("eval_poems" in e, "eval_more" in e) for e in lines if e["event"] == "eval"] == [
        *[(True, True)] * 3, *[(False, "more" in left)] * 2,
    ]  # fmt: skip
    if there:
        assert "identical: all 16 steps" in mypt("reproduce", "a").output
    else:
        assert "leave it out by --eval-set poems=" in flat(mypt("reproduce", "a", ok=False).stderr)
        out = mypt("reproduce", "a", "--eval-set", "poems=").output
        assert "identical: all 16 steps" in out and "left out: poems" in out


def test_all_that_is_missing_is_told_at_once(mypt: Mypt) -> None:
    words = [*with_phases(mypt), "--dataset-dir", "three", "--eval-set", "poems=poems.txt", "--eval-set", "b=b.txt"]
    prepare(mypt, "three", tiny_text())
    write("poems.txt", tiny_text())
    write("b.txt", tiny_text()[::-1])
    mypt("train", "a", *words)
    Path("gone").mkdir()
    for name in ("one", "two", "three", "poems.txt"):
        shutil.move(name, f"gone/{name}")
    for verb in ("resume", "reproduce"):
        said = flat(run(mypt, verb, ok=False).stderr)
        assert "4 inputs of this run cannot be used" in said
        for option in ("--dataset-dir PATH", "--phase first=PATH", "--phase then=PATH", "--eval-set poems=PATH"):
            assert option in said
        assert "b.txt" not in said
    places = ["--dataset-dir", "gone/three", "--phase", "first=gone/one", "--phase", "then=gone/two",
              "--eval-set", "poems=gone/poems.txt"]  # fmt: skip
    assert "identical" in run(mypt, "reproduce", *places).output
    run(mypt, "resume", *places)
    run(mypt, "resume")
    assert set(state().eval_sets) == {"poems", "b"}
    assert "identical: all 16 steps" in mypt("reproduce", "a").output


def test_a_curriculum_that_moved_is_given_by_a_config_file_as_well(mypt: Mypt, once: Once) -> None:
    once("train", "a", *with_phases(mypt))
    for name in ("one", "two"):
        shutil.move(name, f"moved_{name}")
    moved = [{**p, "dataset_dir": f"moved_{p['dataset_dir']}"} for p in PHASES["phases"]]
    for wrong in (moved[:1], [{**moved[0], "until_iter": 6}, moved[1]], [{**moved[0], "name": "x"}, moved[1]]):
        refused = run(mypt, "resume", "--config-file", config(curriculum={"phases": wrong}), ok=False)
        assert refused.exit_code == 2 and "curriculum" in refused.stderr
    swapped = [{**moved[0], "dataset_dir": "moved_two"}, moved[1]]
    refused = run(mypt, "resume", "--config-file", config(curriculum={"phases": swapped}), ok=False)
    assert refused.exit_code == 2 and "are not those of this run" in refused.stderr
    run(mypt, "resume", "--config-file", config(curriculum={"phases": moved}))
    run(mypt, "resume")
    assert [Path(p.data.dataset_dir or "").name for p in state().curriculum] == ["moved_one", "moved_two"]
    assert "identical: all 16 steps" in mypt("reproduce", "a").output


def test_a_folder_that_serves_several_inputs_is_given_once(mypt: Mypt, once: Once) -> None:
    once("train", "a", *with_phases(mypt), "--eval-set", "same=one")
    shutil.move("one", "moved")
    run(mypt, "resume", "--dataset-dir", "moved")
    record = state()
    places = [record.data, record.curriculum[0].data, record.eval_sets["same"]]
    assert {Path(p.dataset_dir or "").name for p in places if p} == {"moved"}
    assert "identical: all 12 steps" in mypt("reproduce", "a").output


@pytest.mark.parametrize("verb", ["resume", "reproduce"])
def test_several_texts_are_given_in_their_order(verb: str, mypt: Mypt) -> None:
    write("b.txt", tiny_text()[::-1])
    mypt("train", "a", *TRAIN, "--input-file", "input.txt", "--input-file", "b.txt")
    Path("b.txt").rename("c.txt")
    assert "b.txt" in (said := flat(run(mypt, verb, ok=False).stderr)) and "in their order" in said
    swapped = run(mypt, verb, "--input-file", "c.txt", "--input-file", "input.txt", ok=False)
    assert swapped.exit_code == 2 and "is not the one that this run was trained on" in swapped.stderr
    run(mypt, verb, "--input-file", "input.txt", "--input-file", "c.txt")
    border = f"\n{END_OF_TEXT}\n"
    write("d.txt", Path("input.txt").read_text(encoding="utf-8") + border + tiny_text()[::-1] + border)
    run(mypt, verb, "--input-file", "d.txt")  # the same text, whatever it is made of
    if verb == "resume":
        run(mypt, verb)
        data = state().data
        assert data is not None and [Path(s.path).name for s in data.sources] == ["d.txt"]


@pytest.mark.parametrize("verb", ["resume", "reproduce"])
def test_a_text_from_standard_input_is_given_as_a_file(verb: str, mypt: Mypt) -> None:
    text = Path("input.txt").read_text(encoding="utf-8")
    mypt("train", "a", *TRAIN, "--input-file", "-", stdin=text)
    assert "--input-file PATH" in flat(run(mypt, verb, ok=False).stderr)
    run(mypt, verb, "--input-file", "input.txt")
    if verb == "resume":
        run(mypt, verb)
        assert "identical: all 16 steps" in mypt("reproduce", "a").output


@pytest.mark.parametrize("verb", ["resume", "reproduce"])
@pytest.mark.parametrize(
    ("train", "words", "said"),
    [
        (with_text, ["--dataset-dir", "x"], "was trained on a text"),
        (with_text, ["--phase", "x=y"], "has no phase 'x'"),
        (with_text, ["--eval-set", "nobody="], "has no eval set 'nobody'"),
        (with_shards, ["--input-file", "input.txt"], "was trained on the shards in"),
        (with_phases, ["--phase", "thn=two"], "did you mean then?"),
        (with_phases, ["--phase", "then="], "phase then has no path"),
        (with_phases, ["--phase", "then"], "write it as NAME=PATH"),
    ],
)
def test_what_the_run_does_not_have_cannot_be_given_a_place(
    train: Callable[[Mypt], list[str]], words: list[str], said: str, verb: str, mypt: Mypt, once: Once
) -> None:
    once("train", "a", *train(mypt))
    refused = run(mypt, verb, *words, ok=False)
    assert refused.exit_code == 2 and said in flat(refused.stderr)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--eval-set", "poems="], "has no path, and a new run has none to leave out"),
        (["--phase", "x=one"], "there is no curriculum"),
    ],
)
def test_a_new_run_has_nothing_to_leave_out_or_to_move(words: list[str], said: str, mypt: Mypt) -> None:
    refused = mypt("train", "a", *TRAIN, "--input-file", "input.txt", *words, ok=False)
    assert refused.exit_code == 2 and said in flat(refused.stderr)


def test_a_phase_of_a_new_run_is_given_another_folder(mypt: Mypt) -> None:
    words = with_phases(mypt)
    shutil.move("two", "moved")
    mypt("train", "a", *words, "--phase", "then=moved")
    assert Path(state().curriculum[1].data.dataset_dir or "").name == "moved"
    refused = mypt("train", "b", *words, "--phase", "thn=moved", ok=False)
    assert refused.exit_code == 2 and "thn" in refused.stderr


def test_the_parent_of_a_run_may_have_another_name_when_it_is_reproduced(mypt: Mypt, once: Once) -> None:
    once("train", "base", *TRAIN, "--input-file", "input.txt")
    once("train", "a", "--input-file", "input.txt", "--init-from-model", "base", "--max-iters", "4")
    Path("checkpoints/base").rename("checkpoints/elsewhere")
    assert "--init-from-model" in flat(mypt("reproduce", "a", ok=False).stderr)
    assert "other weights" in mypt("reproduce", "a", "--init-from-model", "a", ok=False).stderr
    for given in ("elsewhere", "checkpoints/elsewhere"):
        assert "identical: all 4 steps" in mypt("reproduce", "a", "--init-from-model", given).output
