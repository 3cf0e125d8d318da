"""`mypt doctor`: what is in the way on machines that this one is not, and that nothing is left of what it tried."""

import errno
import json
import locale
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mypt.checkpoint import atomic, lock
from mypt.run.machine import disk, doctor
from tests.conftest import Mypt, flat

Patch = pytest.MonkeyPatch


@pytest.fixture(autouse=True)
def healthy(monkeypatch: Patch) -> None:
    """A machine of four cores on which nothing is in the way."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr(os, "getloadavg", lambda: (0.5, 0.5, 0.5), raising=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    monkeypatch.setattr(doctor, "_limit", lambda _: "max")
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/c++" if name == "c++" else None)
    monkeypatch.setattr(locale, "getpreferredencoding", lambda **_: "UTF-8")
    monkeypatch.setattr(disk, "_LITTLE_BYTES", 0)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


def refused(*_: object, **__: object) -> None:
    raise OSError(errno.EPERM, "not here")


def one_thread(patch: Patch) -> None:
    patch.setenv("OMP_NUM_THREADS", "1")
    patch.setattr(torch, "get_num_threads", lambda: 1)


WRONG: dict[str, tuple[Callable[[Patch], None], str]] = {
    "more threads than cores": (
        lambda patch: patch.setattr(torch, "get_num_threads", lambda: 9),
        "threads: 9 threads wait for 4 cores; OMP_NUM_THREADS=4 before the call is faster.",
    ),
    "a container with half a core": (
        lambda patch: patch.setattr(doctor, "_limit", lambda name: "50000 100000" if name == "cpu.max" else "max"),
        "threads: 4 threads wait for 0.5 cores; OMP_NUM_THREADS=1 before the call is faster.",
    ),
    "idle cores": (
        one_thread,
        "threads: OMP_NUM_THREADS lets 1 of 4 cores compute; leave it out.",
    ),
    "a busy machine": (
        lambda patch: patch.setattr(os, "getloadavg", lambda: (3.0, 0, 0), raising=False), "load: Other programs keep",
    ),
    "a container with little memory": (
        lambda patch: patch.setattr(doctor, "_limit", lambda name: "1000000000" if name == "memory.max" else ""),
        "memory: What goes beyond the limit of the container is killed without a word.",
    ),
    "a GPU that torch does not use": (
        lambda patch: patch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}"), "NVIDIA: A GPU is idle:",
    ),
    "a full disk": (lambda patch: patch.setattr(disk, "_LITTLE_BYTES", 1 << 60), "room: That is little for bundles"),
    "no exchange of names": (
        lambda patch: patch.setattr(atomic, "_exchange", lambda *_: False), "switching: A crash between the two",
    ),
    "no locks": (lambda patch: patch.setattr(lock, "_is_held", lambda _: False), "locks: Let no two processes train"),
    "locks that are refused": (lambda patch: patch.setattr(lock, "_is_held", refused), "locks: Let no two processes"),
    "another encoding": (
        lambda patch: patch.setattr(locale, "getpreferredencoding", lambda **_: "cp1252"), "text: Set PYTHONUTF8=1",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_what_is_in_the_way_is_told_with_what_to_do(what: str, mypt: Mypt, monkeypatch: Patch) -> None:
    assert "Nothing is in the way." in flat(mypt("doctor").output)
    change, told = WRONG[what]
    change(monkeypatch)
    shown = flat(mypt("doctor").output)
    assert told in shown and "Nothing is in the way." not in shown


def test_what_it_tried_is_gone_and_json_has_all(mypt: Mypt, folder: Path, monkeypatch: Patch) -> None:
    """The folder of all bundles is not made for it; the nearest one above is tried."""
    monkeypatch.setattr(os, "link", refused)
    monkeypatch.setenv("WANDB_API_KEY", "secret")
    before = sorted(folder.rglob("*"))
    facts = json.loads(mypt("doctor", "--json", "--out-dir", "some/where").output)
    assert sorted(folder.rglob("*")) == before
    found = {fact["name"]: fact["found"] for fact in facts}
    assert found["folder"].startswith(f"{folder} (") and found["links"] == "copies of bundles take room"
    assert found["torch"].startswith(torch.__version__) and found["cores"].startswith("4")
    assert {fact["about"] for fact in facts} == {"software", "computing", "training", "disk", "surroundings"}
    assert "secret" not in json.dumps(facts)


def test_a_folder_that_cannot_be_written_is_a_failure(mypt: Mypt, monkeypatch: Patch) -> None:
    monkeypatch.setattr(disk, "TemporaryDirectory", refused)
    result = mypt("doctor", ok=False)
    assert result.exit_code == 1 and "cannot be written: writing there is not permitted" in flat(result.stderr)
