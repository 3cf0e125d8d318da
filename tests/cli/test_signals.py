"""A signal ends every verb wherever it is: one sentence, the exit code of the signal, and nothing half-written."""

import json
import os
import pkgutil
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

from mypt.checkpoint import manifest
from mypt.schema.files.dataset import METADATA_FILE
from mypt.signals import STOP_SIGNALS
from tests.conftest import TINY, Mypt, Once, flat

RUN = ["--input-file", "input.txt", *TINY, "--max-iters", "4", "--eval-interval", "2"]
AT = {
    "train, reading the text": (["train", "new", *RUN], "mypt.data.text._read_source"),
    "train, building the model": (["train", "new", *RUN], "mypt.run.start.Network"),
    "train, measuring half precision": (["train", "new", *RUN], "mypt.run.start.settle_choices"),
    "train, timing a step": (["train", "new", *RUN], "mypt.train.step.Stepper.micro_step"),
    "train, timing an evaluation": (["train", "new", *RUN], "mypt.train.benchmark_step._eval_batch"),
    "train, looking at the disk": (["train", "new", *RUN], "mypt.run.train.check_room"),
    "train, deciding on compilation": (["train", "new", *RUN], "mypt.train.loop.choose"),
    "resume, loading": (["resume", "done", "--max-iters", "8"], "mypt.checkpoint.stored.load_tensors"),
    "resume, rehearsing a save": (["resume", "done", "--max-iters", "8"], "mypt.checkpoint.atomic._flush_tree"),
    "resume, timing a step": (["resume", "done", "--max-iters", "8"], "mypt.train.step.Stepper.micro_step"),
    "generate": (["generate", "done"], "mypt.model.network.Network.hidden"),
    "export-fp16, loading": (["export-fp16", "done"], "mypt.checkpoint.stored.load_tensors"),
    "export-fp16, measuring": (["export-fp16", "done"], "mypt.run.exchange.fp16.evaluate"),
    "export-fp16, writing": (["export-fp16", "done"], "mypt.checkpoint.atomic._flush_tree"),
    "reproduce, a step": (["reproduce", "done"], "mypt.train.step.Stepper.micro_step"),
    "reproduce, an evaluation": (["reproduce", "done"], "mypt.train.evaluation.evaluate.evaluate"),
    "verify": (["verify", "done"], "mypt.checkpoint.manifest.file_hash"),
    "inspect": (["inspect", "done"], "mypt.checkpoint.describe.read_state"),
    "compare": (["compare", "done", "done"], "mypt.log.run_record.Replay"),
    "logs summarize": (["logs", "summarize", "done"], "mypt.log.reader.LineParser.parse"),
    "logs show": (["logs", "show", "done"], "mypt.log.reader.LineParser.parse"),
    "logs tail": (["logs", "tail", "open"], "mypt.log.tail.time.sleep"),
    "logs export": (["logs", "export", "done", "--csv", "old.csv"], "mypt.log.export.EventTable.rows"),
    "logs plot": (["logs", "plot", "done", "--out", "new.svg"], "mypt.cli.draw.picture.draw"),
    "prepare, planning": (["prepare", "texts.jsonl", "--out", "d"], "mypt.data.prepare.pipeline.make_plan"),
    "prepare, claiming the folder": (["prepare", "texts.jsonl", "--out", "d"], "mypt.data.prepare.pipeline.claim"),
    "prepare, a unit": (["prepare", "texts.jsonl", "--out", "d", "--workers", "1"], "mypt.data.prepare.workers._run"),
    "prepare, joining": (["prepare", "texts.jsonl", "--out", "d"], "mypt.data.prepare.pipeline._metadata"),
    "prepare, writing": (["prepare", "texts.jsonl", "--out", "d"], "mypt.data.prepare.pipeline.DatasetMetadata"),
    "data inspect": (["data", "inspect", "made"], "mypt.data.shards.read_dataset_file"),
    "config check": (["config", "check", "c.json"], "mypt.schema.resolve._read_config_file"),
}  # fmt: skip
"""Calls, and a function of mypt in which each of them is when the signal comes."""
KEPT = {"prepare": "What is finished is kept", "resume": "Step 4 is saved", "train": "Nothing was saved yet."}


@pytest.fixture
def ready(folder: Path, once: Once) -> Iterator[Path]:
    """A run that is done, a log that nothing closed, a dataset and a table; signals as Python has them at its start."""
    once("train", "done", *RUN)
    texts = [json.dumps({"text": f"text {n}"}) for n in range(300)]
    (folder / "texts.jsonl").write_text("\n".join(texts), encoding="utf-8")
    once("prepare", "texts.jsonl", "--out", "made", "--tokenization", "char", "--workers", "1")
    (folder / "old.csv").write_text("what was there")
    (folder / "c.json").write_text("{}")
    logged = (folder / "logs/train/done_eval.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (folder / "logs/train/open_eval.jsonl").write_text("".join(logged[:-1]), encoding="utf-8")
    before = {s: signal.getsignal(s) for s in STOP_SIGNALS}
    for s in STOP_SIGNALS:
        signal.signal(s, signal.default_int_handler if s is signal.SIGINT else signal.SIG_DFL)
    yield folder
    for s, handler in before.items():
        signal.signal(s, handler)


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def interrupted(patch: pytest.MonkeyPatch, place: str, signum: int) -> None:
    """Let a signal come each time that a function is entered."""
    *path, name = place.split(".")
    owner = pkgutil.resolve_name(".".join(path))
    real = getattr(owner, name)

    def entered(*args: Any, **options: Any) -> Any:
        signal.raise_signal(signum)
        return real(*args, **options)

    patch.setattr(owner, name, entered)


@pytest.mark.parametrize(("at", "signum"), [*zip(AT, cycle(STOP_SIGNALS), strict=False)])
def test_a_signal_ends_a_verb_where_it_is_and_leaves_nothing(
    at: str, signum: signal.Signals, ready: Path, mypt: Mypt, monkeypatch: pytest.MonkeyPatch
) -> None:
    call, place = AT[at]
    before = files(ready)
    with monkeypatch.context() as patch:
        interrupted(patch, place, signum)
        result = mypt(*call, ok=False)
    assert result.exit_code == 128 + signum, result.output
    said = flat(result.stderr)
    assert said.startswith(f"Interrupted by {signum.name}.") and "Error" not in said
    kept = next((sentence for verb, sentence in KEPT.items() if at.startswith(verb)), "")
    assert kept in said
    after = files(ready)
    assert {p: b for p, b in after.items() if p.relative_to(ready).parts[0] != "d"} == before
    assert not (ready / "d" / METADATA_FILE).exists()
    if at != "logs tail":
        mypt(*call)  # nothing is in the way of the next call


def test_ctrl_c_is_how_following_a_log_ends(ready: Path, mypt: Mypt, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ready.is_dir()
    interrupted(monkeypatch, "mypt.log.tail.time.sleep", signal.SIGINT)
    result = mypt("logs", "tail", "open")
    assert "step 4/4" in result.output and not result.stderr


def finalized(signum: int) -> None:
    """Let a signal come in the finalizer of an object, where Python drops what its handler raises."""

    class Leaving:
        def __del__(self) -> None:
            signal.raise_signal(signum)

    Leaving()


def called_back(signum: int) -> None:
    """Let a signal come where the last reference to an object goes, in a call that nobody waits for."""

    class Watched:
        pass

    watched = Watched()
    watching = weakref.ref(watched, lambda _: signal.raise_signal(signum))
    del watched
    assert watching() is None


@pytest.mark.parametrize("comes", [finalized, called_back])
@pytest.mark.parametrize("signum", STOP_SIGNALS)
def test_a_signal_is_heard_where_python_drops_what_a_handler_raises(
    comes: Callable[[int], None], signum: signal.Signals, ready: Path, mypt: Mypt, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ready.is_dir()
    real = manifest.file_hash
    going_on: list[str] = []

    def entered(path: Path) -> Any:
        if not going_on:
            comes(signum)
            going_on.append("the first signal was dropped")
            time.sleep(5)
        return real(path)

    monkeypatch.setattr(manifest, "file_hash", entered)
    began = time.monotonic()
    result = mypt("verify", "done", ok=False)
    assert going_on and time.monotonic() - began < 5
    assert result.exit_code == 128 + signum and flat(result.stderr) == f"Interrupted by {signum.name}."


HANG = """
import signal, sys, time
import pkgutil
from mypt.cli.app import main
*path, name = sys.argv.pop(1).split(".")
def hang(*args, **options):
    print("there", flush=True)
    time.sleep(60)
setattr(pkgutil.resolve_name(".".join(path)), name, hang)
main()
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no such signals to another process")
@pytest.mark.parametrize("signum", [s for s in STOP_SIGNALS if s.name != "SIGBREAK"])
def test_a_process_that_is_sent_a_signal_is_gone_within_two_seconds(signum: signal.Signals, ready: Path) -> None:
    place, *call = ("mypt.cli.verbs.verify.bundle_path", "verify", "done")
    asked = [sys.executable, "-c", HANG, place, *call]
    with subprocess.Popen(asked, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ready) as process:
        assert process.stdout and process.stdout.readline() == "there\n"
        sent = time.monotonic()
        process.send_signal(signum)
        _, said = process.communicate(timeout=60)
        assert time.monotonic() - sent < 2
    assert process.returncode == 128 + signum and said == f"Interrupted by {signum.name}.\n"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no process groups of this kind")
@pytest.mark.parametrize("group", [False, True])
@pytest.mark.parametrize(("signum", "phase"), [(signal.SIGTERM, "d/tokenizer.json"), (signal.SIGHUP, "d/**/*.bin*")])
def test_the_workers_of_prepare_end_with_it(signum: signal.Signals, phase: str, group: bool, ready: Path) -> None:
    """A signal reaches the process alone, as of a queue, or all of its group, as from `timeout` or a terminal.

    It comes when the workers are started, or when they write; there is more to do than is done until then.
    """
    for n in range(8):
        texts = [json.dumps({"text": f"text {n} {row} " + "some words " * 100}) for row in range(2000)]
        (ready / f"{n}.jsonl").write_text("\n".join(texts))
    call = ["prepare", *(f"{n}.jsonl" for n in range(8)), "--out", "d", "--workers", "2", "--tokenization", "gpt2"]
    asked = [sys.executable, "-m", "mypt", *call]
    with subprocess.Popen(asked, stderr=subprocess.PIPE, text=True, cwd=ready, start_new_session=True) as process:
        while not any(ready.glob(phase)):
            assert process.poll() is None
            time.sleep(0.02)
        sent = time.monotonic()
        (os.killpg if group else os.kill)(process.pid, signum)
        _, said = process.communicate(timeout=60)
        assert time.monotonic() - sent < 5  # all of it takes longer, even where nothing else runs
    kept = f"Interrupted by {signum.name}. What is finished is kept; the same call goes on from there.\n"
    assert (process.returncode, said) == (128 + signum, kept)
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
