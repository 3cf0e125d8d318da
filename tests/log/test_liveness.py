"""Whether a run goes on is told by its lock; of a run that no lock tells of, by how long its log is silent."""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from mypt.checkpoint.lock import locked
from mypt.cli.render.events import CRASHED, Follower
from mypt.log.liveness import Writer, seconds_since, writer_of
from mypt.log.locate import FoundLog
from tests.checkpoint.test_names import HOLD
from tests.conftest import Mypt, flat
from tests.log.test_logs import evaluation, event, start, written

BUNDLE = Path("checkpoints/dante")
LOG = Path("logs/train/dante_eval.jsonl")
OWNER = Path("checkpoints/.dante.owner.json")


def words(hours_ago: float, gap_s: float = 10.0) -> Path:
    """A log that begins with a start and has two evaluations, the second of them so long ago."""
    last = datetime.now() - timedelta(hours=hours_ago)
    times = [(last - timedelta(seconds=gap_s)).isoformat(), last.isoformat()]
    lines = [evaluation(10 * i, 3.0, elapsed_s=gap_s * i, timestamp=t) for i, t in enumerate(times, 1)]
    path = written(LOG, start(), *lines)
    os.utime(path, (time.time() - 3600 * hours_ago,) * 2)
    return path


def owned(host: str = platform.node(), pid: int = 1, name: str = "dante") -> None:
    """What a process leaves that never gave its lock back."""
    OWNER.parent.mkdir(exist_ok=True)
    owner = {"name": name, "pid": pid, "host": host, "since": "2026-11-26T10:00:00"}
    OWNER.write_text(json.dumps(owner), encoding="utf-8")


@contextmanager
def held_by_another_process(name: str = "dante") -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(BUNDLE.with_name(name))],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None and "held\n" in process.stdout
        yield process
        if process.poll() is None:
            process.communicate()


def summary(mypt: Mypt, name: str = "dante") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(mypt("logs", "summarize", name, "--json").output)
    return found


def test_a_run_is_running_as_long_as_its_lock_is_held_and_not_after_its_kill(mypt: Mypt) -> None:
    words(0)
    with held_by_another_process() as process:
        assert summary(mypt)["state"] == "running"
        process.kill()
        process.wait()
        assert summary(mypt)["state"] == "crashed"
        lines = mypt("logs", "tail", "dante").output.splitlines()
    assert lines[-1] == CRASHED
    with held_by_another_process("dante_fp16"):  # an export of a run that crashed is not the run
        BUNDLE.mkdir()
        assert summary(mypt)["state"] == "crashed"


@pytest.mark.parametrize("pid", [os.getpid(), 1, 2**22 + 1], ids=["our own", "the first", "none"])
def test_the_number_of_a_process_proves_nothing(pid: int, mypt: Mypt) -> None:
    """As after a kill in another pid namespace, where the number may be that of any process here."""
    words(0)
    owned(pid=pid)
    assert summary(mypt)["state"] == "crashed"
    assert mypt("logs", "tail", "dante").output.splitlines()[-1] == CRASHED


def test_of_another_host_without_a_lock_the_silence_is_told(mypt: Mypt, monkeypatch: pytest.MonkeyPatch) -> None:
    words(3)
    owned(host="node7")
    assert writer_of(BUNDLE) == Writer(None, "node7")
    found = summary(mypt)
    assert (found["state"], found["host"]) == ("unfinished", "node7")
    assert 3 * 3600 - 1 < (seconds_since(found["last_word"]) or 0) < 3 * 3600 + 60
    page = mypt("logs", "summarize", "dante").output
    assert "unfinished: no word from node7 for 3.0h" in flat(page) and "mypt resume" not in page
    monkeypatch.setattr("mypt.log.tail.time.sleep", lambda _: pytest.fail("it waits"))
    for how in ([], ["--no-follow"]):
        last = mypt("logs", "tail", "dante", *how).output.splitlines()[-1]
        assert last == "No word from node7 for 3.0h; from here it cannot be told whether the run goes on."


def test_a_lock_that_shows_here_proves_that_the_other_host_goes_on(mypt: Mypt) -> None:
    words(3)
    with locked(BUNDLE, print):
        owned(host="node7")
        found = summary(mypt)
    assert (found["state"], found["host"]) == ("running", None)


@pytest.mark.parametrize("hosts", [["node7"], []], ids=["another host", "a log alone"])
@pytest.mark.usefixtures("folder")
def test_tail_follows_what_no_lock_tells_of_until_it_is_silent(
    hosts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, now = words(0), time.monotonic()
    for host in hosts:
        owned(host=host)
    more = iter([evaluation(30, 2.5), event("gold_checkpoint", 30, val_loss=2.5, prev_best=3.0)])
    waited = 0.0

    def wait(_: float) -> None:
        nonlocal waited
        waited += 50
        if waited % 500 == 0 and (line := next(more, None)):
            with path.open("a", encoding="utf-8") as log:
                log.write(f"{line}\n")

    monkeypatch.setattr("mypt.log.tail.time.sleep", wait)
    monkeypatch.setattr("mypt.log.tail.time.monotonic", lambda: now + waited)
    lines = list(Follower(FoundLog(path, BUNDLE), 5).lines(on=True))
    assert [line[:8] for line in lines[4:7]] == ["step 30/", "  val 2.", "  🏆 New "]
    assert lines[-1].startswith("No word from node7 for 1" if hosts else "No word for 1") and 1600 < waited < 1800


@pytest.mark.parametrize(("gap_s", "hours", "waits"), [(1000, 1, True), (1000, 2, False), (10, 0.5, False)])
@pytest.mark.usefixtures("folder")
def test_the_patience_grows_with_the_time_between_words(
    gap_s: float, hours: float, waits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class WaitsError(Exception):
        pass

    def wait(_: float) -> None:
        raise WaitsError

    path = words(hours, gap_s)
    owned(host="node7")
    monkeypatch.setattr("mypt.log.tail.time.sleep", wait)
    lines = Follower(FoundLog(path, BUNDLE), 5).lines(on=True)
    if waits:
        with pytest.raises(WaitsError):
            list(lines)
    else:
        assert list(lines)[-1].startswith("No word from node7 for")


def test_moments_of_any_zone_are_told_from_now() -> None:
    now = datetime.now()
    zones = [None, UTC, timezone(timedelta(hours=9))]
    for zone in zones:
        then = (now.astimezone(zone) if zone else now) - timedelta(minutes=5)
        assert seconds_since(then.isoformat()) == pytest.approx(300, abs=60)
    assert seconds_since((now + timedelta(hours=1)).isoformat()) == 0.0 and seconds_since("yesterday") is None
