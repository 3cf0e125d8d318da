"""A bundle, a dataset or a folder from elsewhere: nothing of it is run, and nothing outside of it is written."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mypt.checkpoint.files import read_state, write_json
from mypt.commit import git_commit
from mypt.regular import open_regular, read_regular
from tests.conftest import SHORT, TINY, Mypt, Once, flat, reseal
from tests.data.test_data import nanogpt
from tests.run.test_names import contents

RUN = [*SHORT, "--max-iters", "2"]
BUNDLE = Path("checkpoints/dante")
RC = "alias ll='ls -l'\n"


@pytest.fixture
def home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home with files of a person's, which are as they were at the end."""
    home = folder.parent / f"{folder.name}_home"
    for name in (".bashrc", "thesis.md", "logs/dante_eval.jsonl"):
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(RC, encoding="utf-8")
    monkeypatch.setenv("HOME", str(home))
    before = contents(home)
    yield home
    assert contents(home) == before


def alter(bundle: Path, **changes: object) -> None:
    """Let a bundle's record say something else, with a manifest that fits."""
    state = read_state(bundle)
    write_json(bundle / "training_state.json", state.model_copy(update=changes))
    reseal(bundle, state.step)


LOGS: dict[str, Callable[[Path], str]] = {
    "a file of the home": lambda home: str(home / ".bashrc"),
    "a new file of the home": lambda home: str(home / ".config/autostart/x.desktop"),
    "another log's name": lambda home: str(home / "logs/dante_eval.jsonl"),
    "upwards": lambda home: f"../{home.name}/.bashrc",
    "a new file upwards": lambda home: f"../{home.name}/new.jsonl",
    "a file of the project": lambda _: "input.txt",
    "a hidden file of the project": lambda _: ".envrc",
    "a device": lambda _: "/dev/null",
    "a folder": lambda _: "checkpoints",
    "disguised": lambda home: f"logs/train/../../../{home.name}/.bashrc",
}
CALLS = {
    "resume": ["resume", "dante", "--max-iters", "4"],
    "train": ["train", "dante", *RUN, "--max-iters", "4"],
    "rewind": ["resume", "dante", "--from", "gold", "--max-iters", "4"],
    "a copy": ["resume", "copied", "--max-iters", "4"],
}


@pytest.mark.parametrize("log", LOGS)
@pytest.mark.parametrize("call", CALLS)
def test_a_log_that_a_record_names_is_written_only_if_it_is_the_runs(
    log: str, call: str, home: Path, mypt: Mypt, once: Once
) -> None:
    once("train", "dante", *RUN)
    for bundle in (BUNDLE, BUNDLE.with_name("dante_gold")):
        alter(bundle, log_file=LOGS[log](home), config_file="$(touch pwned)")
    shutil.copytree(BUNDLE, BUNDLE.with_name("copied"))
    before = contents(Path())
    refused = mypt(*CALLS[call], ok=False)
    assert refused.exit_code == 2 and "--log-file" in refused.stderr, refused.stderr
    assert contents(Path()) == before
    allowed = mypt(*CALLS[call], "--log-file", "logs/train/dante_eval.jsonl")
    assert not Path("pwned").exists() and allowed.exit_code == 0
    for verb in (["inspect", "dante"], ["verify", "dante"], ["logs", "summarize", "dante"], ["reproduce", "dante"]):
        mypt(*verb, ok=False)


@pytest.mark.parametrize("log", LOGS)
def test_a_new_start_leaves_the_log_that_an_old_record_names_alone(
    log: str, home: Path, mypt: Mypt, once: Once
) -> None:
    once("train", "dante", *RUN)
    alter(BUNDLE, log_file=LOGS[log](home))
    before = Path("input.txt").read_bytes()
    mypt("train", "dante", *RUN, "--fresh")
    assert Path("input.txt").read_bytes() == before


@pytest.mark.parametrize("given", [True, False], ids=["by the call", "by default"])
@pytest.mark.parametrize("lay", ["text", "json", "folder", "pipe", "link to a text", "link to nothing"])
def test_events_are_appended_to_logs_alone(lay: str, given: bool, home: Path, mypt: Mypt) -> None:
    log = Path("my.log" if given else "logs/train/dante_eval.jsonl")
    log.parent.mkdir(parents=True, exist_ok=True)
    if lay in ("text", "json"):
        log.write_text(RC if lay == "text" else json.dumps({"a": 1}), encoding="utf-8")
    elif lay == "folder":
        log.mkdir()
    elif lay == "pipe":
        os.mkfifo(log)
    else:
        log.symlink_to(home / (".bashrc" if lay == "link to a text" else "new.jsonl"))
    result = mypt("train", "dante", *RUN, *(["--log-file", str(log)] if given else []), ok=False)
    assert result.exit_code == 2 and str(log) in flat(result.stderr)
    assert not BUNDLE.exists() and not (home / "new.jsonl").exists()


LINKS = [
    "dante",
    "dante_gold",
    "dante_fp16",
    ".dante.probe",
    ".dante.owner.json",
    ".dante.saving",
    ".dante.writing",
    ".dante.lock",
]


@pytest.mark.parametrize("name", LINKS)
@pytest.mark.parametrize("target", ["thesis.md", "new"])
def test_a_link_in_a_folder_from_elsewhere_leads_no_writer_out_of_it(
    name: str, target: str, home: Path, mypt: Mypt
) -> None:
    """The call may be refused or go on; the home stays as it is."""
    BUNDLE.parent.mkdir()
    (BUNDLE.parent / name).symlink_to(home / target)
    assert mypt("train", "dante", *RUN, ok=False).exit_code in (0, 1, 2)
    assert mypt("train", "dante", *RUN, "--fresh", ok=False).exit_code in (0, 1, 2)
    assert mypt("prepare", "input.txt", "--out", str(BUNDLE), ok=False).exit_code in (0, 1, 2)
    assert not (home / "new").exists()


@pytest.mark.parametrize("file", ["../../input.txt", "/etc/passwd", "train/../../../x", "C:\\x", "..\\x"])
def test_a_dataset_reads_nothing_outside_of_its_folder(file: str, mypt: Mypt) -> None:
    Path("texts").mkdir()
    for n in range(20):
        Path(f"texts/{n}.txt").write_text(f"text number {n}", encoding="utf-8")
    mypt("prepare", "texts", "--out", "d", "--tokenization", "char", "--val-share", "0.5")
    path = Path("d/dataset_metadata.json")
    metadata = json.loads(path.read_text(encoding="utf-8"))
    metadata["train"]["shards"][0]["file"] = file
    path.write_text(json.dumps(metadata), encoding="utf-8")
    for call in (["train", "m", "--dataset-dir", "d", *TINY[2:]], ["data", "inspect", "d"]):
        result = mypt(*call, ok=False)
        assert result.exit_code == 2 and "not inside" in flat(result.stderr), result.stderr


@contextmanager
def in_time() -> Iterator[None]:
    """Fail rather than wait for ever."""
    import signal

    def late(*_: object) -> None:
        raise AssertionError("it waits")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(60)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


THINGS: dict[str, Callable[[Path], None]] = {
    "pipe": os.mkfifo if sys.platform != "win32" else lambda _: None,
    "endless": lambda path: path.symlink_to("/dev/zero"),
    "empty": lambda path: path.symlink_to("/dev/null"),
    "folder": Path.mkdir,
}
ON_SHARDS = [["train", "new", "--dataset-dir", "shards", *TINY[2:]], ["data", "inspect", "shards"]]
ON_A_BUNDLE = [[verb, "dante"] for verb in ("inspect", "verify", "generate", "resume", "export-fp16")]
ON_A_LOG = [["logs", verb, "dante"] for verb in ("summarize", "tail", "show")] + [["compare", "dante", "dante_gold"]]
BUNDLE_FILES = ("model.pt", "optimizer.pt", "config.json", "tokenizer.json", "training_state.json", "manifest.json")
PLACES: dict[str, list[list[str]]] = {
    "input.txt": [
        *([verb, "dante"] for verb in ("reproduce", "verify", "export-fp16")),
        ["resume", "dante", "--max-iters", "4"],
        ["train", "new", *RUN],
        ["prepare", "input.txt", "--out", "d"],
    ],
    "config.json": [["train", "new", "--config-file", "config.json"]],
    "shards/train.bin": ON_SHARDS,
    "shards/meta.pkl": ON_SHARDS,
    "logs/train/dante_eval.jsonl": [*ON_A_LOG, ["resume", "dante", "--max-iters", "4"]],
    "checkpoints/.dante.owner.json": [["resume", "dante", "--max-iters", "4"], ["logs", "summarize", "dante"]],
    **{f"checkpoints/dante/{name}": ON_A_BUNDLE for name in BUNDLE_FILES},
}
LEFT_OUT = ("checkpoints/.dante.owner.json", "checkpoints/dante/optimizer.pt")
"""What some calls can do without."""


@pytest.mark.skipif(sys.platform == "win32", reason="pipes and devices of Unix")
@pytest.mark.parametrize("thing", THINGS)
@pytest.mark.parametrize("place", PLACES)
def test_what_is_no_file_is_refused_where_a_file_is_meant(place: str, thing: str, mypt: Mypt, once: Once) -> None:
    once("train", "dante", *RUN)
    nanogpt(Path("shards"))
    path = Path(place)
    path.unlink(missing_ok=True)
    THINGS[thing](path)
    for call in PLACES[place]:
        if thing == "folder" and call[:2] == ["data", "inspect"]:
            continue  # shards may be in folders, and in a dataset with one split there are none of the other
        with in_time():
            result = mypt(*call, ok=False)
        said = flat(result.output + result.stderr)
        assert result.exit_code in (0, 1, 2) and "failed unexpectedly" not in said, (call, said)
        if place not in LEFT_OUT and call[0] not in ("verify", "inspect", "export-fp16", "compare"):
            assert result.exit_code, (call, said)


@pytest.mark.skipif(sys.platform == "win32", reason="pipes of Unix")
def test_a_pipe_is_refused_without_waiting_for_a_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with in_time(), pytest.raises(OSError, match="a device, a pipe or a socket"):
        open_regular(tmp_path / "pipe")
    with pytest.raises(IsADirectoryError):
        open_regular(tmp_path)
    with pytest.raises(OSError, match="no name"):
        open_regular(tmp_path / "a\0b")
    (tmp_path / "file").write_bytes(b"ab\n" * 10**5)
    assert read_regular(tmp_path / "file") == b"ab\n" * 10**5


def git(*words: str) -> None:
    subprocess.run(["git", *words], check=True, capture_output=True)


PROGRAMS = {
    "a monitor": ["core.fsmonitor"],
    "hooks": ["core.hooksPath"],
    "a filter": ["filter.x.clean", "filter.x.smudge", "filter.x.process"],
    "a filter of a strange name": ["filter.a=b.clean", "filter.a=b.process"],
    "a required filter": ["filter.x.clean", "filter.x.process"],
    "others": ["diff.external", "core.sshCommand", "core.pager", "core.editor", "diff.x.textconv", "core.gitProxy"],
}


@pytest.mark.skipif(shutil.which("git") is None or sys.platform == "win32", reason="needs git and sh")
@pytest.mark.parametrize("programs", PROGRAMS)
@pytest.mark.parametrize("changed", [True, False])
def test_git_runs_no_program_that_the_folder_names(programs: str, changed: bool, folder: Path, mypt: Mypt) -> None:
    git("init", "-q", ".")
    git("config", "user.email", "a@b")
    git("config", "user.name", "a")
    Path(".gitattributes").write_text("*.txt filter=x diff=x\n", encoding="utf-8")
    git("add", "-A")
    git("commit", "-q", "-m", "one")
    if changed:
        Path("input.txt").write_bytes(Path("input.txt").read_bytes().swapcase())
    os.utime("input.txt", (1, 1))  # of the same size, but of another time, so that git has to look into it
    program = folder.parent / f"{folder.name}_program"
    program.mkdir()
    script = program / "run"
    script.write_text(f"#!/bin/sh\ntouch {program}/ran\ncat\n", encoding="utf-8")
    script.chmod(0o755)
    for name in ("pre-commit", "post-index-change", "fsmonitor-watchman", "post-checkout"):
        shutil.copy(script, program / name)
        shutil.copy(script, Path(".git/hooks") / name)
    for name in PROGRAMS[programs]:
        git("config", name, str(program if name == "core.hooksPath" else script))
    if programs == "a required filter":
        git("config", "filter.x.required", "true")
    commit = git_commit()
    assert commit is not None and len(commit.rstrip("+")) == 40
    assert commit.endswith("+") == (changed or "strange" in programs)
    mypt("train", "dante", *RUN, "--dry-run")
    assert not (program / "ran").exists()
    subprocess.run(["git", "status"], check=False, capture_output=True)
    assert (program / "ran").exists() or programs in ("others", "hooks", "a filter of a strange name"), "git would have"


def test_the_commit_of_a_folder_without_git_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_commit() is None


def test_what_may_be_trusted_is_said_in_one_line_without_going_anywhere(home: Path, mypt: Mypt, once: Once) -> None:
    once("train", "dante", *RUN)
    source = read_state(BUNDLE).data
    assert source is not None
    trap = source.model_copy(update={"sources": (source.sources[0].model_copy(update={"path": "/dev/zero"}),)})
    alter(BUNDLE, log_file=str(home / ".bashrc"), data=trap)
    with in_time():
        said = flat(mypt("verify", "--untrusted", "dante").output)
    assert (
        said.startswith("checkpoints/dante: can be loaded")
        and f"names 2 other places ({home}/.bashrc, /dev/zero)" in said
    )
    checks = json.loads(mypt("verify", "--untrusted", "dante", "--json").output)
    assert {c["name"] for c in checks} & {"data", "step fits log", "gold fits record"} == set()
    model = BUNDLE / "model.pt"
    model.write_bytes(model.read_bytes()[:-1] + b"x")
    result = mypt("verify", "--untrusted", "dante", ok=False)
    assert result.exit_code == 1 and "not to be loaded; files:" in flat(result.output)
