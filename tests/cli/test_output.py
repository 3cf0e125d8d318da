"""Output that fails costs nothing but itself: work goes on without it, and what only shows says so by its exit code."""

import io
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mypt.cli.app import app, main
from tests.conftest import TINY, tiny_text
from tests.run.test_resume import assert_same_run

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs /dev/full and closed descriptors")

RUN = ["--input-file", "città.txt", *TINY, "--max-iters", "6", "--eval-interval", "2", "--device", "cpu"]
FURTHER = ["--max-iters", "10"]
FAILURES = {
    "left": "Broken pipe",
    "full": "No space left on device",
    "closed": "Bad file descriptor",
}
"""How output fails, and what the system says."""
SHELL = {"full": ">/dev/full", "closed": ">&-", "all full": ">/dev/full 2>&1", "all closed": ">&- 2>&-"}
"""The same by a redirection; without one the reader has left."""
WORK = {
    "train": ["train", "là", *RUN],
    "resume": ["resume", "città", *FURTHER],
    "reproduce": ["reproduce", "città"],
    "export-fp16": ["export-fp16", "città"],
    "prepare": ["prepare", "texts.jsonl", "--out", "d", "--tokenization", "char", "--workers", "1"],
    "logs export": ["logs", "export", "città", "--csv", "città.csv"],
}
SHOWING = {
    "generate": ["generate", "città", "--max-new-tokens", "40"],
    "verify": ["verify", "città"],
    "verify --json": ["verify", "città", "--json"],
    "inspect": ["inspect", "città"],
    "inspect --json": ["inspect", "città", "--json"],
    "compare": ["compare", "città", "città_gold"],
    "logs summarize": ["logs", "summarize", "città"],
    "logs show": ["logs", "show", "città"],
    "logs show --json": ["logs", "show", "città", "--json"],
    "logs tail": ["logs", "tail", "città"],
    "presets": ["presets"],
    "config check": ["config", "check", "c.json"],
    "help": ["--help"],
    "help of a verb": ["resume", "--help"],
    "version": ["--version"],
}


@dataclass
class Ended:
    """How a call ended."""

    code: object
    said: str


def failing(how: str) -> int:
    """A descriptor that cannot be written."""
    if how == "left":
        reading, writing = os.pipe()
        os.close(reading)
        return writing
    return os.open("/dev/full", os.O_WRONLY) if how == "full" else os.open(os.devnull, os.O_RDONLY)


def call(words: list[str], out: str, err: str | None = None, *, buffered: bool = True) -> Ended:
    """Run mypt in this process, with an output and perhaps an error output that fail."""
    with pytest.MonkeyPatch.context() as patch, Path("said.txt").open("w+", encoding="utf-8") as told:
        for name, fd in (("stdout", failing(out)), ("stderr", failing(err) if err else os.dup(told.fileno()))):
            binary: Any = io.FileIO(fd, "w")
            stream = io.TextIOWrapper(io.BufferedWriter(binary) if buffered else binary, write_through=not buffered)
            patch.setattr(sys, name, stream)
        patch.setattr(sys, "argv", ["mypt", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        for name in ("stdout", "stderr"):
            getattr(sys, name).close()  # as Python does at its end
        told.seek(0)
        return Ended(ended.value.code or 0, told.read())


def call_process(words: list[str], failure: str) -> Ended:
    """Run mypt in a process of its own, with an output that fails."""
    asked = ["sh", "-c", f'exec "$@" {SHELL.get(failure, "")}', "sh", sys.executable, "-m", "mypt", *words]
    env = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    writing = failing("left")
    done = subprocess.run(asked, env=env, stdout=writing, stderr=subprocess.PIPE, text=True, timeout=120)
    os.close(writing)
    for ugly in ("Traceback", "Exception ignored", "unexpectedly", "lost sys.std"):
        assert ugly not in done.stderr, done.stderr
    return Ended(done.returncode, done.stderr)


def events(folder: Path, name: str) -> list[dict[str, Any]]:
    lines = (folder / f"logs/train/{name}_eval.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run, and another that is the same and was resumed, both undisturbed."""
    folder = tmp_path_factory.mktemp("calm")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("città.txt").write_text(tiny_text(), encoding="utf-8")
        Path("texts.jsonl").write_text("\n".join(json.dumps({"text": f"perché {n}"}) for n in range(300)))
        Path("c.json").write_text("{}")
        for words in (["train", "città", *RUN], ["train", "più", *RUN], ["resume", "più", *FURTHER]):
            result = CliRunner().invoke(app, words)
            assert result.exit_code == 0, result.output
    return folder


@pytest.fixture
def place(calm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, to work in."""
    shutil.copytree(calm, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("err", [None, "full"])
@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("verb", ["train", "resume"])
def test_a_run_goes_on_to_its_end_and_says_once_in_its_log_that_it_is_not_heard(
    verb: str, failure: str, err: str | None, place: Path
) -> None:
    ended = call(WORK[verb], failure, err, buffered=err is None)
    check_run(place, verb, failure, ended)
    if err is None:
        assert ended.said == f"Nothing more is shown here ({FAILURES[failure]}); the work goes on.\n"


@pytest.mark.parametrize(("verb", "failure"), [("train", "left"), ("resume", "all closed")])
def test_a_process_whose_run_is_not_heard_ends_as_any(verb: str, failure: str, place: Path) -> None:
    check_run(place, verb, failure, call_process(WORK[verb], failure))


def check_run(place: Path, verb: str, failure: str, ended: Ended) -> None:
    """Make sure that a run is whole, and the one that was not disturbed but for an event of its log."""
    name, like = {"train": ("là", "città"), "resume": ("città", "più")}[verb]
    assert ended.code == 0
    assert_same_run(like, name)
    lost = [e["reason"] for e in events(place, name) if e["event"] == "output_lost"]
    assert lost == [FAILURES[failure.removeprefix("all ")]]
    kinds = [e["event"] for e in events(place, name) if e["event"] != "output_lost"]
    assert kinds == [e["event"] for e in events(place, like)] and kinds[-1] == "training_complete"


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("verb", [v for v in WORK if v not in ("train", "resume")])
def test_other_work_is_done_to_its_end(verb: str, failure: str, place: Path) -> None:
    shutil.rmtree(place / "checkpoints/città_fp16")
    assert call(WORK[verb], failure).code == 0
    made = {"export-fp16": "checkpoints/città_fp16", "prepare": "d/dataset_metadata.json", "logs export": "città.csv"}
    assert verb not in made or (place / made[verb]).exists()


def test_a_reproduction_that_differs_fails_where_nobody_reads_it(place: Path) -> None:
    log = place / "logs/train/città_eval.jsonl"
    log.write_text(log.read_text(encoding="utf-8").replace('"val_loss": ', '"val_loss": 1'), encoding="utf-8")
    assert call(WORK["reproduce"], "left").code == 1


@pytest.mark.parametrize("buffered", [True, False])
@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("verb", SHOWING)
@pytest.mark.usefixtures("place")
def test_what_only_shows_says_by_its_exit_code_that_it_could_not(verb: str, failure: str, buffered: bool) -> None:
    check_shown(failure, call(SHOWING[verb], failure, buffered=buffered))
    assert call(SHOWING[verb], failure, "full", buffered=buffered).code == (141 if failure == "left" else 1)


@pytest.mark.parametrize(
    ("verb", "failure"), [("generate", "left"), ("inspect", "closed"), ("logs show --json", "full"), ("help", "left")]
)
@pytest.mark.usefixtures("place")
def test_a_process_that_only_shows_leaves_no_trace_of_its_failure(verb: str, failure: str) -> None:
    check_shown(failure, call_process(SHOWING[verb], failure))


def check_shown(failure: str, ended: Ended) -> None:
    """Make sure that one sentence says what is wrong, or none where the reader has enough."""
    todo = "Send it to a place that takes it, or leave out the redirection."
    told = f"Error: Standard output cannot be written: {FAILURES[failure]}.\n{todo}\n"
    assert ended == (Ended(141, "") if failure == "left" else Ended(1, told))


def test_a_reader_that_takes_one_line_gets_it_and_the_run_goes_on(place: Path) -> None:
    words = ["train", "là", *RUN, "--max-iters", "100", "--eval-iters", "1"]
    asked = [sys.executable, "-m", "mypt", *words]
    with subprocess.Popen(asked, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stdout.readline().startswith("Plan for là")
        process.stdout.close()
        process.stdout = None
        _, said = process.communicate(timeout=120)
    assert process.returncode == 0 and said.count("\n") == 1
    kinds = [e["event"] for e in events(place, "là")]
    assert kinds.count("output_lost") == 1 and kinds.count("eval") == 50 and kinds[-1] == "training_complete"


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-16"])
@pytest.mark.usefixtures("place")
def test_what_is_shown_is_utf8_whatever_the_encoding(encoding: str) -> None:
    env = {**os.environ, "PYTHONIOENCODING": encoding, "LC_ALL": "C"}
    done = subprocess.run([sys.executable, "-m", "mypt", "inspect", "città"], env=env, capture_output=True)
    assert done.returncode == 0 and not done.stderr
    assert "checkpoints/città" in done.stdout.decode("utf-8")


@pytest.mark.usefixtures("place")
def test_a_text_from_a_closed_standard_input_is_empty() -> None:
    asked = ["sh", "-c", 'exec "$@" <&-', "sh", sys.executable, "-m", "mypt", "train", "x", "--input-file", "-"]
    done = subprocess.run(asked, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("Error: The input - is empty.")
