"""Copies of bundles: which part of a shared log is whose, and what a bundle's folder is to its run."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from mypt.checkpoint.files import read_state
from mypt.checkpoint.manager import CheckpointManager
from mypt.schema.files.state import TrainingState
from tests.conftest import SHORT, Mypt, Once, reseal

RUN = [*SHORT, "--max-iters", "12", "--eval-interval", "4"]
OUT = Path("checkpoints")


def evaluations(mypt: Mypt, name: str) -> list[int]:
    """Steps of the evaluations that `logs show` has of a bundle."""
    lines = mypt("logs", "show", name, "--event", "eval", "--json").output.splitlines()
    return [json.loads(line)["iter"] for line in lines]


def summary(mypt: Mypt, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(mypt("logs", "summarize", name, "--json").output)
    return found


def checks(mypt: Mypt, *names: str) -> dict[str, tuple[bool | None, str]]:
    found = json.loads(mypt("verify", *names, "--json", ok=False).output)
    return {c["name"]: (c["ok"], c["found"]) for c in found}


def forget_names() -> None:
    """Let records be as an earlier version wrote them, without the name of their run."""
    for path in OUT.glob("*/training_state.json"):
        state = json.loads(path.read_text(encoding="utf-8"))
        del state["name"]
        path.write_text(json.dumps(state, indent=2), encoding="utf-8")
        reseal(path.parent, state["step"])


@pytest.mark.parametrize("named", [True, False], ids=["named", "of an earlier version"])
@pytest.mark.parametrize("bundle", ["a", "a_gold"])
def test_a_copy_knows_nothing_of_what_its_run_did_later(bundle: str, named: bool, mypt: Mypt, once: Once) -> None:
    once("train", "a", *RUN)
    shutil.copytree(OUT / bundle, OUT / "b")
    if not named:
        forget_names()
    mypt("resume", "a", "--max-iters", "20", "--lr", "3e-2")
    last = read_state(OUT / "b").progress.last_val_loss
    step = read_state(OUT / "b").step
    steps = [s for s in (4, 8, 12) if s <= step]
    assert evaluations(mypt, "b") == steps and evaluations(mypt, "a") == [4, 8, 12, 16, 20]
    found = summary(mypt, "b")
    assert (found["step"], found["val_loss"]["last"], len(found["attempts"])) == (step, round(last or 0, 6), 1)
    assert found["state"] == "complete"
    for run in json.loads(mypt("compare", "b", "a", "--json").output)["runs"]:
        assert run["curve"][-1]["val_loss"] == pytest.approx(run["results"]["final_val_loss"], abs=1e-6)
    tail = mypt("logs", "tail", "b").output
    assert f"step {step}/12" in tail and "step 16" not in tail and "without a word" not in tail
    assert mypt("reproduce", "b").output.splitlines()[-1].startswith(f"identical: all {step} steps")
    assert not [c for c in checks(mypt, "b").items() if c[1][0] is False]


def test_a_gold_tells_of_the_run_up_to_itself(mypt: Mypt, once: Once) -> None:
    once("train", "a", *RUN)
    mypt("resume", "a", "--max-iters", "20", "--lr", "30", "--lr-schedule", "constant")  # far from anything good
    assert evaluations(mypt, "a_gold") == [4, 8, 12] == evaluations(mypt, "a")[:3] and summary(mypt, "a")["step"] == 20
    found = summary(mypt, "a_gold")
    assert (found["step"], found["state"], found["max_iters"]) == (12, "complete", 12)
    mypt("train", "c", *RUN, "--max-iters", "9", "--lr", "30", "--lr-schedule", "constant")
    gold = read_state(OUT / "c_gold").step
    assert gold < 9 and summary(mypt, "c_gold")["state"] == "unfinished" and summary(mypt, "c_gold")["step"] == gold


def test_what_a_rewind_discarded_is_still_that_of_a_copy_from_before(mypt: Mypt, once: Once) -> None:
    once("train", "a", *RUN)
    mypt("resume", "a", "--max-iters", "16", "--lr", "30", "--lr-schedule", "constant")
    shutil.copytree(OUT / "a", OUT / "b")
    mypt("resume", "a", "--from", "gold", "--max-iters", "20", "--lr", "1e-3", "--lr-schedule", "cosine")
    assert evaluations(mypt, "b") == [4, 8, 12, 16]
    assert summary(mypt, "b")["val_loss"]["last"] == round(read_state(OUT / "b").progress.last_val_loss or 0, 6)
    assert mypt("reproduce", "b").output.splitlines()[-1].startswith("identical: all 16 steps")


@pytest.mark.parametrize("name", ["a_gold", "a_fp16", "a_gold_fp16"])
def test_a_run_may_be_called_as_a_gold_or_an_export_is(name: str, mypt: Mypt, once: Once) -> None:
    once("train", name, *RUN)
    found = json.loads(mypt("verify", "--json").output)
    assert {c["bundle"] for c in found} == {name, f"{name}_gold", f"{name}_fp16"}
    gold = {c["bundle"]: c["found"] for c in found if c["name"] == "gold fits record" and c["ok"]}
    assert gold.keys() == {name, f"{name}_gold"}
    assert evaluations(mypt, name) == [4, 8, 12] and summary(mypt, name)["state"] == "complete"


def test_a_gold_ahead_of_its_run_is_no_fault(mypt: Mypt, once: Once, monkeypatch: pytest.MonkeyPatch) -> None:
    once("train", "a", *RUN, "--max-iters", "8")
    write = CheckpointManager.write

    def killed(self: CheckpointManager, content: Any) -> None:
        if self.name == "a":
            raise OSError("killed between the save of gold and that of the run")
        write(self, content)

    with monkeypatch.context() as patch:
        patch.setattr(CheckpointManager, "write", killed)
        assert mypt("resume", "a", "--max-iters", "12", ok=False).exit_code == 1
    assert (read_state(OUT / "a_gold").step, read_state(OUT / "a").step) == (12, 8)
    for name in ("a", "a_gold"):
        assert not [c for c in checks(mypt, name).items() if c[1][0] is False]
    assert "ahead of the run" in checks(mypt, "a")["gold fits record"][1]
    assert evaluations(mypt, "a_gold") == [4, 8, 12]
    mypt("resume", "a", "--max-iters", "12")
    assert checks(mypt, "a")["gold fits record"][1].startswith("step 12, val loss")


def state(name: str) -> TrainingState:
    return read_state(OUT / name)


def faults(mypt: Mypt) -> list[dict[str, Any]]:
    return [c for c in json.loads(mypt("verify", "--json", ok=False).output) if c["ok"] is False]


def assert_told_apart(mypt: Mypt, steps: dict[str, int]) -> None:
    """Every reader tells of each bundle what is its own, and all of them agree."""
    assert faults(mypt) == []
    for run in json.loads(mypt("compare", *steps, "--json").output)["runs"]:
        name = run["label"]
        recorded = round(state(name).progress.last_val_loss or 0, 6)
        assert state(name).step == run["results"]["step"] == run["curve"][-1]["step"] == steps[name]
        assert run["curve"][-1]["val_loss"] == recorded == summary(mypt, name)["val_loss"]["last"]
        assert summary(mypt, name)["step"] == steps[name] == evaluations(mypt, name)[-1]
        assert evaluations(mypt, name) == [*range(4, steps[name] + 1, 4)]
        assert f"identical: all {steps[name]} steps and the weights" in mypt("reproduce", name).output
    ids, logs = {state(n).run_id for n in steps}, {state(n).log_file for n in steps}
    assert len(ids) == len(logs) == len(steps), "each has an identity and a log of its own"


COPIED = {
    "the run alone": ["a"],
    "the run and its gold": ["a", "a_gold"],
    "all of its bundles": ["a", "a_gold", "a_fp16"],
}


@pytest.mark.parametrize("named", [True, False], ids=["named", "of an earlier version"])
@pytest.mark.parametrize("what", COPIED)
@pytest.mark.parametrize("first", ["a", "b"])
def test_a_copy_becomes_a_run_of_its_own(first: str, what: str, named: bool, mypt: Mypt, once: Once) -> None:
    once("train", "a", *RUN)
    for name in COPIED[what]:
        shutil.copytree(OUT / name, OUT / name.replace("a", "b", 1))
    if not named:
        forget_names()
    log = Path("logs/train/a_eval.jsonl").read_bytes()
    for name in (first, "a" if first == "b" else "b"):
        words = ["--lr", "3e-2"] if name == "a" else ["--lr", "3e-3"]
        before = state(name)
        out = mypt("resume", name, "--max-iters", "20" if name == "a" else "24", *words).output
        assert ("from step 12 on it is a run of its own" in out) == (name == "b")
        assert (state(name).run_id == before.run_id) == (name == "a")
    assert_told_apart(mypt, {"a": 20, "b": 24})
    assert Path("logs/train/a_eval.jsonl").read_bytes().startswith(log), "a log only grows"
    (origin,) = state("b").forked_from
    assert (origin.name, origin.step, origin.run_id) == ("a", 12, state("a").run_id)
    assert {p.name for p in OUT.iterdir()} == {"a", "a_gold", "a_fp16", "b", "b_gold", "b_fp16"}
    for name in ("b", "b_gold", "b_fp16"):
        assert (state(name).name, state(name).run_id) == ("b", state("b").run_id)
    shown = json.loads(mypt("inspect", "b", "--json").output)["lineage"]
    assert [(x["name"], x["step"], len(x["commands"])) for x in shown] == [("a", 12, 1), ("b", 24, 1)]
    mypt("resume", "b", "--from", "gold", "--max-iters", "28")
    mypt("resume", "a", "--max-iters", "24")
    assert faults(mypt) == [] and "identical" in mypt("reproduce", "b").output + mypt("reproduce", "a").output


@pytest.mark.parametrize("at", [4, 8, 12])
def test_a_copy_may_be_made_at_any_point_and_again_of_a_copy(at: int, mypt: Mypt, once: Once) -> None:
    once("train", "a", *RUN, "--max-iters", str(at))
    shutil.copytree(OUT / "a", OUT / "b")
    mypt("resume", "a", "--max-iters", str(at + 8), "--lr", "2e-2")
    mypt("resume", "b", "--max-iters", str(at + 4), "--lr", "3e-3")
    shutil.copytree(OUT / "b", OUT / "c")
    mypt("resume", "c", "--max-iters", str(at + 12), "--lr", "1e-3")
    mypt("resume", "b", "--max-iters", str(at + 8))
    assert_told_apart(mypt, {"a": at + 8, "b": at + 8, "c": at + 12})
    assert [(o.name, o.step) for o in state("c").forked_from] == [("a", at), ("b", at + 4)]
    assert [len(s["attempts"]) for s in (summary(mypt, "a"), summary(mypt, "b"), summary(mypt, "c"))] == [2, 3, 3]


def test_a_rewound_copy_forks_from_the_gold_that_came_with_it(mypt: Mypt, once: Once) -> None:
    once("train", "a", *RUN)
    mypt("resume", "a", "--max-iters", "20", "--lr", "30", "--lr-schedule", "constant")
    for name in ("a", "a_gold"):
        shutil.copytree(OUT / name, OUT / name.replace("a", "b", 1))
    mypt("resume", "b", "--from", "gold", "--max-iters", "20", "--lr", "1e-3", "--lr-schedule", "cosine")
    (kept,) = OUT.glob("b_2*")
    assert (state(kept.name).step, [o.step for o in state(kept.name).forked_from]) == (20, [20])
    assert [o.step for o in state("b").forked_from] == [12] and evaluations(mypt, kept.name) == [4, 8, 12, 16, 20]
    assert_told_apart(mypt, {"a": 20, "b": 20})


@pytest.mark.parametrize("logs", ["stay", "are renamed too", "are gone"])
@pytest.mark.parametrize("family", [["a"], ["a", "a_gold", "a_fp16"]])
def test_a_run_that_is_renamed_by_hand_goes_on(family: list[str], logs: str, mypt: Mypt, once: Once) -> None:
    once("train", "a", *RUN)
    run = state("a").run_id
    for name in family:
        (OUT / name).rename(OUT / name.replace("a", "b", 1))
    if logs == "are gone":
        Path("logs/train/a_eval.jsonl").unlink()
    elif logs == "are renamed too":
        Path("logs/train/a_eval.jsonl").rename("logs/train/b_eval.jsonl")
    mypt("resume", "b", "--max-iters", "20")
    mypt("resume", "b", "--max-iters", "24")
    assert faults(mypt) == [] and state("b").name == "b" and state("b").log_file == "logs/train/b_eval.jsonl"
    assert (state("b").run_id == run) == (logs == "are renamed too")
    assert evaluations(mypt, "b") == [*range(16 if logs == "are gone" else 4, 25, 4)]
    assert "identical: all 24 steps and the weights" in mypt("reproduce", "b").output
    assert mypt("resume", "b", "--from", "gold", "--max-iters", "28").exit_code == 0


@pytest.mark.parametrize("logs", ["stay", "are renamed too"])
def test_what_fresh_moved_aside_may_be_renamed_back(logs: str, mypt: Mypt, once: Once) -> None:
    once("train", "a", *RUN)
    once("train", "a", *RUN, "--fresh", "--lr", "3e-2", "--max-iters", "8")
    (kept,) = (p.name for p in OUT.iterdir() if p.name.startswith("a_2") and p.name.count("_") == 1)
    for old, new in (("a", "newer"), (kept, "a")):
        for end in ("", "_gold", "_fp16"):
            (OUT / f"{old}{end}").rename(OUT / f"{new}{end}")
        if logs == "are renamed too":
            Path(f"logs/train/{old}_eval.jsonl").rename(f"logs/train/{new}_eval.jsonl")
    mypt("resume", "a", "--max-iters", "16")
    mypt("resume", "newer", "--max-iters", "12")
    assert_told_apart(mypt, {"a": 16, "newer": 12})
    mypt("resume", "a", "--max-iters", "20")
    assert_told_apart(mypt, {"a": 20, "newer": 12})


@pytest.mark.parametrize("how", ["renamed", "copied", "under its own name"])
def test_a_gold_bundle_becomes_a_run(how: str, mypt: Mypt, once: Once) -> None:
    once("train", "a", *RUN)
    mypt("resume", "a", "--max-iters", "20", "--lr", "30", "--lr-schedule", "constant")
    weights = (OUT / "a_gold/model.pt").read_bytes()
    name = "a_gold" if how == "under its own name" else "b"
    if how == "copied":
        shutil.copytree(OUT / "a_gold", OUT / "b")
    else:
        (OUT / "a_gold").rename(OUT / name)
        shutil.rmtree(OUT / "a")
    words = ["--max-iters", "16", "--lr", "30", "--lr-schedule", "constant"]  # no later step is better
    mypt("resume", name, *words)
    assert (state(name).name, state(name).log_file) == (name, f"logs/train/{name}_eval.jsonl")
    assert evaluations(mypt, name) == [4, 8, 12, 16] and faults(mypt) == []
    assert (OUT / f"{name}_gold/model.pt").read_bytes() == weights, "the best is kept"
    assert "identical: all 16 steps" in mypt("reproduce", name).output
    mypt("resume", name, "--from", "gold", "--max-iters", "20", "--lr", "1e-3")
    assert faults(mypt) == []


def test_a_fork_that_is_killed_while_it_gets_its_identity_is_completed(
    mypt: Mypt, once: Once, monkeypatch: pytest.MonkeyPatch
) -> None:
    once("train", "a", *RUN)
    from mypt.run import fork

    class KilledError(Exception):
        """Stands for SIGKILL."""

    steps = ["copy_branch", "copy_bundle", "copy_bundle", "copy_bundle"]
    for killed_at in range(len(steps) + 1):
        for name in ("a", "a_gold", "a_fp16"):
            shutil.copytree(OUT / name, OUT / name.replace("a", f"b{killed_at}", 1))
        name, done = f"b{killed_at}", 0
        with monkeypatch.context() as patch:
            for step in set(steps):
                real = getattr(fork, step)

                def counted(*args: Any, real: Any = real, limit: int = killed_at, **more: Any) -> None:
                    nonlocal done
                    if done == limit:
                        raise KilledError
                    done += 1
                    real(*args, **more)

                patch.setattr(fork, step, counted)
            assert (mypt("resume", name, "--max-iters", "16", ok=False).exit_code == 0) == (killed_at == len(steps))
        mypt("resume", name, "--max-iters", "16" if killed_at < len(steps) else "17")
        assert evaluations(mypt, name)[:4] == [4, 8, 12, 16] and faults(mypt) == []
        assert {state(f"{name}{end}").run_id for end in ("", "_gold", "_fp16")} == {state(name).run_id}


def test_a_dry_run_of_a_copy_writes_nothing(mypt: Mypt, once: Once) -> None:
    once("train", "a", *RUN)
    shutil.copytree(OUT / "a", OUT / "b")
    before = {p: p.read_bytes() for p in Path().rglob("*") if p.is_file()}
    mypt("resume", "b", "--max-iters", "16", "--dry-run")
    Path("input.txt").rename("moved.txt")
    assert mypt("resume", "b", "--max-iters", "16", ok=False).exit_code == 2
    Path("moved.txt").rename("input.txt")
    assert {p: p.read_bytes() for p in Path().rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("log", ["logs/mine.jsonl", "logs/train/a_eval.jsonl", "logs/train/other_eval.jsonl"])
def test_a_log_of_the_users_choice_is_shared_by_no_copy(log: str, mypt: Mypt, once: Once) -> None:
    once("train", "a", *RUN, "--log-file", log)
    shutil.copytree(OUT / "a", OUT / "b")
    mypt("resume", "a", "--max-iters", "16", "--lr", "2e-2")
    mypt("resume", "b", "--max-iters", "20", "--lr", "1e-3")
    assert_told_apart(mypt, {"a": 16, "b": 20})
    shutil.copytree(OUT / "a", OUT / "c")
    mypt("resume", "c", "--max-iters", "24", "--log-file", log)  # one log, told apart by the runs' ids
    assert evaluations(mypt, "c") == [*range(4, 25, 4)] and evaluations(mypt, "a") == [4, 8, 12, 16]
    assert faults(mypt) == []


@pytest.mark.parametrize("log", [[], ["--log-file", "absolute"]])
def test_a_copy_of_the_whole_folder_is_no_second_writer_of_its_runs(log: list[str], mypt: Mypt) -> None:
    words = ["--log-file", str(Path("mine.jsonl").absolute())] if log else []
    if log:  # outside of what the folder's parent holds, so that the record has an absolute path
        words[1] = str(Path("..", "outside", "a_eval.jsonl").resolve())
    mypt("train", "a", *RUN, *words)
    shutil.copytree(OUT, "backup")
    mypt("resume", "a", "--max-iters", "16", "--lr", "3e-2")
    there = ["--out-dir", "backup"]
    assert json.loads(mypt("logs", "summarize", "a", "--json", *there).output)["step"] == 12
    mypt("resume", "a", "--max-iters", "20", "--lr", "1e-3", *there)
    for folder, step in (("checkpoints", 16), ("backup", 20)):
        words = ["--out-dir", folder]
        found = json.loads(mypt("logs", "summarize", "a", "--json", *words).output)
        last = read_state(Path(folder, "a")).progress.last_val_loss
        assert (found["step"], found["val_loss"]["last"]) == (step, round(last or 0, 6))
        assert f"identical: all {step} steps" in mypt("reproduce", "a", *words).output
        assert " 0 faults." in mypt("verify", *words).output
    both = [
        read_state(Path(folder, name)) for folder in ("checkpoints", "backup") for name in ("a", "a_gold", "a_fp16")
    ]
    assert [s.run_id for s in both] == [both[0].run_id] * 3 + [both[3].run_id] * 3 and both[0].run_id != both[3].run_id
    assert both[0].log_file != both[3].log_file


def test_a_folder_that_was_moved_or_copied_with_its_logs_keeps_its_runs(mypt: Mypt, once: Once) -> None:
    once("train", "a", *RUN)
    run = state("a").run_id
    shutil.copytree("checkpoints", "project/checkpoints")
    shutil.copytree("logs", "project/logs")
    OUT.rename("elsewhere")
    for folder in ("elsewhere", "project/checkpoints"):
        mypt("resume", "a", "--max-iters", "16", "--out-dir", folder)
        moved = read_state(Path(folder, "a"))
        assert (moved.run_id, moved.forked_from, moved.log_file) == (run, (), "logs/train/a_eval.jsonl")
        assert "identical: all 16 steps" in mypt("reproduce", "a", "--out-dir", folder).output
    Path("link").symlink_to("elsewhere")
    mypt("resume", "a", "--max-iters", "20", "--out-dir", "link")
    assert read_state(Path("link/a")).run_id == run
