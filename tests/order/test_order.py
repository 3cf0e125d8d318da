"""Runs kept in order: renamed, copied, removed and counted, with a kill at every point where that changes the disk."""

import json
import os
import shutil
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from mypt.checkpoint.family import copy_bundle
from mypt.checkpoint.files import read_state
from mypt.checkpoint.lock import locked
from mypt.schema.order.trash import Removed
from tests.conftest import SHORT, Mypt, Once, flat, stopping_at
from tests.run.faults import EVERY, Disk, in_child

RUN = [*SHORT, "--max-iters", "8", "--eval-interval", "4"]
OUT, LOGS = Path("checkpoints"), Path("logs/train")
FAMILY = ("", "_gold", "_fp16")
ARCHIVED = "a_20200101-123000"


def state(name: str) -> Any:
    return read_state(OUT / name)


def trained(_: Mypt, once: Once) -> None:
    once("train", "a", *RUN)


def taken_away(mypt: Mypt, once: Once) -> None:
    once("train", "a", *RUN)
    mypt("rm", "a")


def archived(mypt: Mypt, once: Once) -> None:
    """Lay a run that a newer one of its name, `a`, replaced long ago."""
    once("train", "a", *RUN)
    for path in (OUT / f"a{end}" for end in FAMILY):
        copy_bundle(path, path, "a", Path("logs/train/a_eval.jsonl"), saved_at="2020-01-01T12:00:00")
    mypt("mv", "a", ARCHIVED)
    mypt("train", "a", *RUN, "--seed", "5")


def faults(mypt: Mypt) -> list[dict[str, Any]]:
    return [c for c in json.loads(mypt("verify", "--json", ok=False).output) if c["ok"] is False]


def shown() -> set[str]:
    """What a user sees in the folder of bundles."""
    return {p.name for p in OUT.iterdir() if p.name[0] != "."} if OUT.is_dir() else set()


def weights(folder: Path) -> set[bytes]:
    return {path.read_bytes() for path in (folder / OUT).rglob("model.pt")}


def lines(folder: Path) -> set[str]:
    """What the logs of a folder say, wherever they lie."""
    return {line for path in folder.rglob("*_eval.jsonl") for line in path.read_text(encoding="utf-8").splitlines()}


def test_a_run_that_is_renamed_stays_the_run_and_goes_on(mypt: Mypt, once: Once) -> None:
    once("train", "a", *RUN)
    before, log = {end: state(f"a{end}") for end in FAMILY}, (LOGS / "a_eval.jsonl").read_bytes()
    mypt("mv", "a", "b")
    assert shown() == {f"b{end}" for end in FAMILY} and [p.name for p in LOGS.iterdir()] == ["b_eval.jsonl"]
    assert (LOGS / "b_eval.jsonl").read_bytes() == log and faults(mypt) == []
    told = {"name": "b", "log_file": "logs/train/b_eval.jsonl"}
    assert {end: state(f"b{end}") for end in FAMILY} == {e: s.model_copy(update=told) for e, s in before.items()}
    mypt("resume", "b", "--max-iters", "12")
    assert state("b").run_id == before[""].run_id and state("b").forked_from == () and faults(mypt) == []
    assert "identical: all 12 steps" in mypt("reproduce", "b").output


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("mv a b", "b is there already"),
        ("mv a_gold c", "gold bundle of a"),
        ("mv a_fp16 c", "fp16 bundle of a"),
        ("mv nope c", "There is no model 'nope'"),
        ("mv a a", "has that name already"),
        ("mv a ../c", "cannot be the name"),
        ("mv a b_gold", "is where b keeps its gold bundle"),
        ("fork a b", "b is there already"),
        ("fork a a", "has that name already"),
        ("fork nope c", "There is no model 'nope'"),
        ("rm a ../b", "cannot be the name"),
        ("rm a nope", "There is no model 'nope'"),
        ("rm a --undo", "There is no 'a' in the trash"),
        ("rm a --undo --purge", "cannot be put back"),
    ],
)
def test_what_cannot_be_done_changes_nothing(call: str, said: str, mypt: Mypt, once: Once) -> None:
    once("train", "a", *RUN)
    once("train", "b", *RUN, "--seed", "3")
    before = {p: p.read_bytes() for p in Path().rglob("*") if p.is_file()}
    result = mypt(*call.split(), ok=False)
    assert result.exit_code == 2 and said in flat(result.stderr)
    assert {p: p.read_bytes() for p in Path().rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("call", ["mv a c", "mv b a2", "fork a c", "rm b a", "rm --purge a"])
def test_a_run_that_is_written_is_left_alone(call: str, mypt: Mypt, once: Once) -> None:
    once("train", "a", *RUN)
    once("train", "b", *RUN, "--seed", "3")
    names = shown()
    with locked(OUT / ("b" if call.startswith("mv b") else "a"), print):
        result = mypt(*call.split(), ok=False)
        assert result.exit_code == 1 and "is being written by" in flat(result.stderr)
        assert "a" not in mypt("prune", "--yes", "--trash-days", "0").output.split()
    assert shown() == names and not (OUT / ".trash").exists()


def test_a_log_that_others_name_or_that_has_a_name_of_its_own_stays(mypt: Mypt, once: Once) -> None:
    once("train", "a", *RUN)
    shutil.copytree(OUT / "a", OUT / "copy")
    log = (LOGS / "a_eval.jsonl").read_bytes()
    mypt("mv", "a", "b")
    assert (LOGS / "a_eval.jsonl").read_bytes() == (LOGS / "b_eval.jsonl").read_bytes() == log
    mypt("train", "c", *RUN, "--log-file", "mine.jsonl")
    mypt("mv", "c", "d")
    assert state("d").log_file == "mine.jsonl" and Path("mine.jsonl").is_file()
    mypt("rm", "d")
    assert Path("mine.jsonl").is_file()


def test_a_fork_goes_on_apart_from_its_origin(mypt: Mypt, once: Once) -> None:
    once("train", "a", *RUN)
    log = (LOGS / "a_eval.jsonl").read_bytes()
    assert "mypt resume b" in mypt("fork", "a", "b").output
    (origin,) = state("b").forked_from
    assert (origin.name, origin.step, origin.run_id) == ("a", 8, state("a").run_id)
    assert len({state(f"b{end}").run_id for end in FAMILY} | {state("a").run_id}) == 2 and faults(mypt) == []
    mypt("resume", "b", "--max-iters", "12", "--lr", "1e-3")
    mypt("resume", "a", "--max-iters", "16", "--lr", "3e-2")
    assert (LOGS / "a_eval.jsonl").read_bytes().startswith(log) and faults(mypt) == []
    for name, steps in (("a", 16), ("b", 12)):
        assert f"identical: all {steps} steps" in mypt("reproduce", name).output
    mypt("fork", "a_gold", "c")
    assert state("c").step == state("a_gold").step and state("c").name == "c"
    mypt("resume", "c", "--max-iters", "20")
    assert faults(mypt) == []


def test_what_is_removed_comes_back_or_is_gone_for_good(mypt: Mypt, once: Once) -> None:
    once("train", "a", *RUN)
    before = {p: p.read_bytes() for p in Path().rglob("*") if p.is_file()}
    taken = json.loads(mypt("du", "--json").output)["total"]
    assert "mypt rm a --undo" in mypt("rm", "a").output
    assert shown() == set() and not list(LOGS.iterdir())
    (entry,) = (OUT / ".trash").iterdir()
    record = Removed.model_validate_json((entry / "removed.json").read_text(encoding="utf-8"))
    assert (record.name, record.step, record.bytes) == ("a", 8, taken)
    assert record.bundles == ("a", "a_gold", "a_fp16") and record.log == "logs/train/a_eval.jsonl"
    mypt("rm", "a", "--undo")
    assert {p: p.read_bytes() for p in Path().rglob("*") if p.is_file()} == before and not (OUT / ".trash").exists()
    mypt("rm", "a_fp16")
    assert shown() == {"a", "a_gold"} and faults(mypt) == []
    mypt("rm", "a")
    once("train", "a", *RUN)
    assert "is there already" in mypt("rm", "a", "--undo", ok=False).stderr
    mypt("rm", "a", "a_fp16", "--purge")
    assert not list(OUT.rglob("*")) and not list(LOGS.iterdir())


@pytest.mark.parametrize("call", ["rm b", "rm a --undo", "rm a --purge", "prune --yes"])
def test_one_call_at_a_time_has_the_trash(call: str, mypt: Mypt, once: Once) -> None:
    """The other one would take what is being put there for something that a kill has left."""
    once("train", "a", *RUN)
    once("train", "b", *RUN)
    mypt("rm", "a")
    before = shown(), sorted((OUT / ".trash").rglob("*"))
    with locked(OUT / ".trash", print):
        assert ".trash is being written by" in flat(mypt(*call.split(), ok=False).stderr)
    assert (shown(), sorted((OUT / ".trash").rglob("*"))) == before
    mypt(*call.split())


def test_prune_puts_away_what_is_superseded_and_nothing_else(mypt: Mypt, once: Once) -> None:
    mypt("train", "b", *RUN)
    assert "Nothing in checkpoints is superseded" in mypt("prune").output
    archived(mypt, once)
    with stopping_at(10):
        mypt("resume", "b", "--max-iters", "12")
    before = shown()
    assert ARCHIVED in mypt("prune").output and shown() == before
    mypt("prune", "--yes")
    assert shown() == before - {f"{ARCHIVED}{end}" for end in FAMILY} - {"b_fp16"}
    assert "Nothing" in mypt("prune").output
    mypt("prune", "--trash-days", "0", "--yes")
    assert not (OUT / ".trash").exists() and faults(mypt) == []


def test_an_archived_run_that_was_gone_on_with_is_not_superseded(mypt: Mypt, once: Once) -> None:
    archived(mypt, once)
    assert ARCHIVED in mypt("prune").output
    mypt("resume", ARCHIVED, "--max-iters", "12")
    assert ARCHIVED not in mypt("prune").output


def test_bytes_that_several_names_share_count_once(mypt: Mypt, once: Once) -> None:
    once("train", "a", *RUN)
    alone = json.loads(mypt("du", "--json").output)
    assert alone["total"] == sum(p.stat().st_size for p in [*OUT.rglob("*"), *LOGS.iterdir()] if p.is_file())
    mypt("fork", "a", "b")
    both = json.loads(mypt("du", "--json").output)
    tensors = sum(p.stat().st_size for p in OUT.glob("a*/*.pt"))
    assert both["shared"] >= tensors and both["total"] < alone["total"] + tensors
    assert both["total"] + both["shared"] == sum(
        r[part] for r in both["runs"] for part in ("last", "gold", "fp16", "log")
    )
    mypt("rm", "b")
    assert json.loads(mypt("du", "--json").output)["trash"] > tensors


@pytest.mark.parametrize("width", [30, 60, 80, 140])
def test_sizes_are_whole_at_any_width(width: int, mypt: Mypt, once: Once) -> None:
    once("train", "a", *RUN)
    shown = mypt("du", "--width", str(width)).output
    heads, *rows = [line.split() for line in shown.splitlines() if line.strip() and "─" not in line]
    assert heads[:2] == ["name", "total"] and rows[0][0] == "a" and rows[0][2] in ("B", "KB", "MB")
    assert len(rows) == 2 and ("log" in heads) == (width >= 60)


def on_disk(disk: Disk) -> None:
    """Also the changes of the disk that training never makes."""
    disk.install()
    link, replace = os.link, Path.replace

    def linked(old: Any, new: Any, **more: Any) -> None:
        disk.change("link", new)
        link(old, new, **more)

    def replaced(old: Path, new: Any) -> Path:
        disk.change("replace", new)
        return replace(old, new)

    os.link, Path.replace = linked, replaced  # type: ignore[assignment, method-assign]


def moved(_: Mypt) -> None:
    assert shown() == {f"b{end}" for end in FAMILY} and [p.name for p in LOGS.iterdir()] == ["b_eval.jsonl"]
    assert {state(f"b{end}").name for end in FAMILY} == {"b"}


def forked(mypt: Mypt) -> None:
    assert shown() == {f"{name}{end}" for name in "ab" for end in FAMILY}
    assert len({state(f"b{end}").run_id for end in FAMILY}) == 1 and state("b").run_id != state("a").run_id
    found = json.loads(mypt("logs", "summarize", "b", "--json").output)
    assert found["step"] == 8


def removed(mypt: Mypt) -> None:
    assert shown() == set() and not list(LOGS.iterdir())
    mypt("rm", "a", "--undo")
    put_back(mypt)


def put_back(_: Mypt) -> None:
    assert shown() == {f"a{end}" for end in FAMILY} and [p.name for p in LOGS.iterdir()] == ["a_eval.jsonl"]
    assert not (OUT / ".trash").exists()


def deleted(_: Mypt) -> None:
    assert shown() == set() and not list(LOGS.iterdir()) and not list(OUT.rglob("model.pt"))


def pruned(mypt: Mypt) -> None:
    assert shown() == {f"a{end}" for end in FAMILY} and [p.name for p in LOGS.iterdir()] == ["a_eval.jsonl"]
    assert "Nothing" in mypt("prune").output
    mypt("rm", ARCHIVED, "--undo")
    assert shown() == {f"{name}{end}" for name in ("a", ARCHIVED) for end in FAMILY}


def pruned_for_good(mypt: Mypt) -> None:
    """What a kill has left in the trash is there for its days, as all of it is."""
    assert shown() == {f"a{end}" for end in FAMILY} and [p.name for p in LOGS.iterdir()] == ["a_eval.jsonl"]
    mypt("prune", "--yes", "--trash-days", "0")
    assert not (OUT / ".trash").exists()


Laid = Callable[[Mypt, Once], object]
CALLS: dict[str, tuple[Laid, Callable[[Mypt], None]]] = {
    "mv a b": (trained, moved),
    "fork a b": (trained, forked),
    "rm a": (trained, removed),
    "rm a --undo": (taken_away, put_back),
    "rm a --purge": (trained, deleted),
    "prune --yes": (archived, pruned),
    "prune --yes --purge": (archived, pruned_for_good),
}


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="it looks at what is flushed through /proc")
@pytest.mark.parametrize("call", CALLS)
def test_a_kill_at_any_point_loses_nothing_and_the_same_call_completes(
    call: str, mypt: Mypt, once: Once, folder: Path, tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    lay, check = CALLS[call]
    lay(mypt, once)
    base = tmp_path_factory.mktemp("killed")
    known, said = weights(folder), lines(folder)

    def session() -> None:
        def fault(n: int) -> None:
            if disk.points[-1][0] != "flush":
                shutil.copytree(folder, base / f"at{n}")

        disk = Disk(EVERY, fault)
        on_disk(disk)
        mypt(*call.split())

    if "fork" in call:
        import_module("mypt.order.fork")  # so that the child finds torch loaded
    assert in_child(session) == 0
    places = sorted(base.iterdir(), key=lambda path: int(path.name[2:]))
    assert len(places) > 10
    for place in places:
        monkeypatch.chdir(place)
        if "purge" not in call:
            assert weights(place) >= known and lines(place) >= said, place
        result = mypt(*call.split(), ok=False)
        assert result.exit_code == 0 or result.stderr, place
        check(mypt)
        if "purge" not in call:
            assert faults(mypt) == [], place
