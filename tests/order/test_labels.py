"""Tags and notes: given at the start or afterwards, kept through everything, and what runs are found by."""

import json
from pathlib import Path

import pytest

from mypt.checkpoint.atomic import replacing
from mypt.checkpoint.files import read_state
from mypt.checkpoint.lock import locked
from mypt.checkpoint.manifest import hash_of_weights, read_manifest
from tests.conftest import SHORT, Mypt, Once, flat

RUN = [*SHORT, "--max-iters", "8", "--eval-interval", "4"]
OUT = Path("checkpoints")
FAMILY = ("a", "a_gold", "a_fp16")


def labels(*names: str) -> set[tuple[tuple[str, ...], str | None]]:
    return {(state.tags, state.note) for state in (read_state(OUT / name) for name in names)}


def test_labels_of_the_start_are_in_every_bundle_and_a_resume_adds(mypt: Mypt) -> None:
    mypt("train", "a", *RUN, "--tag", "x", "--tag", "y=1", "--tag", "x", "--note", "first")
    assert labels(*FAMILY) == {(("x", "y=1"), "first")}
    mypt("resume", "a", "--max-iters", "12", "--tag", "z")
    assert labels("a", "a_fp16") == {(("x", "y=1", "z"), "first")}
    mypt("resume", "a", "--max-iters", "16", "--note", "then")
    assert labels("a") == {(("x", "y=1", "z"), "then")}
    assert "identical: all 16 steps" in mypt("reproduce", "a").output


def test_a_change_of_labels_changes_nothing_else(mypt: Mypt, once: Once) -> None:
    once("train", "a", *RUN)
    before = {name: (read_state(OUT / name), hash_of_weights(read_manifest(OUT / name))) for name in FAMILY}
    assert "no tags" in mypt("tag", "a").output
    mypt("tag", "a", "+cheap", "good", "--note", "-h is no option")
    mypt("tag", "a", "-cheap", "+h")
    assert labels(*FAMILY) == {(("good", "h"), "-h is no option")}
    assert mypt("tag", "a", "--note", "", "-h", ok=False).exit_code == 0  # asks for help, as everywhere
    mypt("tag", "a", "--note", "")
    told = {"tags": ("good", "h"), "note": None}
    assert {name: (read_state(OUT / name), hash_of_weights(read_manifest(OUT / name))) for name in FAMILY} == {
        name: (state.model_copy(update=told), weights) for name, (state, weights) in before.items()
    }
    assert [c for c in json.loads(mypt("verify", "--json").output) if c["ok"] is False] == []


@pytest.mark.parametrize("tag", ["a b", "", "x" * 51, "-x", "+x", "a,b", "[red]", "\x1b"])
def test_what_is_no_tag_is_refused_wherever_it_is_given(tag: str, mypt: Mypt, once: Once) -> None:
    once("train", "a", *RUN)
    assert mypt("train", "b", *RUN, f"--tag={tag}", ok=False).exit_code == 2 and not (OUT / "b").exists()
    assert mypt("tag", "a", "+" + tag, ok=False).exit_code == 2
    assert labels("a") == {((), None)}


def test_a_run_that_is_written_is_not_tagged(mypt: Mypt, once: Once) -> None:
    once("train", "a", *RUN)
    with locked(OUT / "a", print):
        assert mypt("tag", "a", "+x", ok=False).exit_code == 1
        assert mypt("tag", "a").exit_code == 0
    assert labels(*FAMILY) == {((), None)}


def test_runs_are_found_by_their_tags(mypt: Mypt, once: Once) -> None:
    once("train", "a", *RUN)
    for name in "bc":
        mypt("fork", "a", name)
    for name, words in {"a": ["+x"], "b": ["+x", "+y"], "c": ["+z"]}.items():
        mypt("tag", name, *words)
    assert mypt("tag").output.splitlines() == ["x: a, b", "y: b", "z: c"]
    found = json.loads(mypt("inspect", "--tag", "x", "--json").output)["bundles"]
    assert {row["name"][0] for row in found} == {"a", "b"} and found[0]["tags"] == ["x"]
    found = json.loads(mypt("inspect", "--tag", "x", "--tag", "y", "--json").output)["bundles"]
    assert {row["name"][0] for row in found} == {"b"}
    assert "Tags: x, y" in mypt("inspect", "b").output and "x, y" in mypt("inspect").output
    compared = json.loads(mypt("compare", "--tag", "x", "--json").output)
    assert [run["label"] for run in compared["runs"]] == ["a", "b"]
    assert {d["field"] for d in compared["data"]} >= {"tags"}
    assert len(mypt("logs", "summarize", "--tag", "x", "--json").output.splitlines()) == 2
    assert "tags x, y" in flat(mypt("logs", "summarize", "b").output)
    for call in (["inspect", "--tag", "no"], ["compare", "--tag", "no"], ["logs", "summarize", "--tag", "no"]):
        result = mypt(*call, ok=False)
        assert result.exit_code == 2 and "has the tag no" in flat(result.stderr)


def test_a_kill_between_two_bundles_is_completed_by_the_same_call(
    mypt: Mypt, once: Once, monkeypatch: pytest.MonkeyPatch
) -> None:
    once("train", "a", *RUN)

    class KilledError(BaseException):
        """Stands for SIGKILL."""

    for limit in range(3):
        done = 0

        def counted(target: Path, limit: int = limit) -> object:
            nonlocal done
            done += 1
            if done > limit:
                raise KilledError
            return replacing(target)

        with monkeypatch.context() as patch:
            patch.setattr("mypt.checkpoint.family.replacing", counted)
            with pytest.raises(KilledError):
                mypt("tag", "a", f"+t{limit}")
        mypt("tag", "a", f"+t{limit}")
        assert labels(*FAMILY) == {(tuple(f"t{n}" for n in range(limit + 1)), None)}
