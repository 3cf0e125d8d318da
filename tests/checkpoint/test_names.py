"""Names and locks: what a model can be called, and who may write under a name."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from mypt.checkpoint.layout import base_name, bundle_path, check_name, check_spelling
from mypt.checkpoint.lock import Holder, holder, locked
from mypt.checkpoint.manager import CheckpointManager
from mypt.errors import BusyError, ConflictError, UsageError
from mypt.log.liveness import Writer, writer_of

HOLD = """
import sys
from pathlib import Path
from mypt.checkpoint.lock import locked
with locked(Path(sys.argv[1]), print):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize(
    "name",
    ["con", "CON", "nul", "NUL.txt", "prn", "aux", "com1", "LPT9", "com¹", "CONIN$", "con .x", "", " ", ".", "..",
     ".a", "a.", "a ", " a", "a..", "a/b", "a\\b", "a:b", "a*", "a?", 'a"', "a<b", "a>b", "a|b", "a\n", "a\x1b[31m",
     "a\u202eb", "a\u200b", "a\x7f", "\ufeffa", "x" * 101, "漢" * 90, "🏆" * 60, "a\udc80"],
)  # fmt: skip
def test_a_name_that_some_system_cannot_hold_is_refused(name: str) -> None:
    for refuse in (check_name, CheckpointManager):
        with pytest.raises(UsageError, match=r"cannot be the name of a model: .+\.") as error:
            refuse(name)
        assert error.value.what.count(". ") == 0


@pytest.mark.parametrize(
    "name", ["dante", "a_gold", "x" * 100, "漢" * 66, "console", "com10", "nulls", "a.b", "ü-1", "a b"]
)
def test_a_name_that_every_system_holds_is_accepted(name: str, tmp_path: Path) -> None:
    assert check_name(name) == name
    manager = CheckpointManager(name, tmp_path)
    longest = f".{manager.name}_20261126-101530_12_gold_fp16.owner.json"
    (tmp_path / longest).touch()  # a name that is accepted leaves room for all that a run adds to it


@pytest.mark.parametrize(
    ("name", "base"),
    [("a", "a"), ("a_gold", "a"), ("a_fp16", "a"), ("a_gold_fp16", "a"), ("a_fp16_gold", "a"), ("_gold", "_gold"),
     ("a_gold_b", "a_gold_b"), ("gold", "gold"), ("_gold_gold", "_gold")],
)  # fmt: skip
def test_the_names_of_one_run_have_one_base(name: str, base: str) -> None:
    assert base_name(name) == base


def test_a_name_that_a_system_takes_for_another_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dante").mkdir()
    check_spelling(tmp_path / "dante")
    check_spelling(tmp_path / "Dante")
    real, same = Path.exists, Path.samefile
    monkeypatch.setattr(Path, "exists", lambda path: real(path.with_name(path.name.lower())))
    monkeypatch.setattr(Path, "samefile", lambda a, b: same(a.with_name(a.name.lower()), b.with_name(b.name.lower())))
    check_spelling(tmp_path / "dante")
    for ask in (lambda: check_spelling(tmp_path / "DANTE"), lambda: bundle_path("DANTE", tmp_path)):
        with pytest.raises(ConflictError, match="is the same folder as dante"):
            ask()


@pytest.mark.parametrize("held", ["a", "a_gold", "a_fp16", "a_gold_fp16"])
def test_all_names_of_a_run_have_one_lock(held: str, tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / held)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        for name in ("a", "a_gold", "a_fp16"):
            with (
                pytest.raises(BusyError, match=f"is being written by process {process.pid} on"),
                locked(tmp_path / name, print),
            ):
                pass
            found = holder(tmp_path / name)
            assert found is not None and (found.name, found.pid, found.alive) == (held, process.pid, True)
            assert writer_of(tmp_path / name).alive == (True if name == held else None)
        with locked(tmp_path / "b", print):
            pass
        process.communicate()
    assert holder(tmp_path / "a") is None
    assert not list(tmp_path.iterdir())  # no lock and no owner stays behind


def test_a_killed_process_is_told_from_a_living_one(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "a")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        process.kill()
    found = holder(tmp_path / "a")
    assert found is not None and found.alive is False and found.pid == process.pid
    assert writer_of(tmp_path / "a") == Writer(alive=False)
    told: list[str] = []
    with locked(tmp_path / "a", told.append):
        assert writer_of(tmp_path / "a") == Writer(alive=True)
    assert len(told) == 1 and f"Took over {tmp_path / 'a'} from process {process.pid}" in told[0]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("pid", [os.getpid(), 1, 2**22 + 1], ids=["our own", "the first", "none"])
def test_a_number_that_a_process_of_another_namespace_left_proves_nothing(pid: int, tmp_path: Path) -> None:
    since = "2026-11-26T10:00:00"
    owner = {"name": "a", "pid": pid, "host": platform.node(), "since": since}
    (tmp_path / ".a.owner.json").write_text(json.dumps(owner), encoding="utf-8")
    assert holder(tmp_path / "a") == Holder("a", pid, platform.node(), since, alive=False)
    (tmp_path / ".a.owner.json").write_text(json.dumps(owner | {"host": "node7"}), encoding="utf-8")
    assert holder(tmp_path / "a") == Holder("a", pid, "node7", since, alive=None)
    assert writer_of(tmp_path / "a") == Writer(None, "node7")


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"pid": "x"}', '{"pid": 1}', "\x00"])
def test_an_owner_file_that_says_nothing_is_no_obstacle(content: str, tmp_path: Path) -> None:
    (tmp_path / ".a.owner.json").write_text(content, encoding="utf-8")
    assert writer_of(tmp_path / "a") == Writer(alive=False)
    with locked(tmp_path / "a", print):
        assert writer_of(tmp_path / "a") == Writer(alive=True)


def test_a_link_is_locked_with_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/a").symlink_to(tmp_path / "disk/b")
    with locked(tmp_path / "checkpoints/a", print):
        for other in ("disk/b", "disk/b_gold", "checkpoints/a"):
            with pytest.raises(BusyError), locked(tmp_path / other, print):
                pass
    with locked(tmp_path / "disk/b", print), pytest.raises(BusyError), locked(tmp_path / "checkpoints/a", print):
        pass
    (tmp_path / "other").symlink_to(tmp_path / "disk")  # the same folder by another path
    with locked(tmp_path / "other/b", print), pytest.raises(BusyError), locked(tmp_path / "disk/b", print):
        pass
