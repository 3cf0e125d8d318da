"""All runs of a folder: one line each, every bundle with its own loss, in a terminal of any width."""

import json
from pathlib import Path

import pytest

from mypt.checkpoint.files import read_state
from mypt.checkpoint.lock import locked
from tests.conftest import SHORT, Mypt, Once

RUN = [*SHORT, "--max-iters", "8", "--eval-interval", "4"]
WORSE = ["--max-iters", "12", "--lr", "30", "--lr-schedule", "constant"]


def rows(mypt: Mypt, *words: str) -> dict[str, list[str]]:
    lines = [line.split() for line in mypt("inspect", *words).output.splitlines()]
    return {line[0]: line[1:] for line in lines if line and line[0] not in ("name", "All") and line[0][0] != "─"}


def test_a_run_is_one_line_and_every_bundle_has_its_own_loss(mypt: Mypt, once: Once) -> None:
    once("train", "a", *RUN)
    mypt("resume", "a", *WORSE)
    mypt("train", "b_gold", *RUN)  # a run that is called so, with parts of its own
    shown = rows(mypt, "--width", "140")
    assert shown.keys() == {"a", "b_gold"}
    assert shown["a"][:2] == ["gold", "fp16"] == shown["b_gold"][:2]
    every = rows(mypt, "--all", "--width", "140")
    for name in ("a", "a_gold", "a_fp16", "b_gold", "b_gold_gold", "b_gold_fp16"):
        own = read_state(Path("checkpoints") / name).progress.last_val_loss
        assert f"{own:.4f}" in every[name]
    assert f"{read_state(Path('checkpoints/a_gold')).progress.last_val_loss:.4f}" not in every["a_fp16"]
    bundles = json.loads(mypt("inspect", "--json").output)["bundles"]
    for row in bundles:
        saved = json.loads(Path("checkpoints", row["name"], "manifest.json").read_text(encoding="utf-8"))["files"]
        assert row["bytes"] == sum(file["bytes"] for file in saved.values())
    assert [row["run"] for row in bundles] == ["a"] * 3 + ["b_gold"] * 3


def test_what_is_left_of_a_run_and_what_is_damaged_is_told(mypt: Mypt, once: Once) -> None:
    once("train", "a", *RUN)
    Path("checkpoints/a_gold/model.pt").unlink()
    assert rows(mypt)["a"][-1] == "damaged" and "model.pt is missing" in mypt("inspect").output
    Path("checkpoints/a").rename("aside")
    assert rows(mypt).keys() >= {"a_gold", "a_fp16"}


def test_a_run_says_how_it_is_and_its_files_whether_they_are_whole(mypt: Mypt, once: Once) -> None:
    once("train", "a", *RUN)
    end = Path("logs/train/a_eval.jsonl")
    lines = end.read_text(encoding="utf-8").splitlines(keepends=True)
    closing = json.loads(lines[-1])
    stopped = {"event": "training_stopped", "iter": 8, "elapsed_s": 1.0, "tokens_processed": 64, "reason": "SIGTERM"}
    stopped |= {name: closing[name] for name in ("timestamp", "run_id", "attempt")}
    whole = "All files are there"
    states = {"complete": lines, "crashed": lines[:-1], "stopped": [*lines[:-1], json.dumps(stopped) + "\n"]}
    for state, content in states.items():
        end.write_text("".join(content), encoding="utf-8")
        assert rows(mypt)["a"][-1] == state and whole in mypt("inspect").output
        assert rows(mypt, "--all")["a_gold"][-1] == state
        assert {row["state"] for row in json.loads(mypt("inspect", "--json").output)["bundles"]} == {state}
        first = mypt("inspect", "a").output.splitlines()[0]
        assert first == f"checkpoints/a: {state}" + (", SIGTERM" if state == "stopped" else "")
    end.write_text("".join(lines[:-1]), encoding="utf-8")
    with locked(Path("checkpoints/a"), lambda _: None):
        assert rows(mypt)["a"][-1] == "running"
    Path("checkpoints/a/model.pt").unlink()
    assert rows(mypt)["a"][-1] == "damaged" and whole not in mypt("inspect").output


@pytest.mark.parametrize("width", [30, 60, 80, 100, 140])
def test_nothing_is_cut_to_a_letter(width: int, mypt: Mypt, once: Once) -> None:
    once("train", "a", *RUN)
    mypt("tag", "a", "+good")
    for words in ([], ["--all"]):
        shown = mypt("inspect", *words, "--width", str(width)).output
        assert max(len(line) for line in shown.splitlines() if not line.startswith("All files")) <= width
        heads = next(line for line in shown.splitlines() if line.strip()).split()
        assert heads[0] == "name" and "val" in heads and ("a_gold" in shown) == bool(words)
        assert {*heads} <= {"name", "also", "params", "step", "val", "best", "bpb", "tokens", "size", "saved", "state",
                            "tags"}  # fmt: skip
