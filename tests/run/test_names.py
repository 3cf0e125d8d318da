"""A name has one owner: nothing of another run, and nothing that is no bundle, is ever replaced, tidied or moved."""

import errno
import hashlib
import os
import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from mypt.checkpoint import atomic
from mypt.checkpoint.files import read_state
from mypt.checkpoint.layout import GOLD
from mypt.checkpoint.lock import locked
from mypt.run import archive
from mypt.schema.files.state import TrainingState
from mypt.train.keeper import Keeper
from tests.conftest import SHORT, Mypt, Once, flat

MORE = ["--max-iters", "6"]
BUNDLES = Path("checkpoints")


def contents(*folders: Path) -> dict[str, str]:
    """The hash of each file below some folders."""
    files = sorted(p for folder in folders for p in folder.rglob("*") if p.is_file())
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def a_folder(mypt: Mypt, path: Path) -> None:
    del mypt
    path.mkdir(parents=True)
    (path / "thesis.tex").write_text("years of work", encoding="utf-8")


def a_file(mypt: Mypt, path: Path) -> None:
    del mypt
    path.parent.mkdir(exist_ok=True)
    path.write_text("notes", encoding="utf-8")


def a_run_of_that_name(mypt: Mypt, path: Path) -> None:
    mypt("train", path.name, *SHORT)


def a_copy_of_another_run(mypt: Mypt, path: Path) -> None:
    mypt("train", "other", *SHORT)
    shutil.copytree(BUNDLES / "other", path)


def an_export_of_another_run(mypt: Mypt, path: Path) -> None:
    mypt("train", "other", *SHORT)
    mypt("export-fp16", "other", "--out", str(path))


def a_dataset(mypt: Mypt, path: Path) -> None:
    Path("texts").mkdir(exist_ok=True)
    for i in range(20):
        Path(f"texts/{i}.txt").write_text(f"text number {i}", encoding="utf-8")
    mypt("prepare", "texts", "--out", str(path), "--tokenization", "char", "--val-share", "0.5")


IN_THE_WAY: list[Callable[[Mypt, Path], None]] = [
    a_folder, a_file, a_run_of_that_name, a_copy_of_another_run, an_export_of_another_run, a_dataset,
]  # fmt: skip


@pytest.mark.parametrize("ending", ["_gold", "_fp16"])
@pytest.mark.parametrize("lay", IN_THE_WAY)
def test_what_is_not_of_the_run_is_refused_before_the_first_step(
    lay: Callable[[Mypt, Path], None], ending: str, mypt: Mypt
) -> None:
    """Whatever the call is: a first start, a resume, a fresh start, a rewind, an export."""
    taken = BUNDLES / f"a{ending}"
    lay(mypt, taken)
    before = contents(BUNDLES)
    assert mypt("train", "a", *SHORT, ok=False).exit_code == 2
    assert contents(BUNDLES) == before and not (BUNDLES / "a").exists()
    kept = BUNDLES.rename("kept") / taken.name
    mypt("train", "a", *SHORT)
    shutil.rmtree(taken)
    shutil.move(kept, taken)
    before = contents(BUNDLES)
    calls = [["resume", "a", *MORE], ["train", "a", *SHORT, *MORE], ["train", "a", *SHORT, "--fresh"]]
    calls += [["resume", "a", "--from", "gold", *MORE]] if ending == "_fp16" else []
    calls += [["export-fp16", "a"]] if ending == "_fp16" and lay is not an_export_of_another_run else []
    for call in calls:
        result = mypt(*call, ok=False)
        assert result.exit_code == 2 and str(taken) in result.stderr, call
        assert contents(BUNDLES) == before, call
    if ending == "_fp16":
        assert mypt("export-fp16", "a", ok=False).exit_code == 2
    assert contents(BUNDLES) == before


@pytest.mark.parametrize("bundle", ["a", "a_gold", "a_fp16"])
@pytest.mark.parametrize("note", ["notes.txt", "plots/loss.png"])
def test_a_note_laid_inside_a_bundle_is_never_lost(bundle: str, note: str, mypt: Mypt, once: Once) -> None:
    once("train", "a", *SHORT)
    path = BUNDLES / bundle / note
    path.parent.mkdir(exist_ok=True)
    path.write_text("remember", encoding="utf-8")
    before = contents(BUNDLES)
    calls = [["resume", "a", *MORE]] + ([["export-fp16", "a"]] if bundle == "a_fp16" else [])
    for call in calls:
        result = mypt(*call, ok=False)
        assert result.exit_code == 2 and note.split("/")[0] in result.stderr and bundle in result.stderr
        assert contents(BUNDLES) == before
    mypt("train", "a", *SHORT, "--fresh")  # what moves it aside takes the note with it
    assert [p for p in BUNDLES.rglob(Path(note).name) if p.read_text(encoding="utf-8") == "remember"]


def test_a_note_laid_into_a_bundle_while_it_trains_stays(mypt: Mypt, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Keeper.save

    def save(keeper: Keeper, state: TrainingState) -> TrainingState:
        state = real(keeper, state)
        if state.step == 2:
            for bundle in (BUNDLES / "a", BUNDLES / "a_gold"):
                (bundle / "plots").mkdir()
                (bundle / "plots/note.txt").write_text("mine", encoding="utf-8")
        return state

    monkeypatch.setattr(Keeper, "save", save)
    mypt("train", "a", *SHORT)
    assert read_state(BUNDLES / "a").step == 4
    assert (BUNDLES / "a/plots/note.txt").read_text(encoding="utf-8") == "mine"
    assert (BUNDLES / "a_gold/plots/note.txt").read_text(encoding="utf-8") == "mine"


def test_a_folder_that_appears_while_a_run_trains_is_not_replaced(mypt: Mypt, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Keeper.save_gold

    def save_gold(keeper: Keeper, state: TrainingState) -> TrainingState:
        if not (BUNDLES / "a_gold").exists():
            a_folder(mypt, BUNDLES / "a_gold")
        return real(keeper, state)

    monkeypatch.setattr(Keeper, "save_gold", save_gold)
    assert mypt("train", "a", *SHORT, ok=False).exit_code == 2
    assert (BUNDLES / "a_gold/thesis.tex").read_text(encoding="utf-8") == "years of work"


@pytest.mark.parametrize("name", ["a_gold", "a_fp16"])
def test_no_run_starts_where_another_keeps_its_bundles(name: str, mypt: Mypt) -> None:
    with locked(BUNDLES / "a", print):  # `a` runs and has not saved yet
        assert mypt("train", name, *SHORT, ok=False).exit_code == 1
    mypt("train", "a", *SHORT)
    before = contents(BUNDLES)
    calls = [["train", name, *SHORT, "--fresh"], ["train", name, *SHORT, *MORE], ["resume", name, *MORE]]
    for call in calls:
        assert mypt(*call, ok=False).exit_code in (1, 2), call
    shutil.rmtree(BUNDLES / name)
    assert mypt("train", name, *SHORT, ok=False).exit_code == 2
    assert mypt("export-fp16", "a_fp16", "--out", str(BUNDLES / "a_gold"), ok=False).exit_code == 2
    assert contents(BUNDLES).items() <= before.items()


def test_an_ending_is_free_for_a_run_as_long_as_nobody_else_needs_it(mypt: Mypt, once: Once) -> None:
    once("train", "my_gold", *SHORT)
    mypt("resume", "my_gold", *MORE)
    assert read_state(BUNDLES / "my_gold").step == 6 and (BUNDLES / "my_gold_gold").is_dir()
    mypt("train", "my_gold", *SHORT, "--fresh")
    assert read_state(BUNDLES / "my_gold").step == 4


def test_the_bundles_of_an_earlier_run_of_the_name_are_set_aside(mypt: Mypt, once: Once) -> None:
    once("train", "a", *SHORT)
    gold, light = contents(BUNDLES / "a_gold"), contents(BUNDLES / "a_fp16")
    first = read_state(BUNDLES / "a_gold").run_id
    shutil.rmtree(BUNDLES / "a")
    out = flat(mypt("train", "a", *SHORT).output)
    assert "Moved checkpoints/a_gold aside to checkpoints/a_2" in out and "Moved checkpoints/a_fp16 aside" in out
    for ending, before in ((GOLD, gold), ("_fp16", light)):
        (kept,) = BUNDLES.glob(f"a_2*{ending}")
        weights = {Path(p).name: h for p, h in contents(kept).items() if p.endswith(".pt")}
        assert weights == {Path(p).name: h for p, h in before.items() if p.endswith(".pt")}
        assert read_state(kept).run_id == first and read_state(kept).name == kept.name.removesuffix(ending)
    assert mypt("verify", *(p.name for p in BUNDLES.glob("a*"))).exit_code == 0


class Noon(datetime):
    """A clock that stands still."""

    @classmethod
    def now(cls, tz: object = None) -> "Noon":
        del tz
        return cls(2026, 11, 26, 12, 0, 0)


def test_setting_aside_twice_in_one_second_keeps_both(mypt: Mypt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "datetime", Noon)
    mypt("train", "a", *SHORT)
    hashes = set()
    for _ in range(2):
        hashes.add(contents(BUNDLES / "a")["checkpoints/a/model.pt"])
        mypt("resume", "a", "--from", "gold", *MORE, "--lr", "0.1", "--gold-overfit-ratio", "0.01")
    hashes.add(contents(BUNDLES / "a")["checkpoints/a/model.pt"])
    for seed in ("1", "2"):
        mypt("train", "a", *SHORT, "--fresh", "--seed", seed)
        hashes.add(contents(BUNDLES / "a")["checkpoints/a/model.pt"])
    kept = {f"a_20261126-120000{n}" for n in ("", "_2", "_3", "_4")}
    assert kept <= {p.name for p in BUNDLES.iterdir()}
    assert hashes <= set(contents(BUNDLES).values())
    logs = {p.name for p in Path("logs/train").iterdir()}
    assert {f"{name}_eval.jsonl" for name in kept} <= logs
    assert mypt("verify").exit_code == 0


@pytest.mark.parametrize("damage", ["gone", "config.json", "training_state.json", "manifest.json", "model.pt"])
def test_gold_is_a_way_back_when_the_run_itself_is_damaged(damage: str, mypt: Mypt, once: Once) -> None:
    once("train", "a", *SHORT)
    gold = read_state(BUNDLES / "a_gold").step
    if damage == "gone":
        shutil.rmtree(BUNDLES / "a")
    else:
        (BUNDLES / "a" / damage).write_bytes(b"noise")
    before = {p: h for p, h in contents(BUNDLES / "a").items() if p.endswith(".pt") or p.endswith(damage)}
    assert mypt("resume", "a", *MORE, ok=False).exit_code != 0
    out = flat(mypt("resume", "a", "--from", "gold", *MORE).output)
    assert f"from step {gold}" in out and read_state(BUNDLES / "a").step == 6
    assert set(before.values()) <= set(contents(BUNDLES).values())
    assert mypt("verify", "a").exit_code == 0


def test_an_export_waits_for_nobody_and_kills_nobody(mypt: Mypt, once: Once) -> None:
    once("train", "a", *SHORT)
    (BUNDLES / ".a.writing").mkdir()
    (BUNDLES / ".a.saving").touch()
    with locked(BUNDLES / "other", print):
        mypt("export-fp16", "a", "--out", "light")
        assert (BUNDLES / ".a.writing").exists()  # it is not of the names that this export locks
    with locked(BUNDLES / "a", print):
        (BUNDLES / ".a.writing").mkdir()  # a save is under way
        (BUNDLES / ".a.saving").touch()
        before = contents(BUNDLES)
        refused = mypt("export-fp16", "a", ok=False)
        assert refused.exit_code == 1 and "is being written by process" in refused.stderr
        assert contents(BUNDLES) == before and (BUNDLES / ".a.writing").exists()


def test_a_bundle_on_another_disk_is_trained_through_its_link(mypt: Mypt, tmp_path: Path) -> None:
    shm = Path("/dev/shm")
    place = shm / tmp_path.name if shm.is_dir() and os.access(shm, os.W_OK) else tmp_path / "disk"
    try:
        mypt("train", "a", *SHORT, "--out-dir", str(place))
        BUNDLES.mkdir()
        for name in ("a", "a_gold", "a_fp16"):
            (BUNDLES / name).symlink_to(place / name)
        mypt("resume", "a", *MORE, "--log-file", "logs/train/a_eval.jsonl")
        assert read_state(place / "a").step == 6 and (BUNDLES / "a").is_symlink()
        assert (BUNDLES / "a_gold").is_symlink() and (BUNDLES / "a_fp16").is_symlink()
        mypt("train", "a", *SHORT, "--fresh")
        assert read_state(place / "a").step == 4 and (BUNDLES / "a").is_symlink()
        (kept,) = (p for p in BUNDLES.glob("a_2*") if p.name.count("_") == 1)
        assert kept.is_symlink() and kept.resolve().parent == place and read_state(kept).step == 6
        assert not [p.name for p in (*place.iterdir(), *BUNDLES.iterdir()) if p.name.startswith(".")]
    finally:
        if place.parent == shm:
            shutil.rmtree(place, ignore_errors=True)


@pytest.mark.parametrize("bundle", ["a", "a_gold", "a_fp16"])
@pytest.mark.parametrize("code", [errno.EXDEV, errno.EBUSY, errno.EACCES])
def test_a_folder_that_cannot_be_replaced_is_found_out_before_the_first_step(
    bundle: str, code: int, mypt: Mypt, once: Once, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container whose image holds the bundle, or where a disk is mounted at its name."""
    once("train", "a", *SHORT)
    before, log = contents(BUNDLES), Path("logs/train/a_eval.jsonl").read_bytes()
    real = Path.rename

    def rename(path: Path, target: Path) -> Path:
        if path == BUNDLES / bundle:
            raise OSError(code, os.strerror(code))
        return real(path, target)

    monkeypatch.setattr(Path, "rename", rename)
    monkeypatch.setattr(atomic, "_exchange", lambda *_: False)
    result = mypt("resume", "a", *MORE, ok=False)
    assert result.exit_code == 1 and f"checkpoints/{bundle} cannot be written" in result.stderr
    assert contents(BUNDLES) == before and Path("logs/train/a_eval.jsonl").read_bytes() == log
    if bundle == "a_fp16":
        assert mypt("export-fp16", "a", ok=False).exit_code == 1
    assert contents(BUNDLES) == before


def test_a_name_of_the_greatest_length_goes_through_everything(mypt: Mypt) -> None:
    for name in ("x" * 100, "漢" * 66):
        mypt("train", name, *SHORT)
        mypt("resume", name, *MORE)
        mypt("resume", name, "--from", "gold", "--max-iters", "8")
        mypt("export-fp16", name)
        mypt("export-fp16", f"{name}_gold")
        mypt("inspect", f"{name}_gold")
        mypt("train", name, *SHORT, "--fresh")
    assert mypt("verify").exit_code == 0


def test_the_closing_lines_name_only_what_is_there(mypt: Mypt, once: Once) -> None:
    once("train", "a", *SHORT)
    shutil.rmtree(BUNDLES / "a_gold")
    out = mypt("resume", "a", "--max-iters", "5", "--eval-interval", "5", "--gold-overfit-ratio", "0.01").output
    for word in out.split():
        if word.startswith("checkpoints/"):
            assert Path(word).is_dir(), out
    assert "a_gold" not in out


def test_a_call_that_is_refused_leaves_no_empty_folder(mypt: Mypt) -> None:
    assert mypt("train", "a", "--input-file", "nowhere.txt", ok=False).exit_code == 2
    assert not BUNDLES.exists()
