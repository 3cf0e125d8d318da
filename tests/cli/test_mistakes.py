"""What a beginner gets wrong is told in one message, with a remedy that works as it stands."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from mypt.checkpoint.files import read_state
from tests.conftest import SHORT, TINY, Mypt, flat

SMALL = [*TINY, "--n-layer", "1", "--n-embd", "8", "--max-iters", "4", "--eval-interval", "2"]


@pytest.fixture
def typed(mypt: Mypt, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs `mypt` with its words where a process has them, on a terminal that folds nothing."""
    monkeypatch.setattr(Console, "width", 500)

    def run(*words: str, ok: bool = True) -> Any:
        monkeypatch.setattr(sys, "argv", ["mypt", *words])
        return mypt(*words, ok=ok)

    return run


def quoted(text: str) -> list[str]:
    """The one call that a message has in backquotes, without the name of the program."""
    (call,) = re.findall(r"`(mypt .*?)`", text)
    return shlex.split(call)[1:]


@pytest.mark.parametrize(
    ("name", "model"),
    [("dante.txt", "dante"), ("./dante.txt", "dante"), ("texts/la vita.txt", "la_vita"), ("rows.jsonl.gz", "rows")],
)
def test_a_file_where_a_name_belongs_is_taken_for_the_text(name: str, model: str, typed: Any, folder: Path) -> None:
    (folder / "texts").mkdir()
    shutil.copy("input.txt", name)
    refused = typed("train", name, *SMALL, ok=False)
    assert refused.exit_code == 2 and f"{name} is a file, and stands where the name" in refused.stderr
    assert not Path("checkpoints").exists()
    call = quoted(refused.stderr)
    assert call[:4] == ["train", model, "--input-file", name] and call[4:] == SMALL
    if not name.endswith(".gz"):
        typed(*call)
        assert read_state(Path("checkpoints", model)).step == 4


def test_a_folder_of_shards_is_taken_for_the_data(typed: Any) -> None:
    shutil.copy("input.txt", "val.txt")
    typed("prepare", "input.txt", "--val-input", "val.txt", "--out", "data/dante", "--tokenization", "char")
    refused = typed("train", "data/dante", *SMALL, ok=False)
    call = quoted(refused.stderr)
    assert call[:4] == ["train", "dante", "--dataset-dir", "data/dante"]
    typed(*call)


def test_a_name_that_is_that_of_a_file_too_is_a_name_where_a_text_is_given_or_the_model_is_there(typed: Any) -> None:
    typed("train", "input.txt", *SHORT)
    typed("train", "input.txt", "--max-iters", "6")
    assert read_state(Path("checkpoints/input.txt")).step == 6


@pytest.mark.parametrize("text", ["longer", "other"])
@pytest.mark.parametrize("more", [[], ["--n-layer", "2"]])
def test_a_taken_name_is_said_in_one_message_and_fresh_starts_over(
    text: str, more: list[str], typed: Any, folder: Path
) -> None:
    typed("train", "m", *SHORT)
    content = (folder / "input.txt").read_text(encoding="utf-8")
    Path("more.txt").write_text(content * 2 if text == "longer" else content[::-1], encoding="utf-8")
    refused = typed("train", "m", "--input-file", "more.txt", *SMALL, *more, ok=False)
    assert refused.exit_code == 2 and refused.stderr.count("Error") == 1
    assert "The name m is taken: checkpoints/m exists" in refused.stderr and "input_file: " in refused.stderr
    typed(*quoted(refused.stderr))
    state = read_state(Path("checkpoints/m"))
    assert state.data is not None and state.data.sources[0].path.endswith("more.txt") and state.step == 4
    assert len(list(Path("checkpoints").glob("m*"))) > 3, "the old bundles are kept"


def test_a_text_that_moved_is_told_and_given_its_new_place(typed: Any) -> None:
    typed("train", "m", *SHORT)
    Path("input.txt").rename("moved.txt")
    for call in (["resume", "m", "--max-iters", "6"], ["train", "m", "--max-iters", "6"]):
        told = flat(typed(*call, ok=False).stderr)
        assert "input.txt does not exist" in told and "by --input-file PATH" in told
    typed("resume", "m", "--max-iters", "6", "--input-file", "moved.txt")
    typed("resume", "m", "--max-iters", "8")  # which finds it there from now on


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_a_text_in_utf_16_is_told_with_the_call_that_converts_it(encoding: str, typed: Any, folder: Path) -> None:
    text = (folder / "input.txt").read_text(encoding="utf-8")
    Path("wide.txt").write_bytes(text.encode(encoding))
    told = typed("train", "m", "--input-file", "wide.txt", *SMALL, ok=False).stderr
    call = re.search(r"iconv .*", told)
    assert "UTF-16" in told and call, told
    if shutil.which("iconv"):
        subprocess.run(call[0].rstrip("."), shell=True, check=True)
        output = typed("train", "m", "--input-file", "utf8.txt", *SMALL).output
        assert f"{len(text):,} characters" in output


def test_line_ends_of_windows_are_told_where_they_become_tokens(typed: Any, folder: Path) -> None:
    text = (folder / "input.txt").read_text(encoding="utf-8")
    Path("win dows.txt").write_bytes(text.replace("\n", "\r\n").encode())
    output = typed("train", "m", "--input-file", "win dows.txt", *SMALL, "--dry-run").output
    call = re.search(r"(tr -d .*), and train on unix.txt\.", output)
    assert "learns a token \\r" in output and call, output
    if shutil.which("tr"):
        subprocess.run(call[1], shell=True, check=True)
        output = typed("train", "m", "--input-file", "unix.txt", *SMALL, "--dry-run").output
        assert "\\r" not in output and f"{len(text):,} characters" in output
    for quiet in (["--input-file", "input.txt"], ["--input-file", "win dows.txt", "--tokenization", "gpt2"]):
        assert "\\r" not in typed("train", "m", *SMALL, *quiet, "--dry-run").output


def test_a_warm_up_that_is_longer_than_the_run_is_told_with_one_that_is_not(typed: Any) -> None:
    told = flat(typed("train", "m", *SHORT, "--warmup-iters", "100", "--dry-run").output)
    assert "never reaches 0.01; --warmup-iters 0.05 " in told
    assert "never reaches" not in flat(typed("train", "m", *SHORT, "--warmup-iters", "0.05", "--dry-run").output)
