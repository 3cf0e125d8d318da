"""Shared pieces: a tiny text, tiny settings, and the command line run in this process."""

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from hashlib import sha256
from pathlib import Path

import pytest
import typer.main
import typer.testing
from hypothesis import settings
from typer.testing import CliRunner, Result

from mypt.checkpoint.manifest import write_manifest

settings.register_profile("mypt", deadline=None, derandomize=True)
settings.load_profile("mypt")

WORDS = "nel mezzo del cammin di nostra vita mi ritrovai per una selva oscura che la diritta via era smarrita"
TINY = [
    "--tokenization", "char", "--n-layer", "2", "--n-head", "2", "--n-embd", "16", "--block-size", "16",
    "--batch-size", "4", "--eval-iters", "2", "--learning-rate", "1e-2", "--no-use-amp",
]  # fmt: skip
"""A model that trains in milliseconds a step, in a precision that no measurement decides; dropout stays at 0.2."""
SHORT = ["--input-file", "input.txt", *TINY, "--n-layer", "1", "--n-embd", "8", "--max-iters", "4", "--eval-interval=2"]
"""A whole run of it, with two evaluations."""

Mypt = Callable[..., Result]
Once = Callable[..., None]
Results = dict[tuple[tuple[str, ...], frozenset[tuple[str, str]]], tuple[Path, Path]]


def tiny_text() -> str:
    """Two thousand characters that repeat with variations, with accents among them."""
    words = WORDS.split()
    lines = [" ".join(words[i % 7 :: 1 + i % 5]) + ("à" if i % 3 else "é") for i in range(60)]
    return "\n".join(lines)


@pytest.fixture(autouse=True)
def measurements(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no measurement decide how a run computes: on a busy machine two runs of one test would differ."""
    from mypt.train import benchmark_step
    from mypt.train.device import choices

    monkeypatch.setattr(benchmark_step, "REPEATS", 1)
    monkeypatch.setattr(choices, "choose_amp", lambda *_: choices.Choice(False, "measured: as the tests have it"))
    monkeypatch.setattr(choices, "muon_gains", lambda _: False)


@pytest.fixture(autouse=True, scope="session")
def commands_made_once() -> Iterator[None]:
    """Let typer make the options of verbs once, as a process does; at each call they took a quarter of its time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typer.testing, "_get_command", cache(typer.main.get_command))
        yield


@pytest.fixture(autouse=True)
def no_flushes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave files to the system: only a loss of power, which no test brings about, tells the difference.

    That everything is flushed, and in which order, `tests/run/test_reliability.py` sees in processes of its own.
    """
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A fresh working folder with `input.txt` in it."""
    monkeypatch.chdir(tmp_path)
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "input.txt").write_text(tiny_text(), encoding="utf-8")
    yield tmp_path


@pytest.fixture
def mypt(folder: Path) -> Mypt:
    """Runs `mypt` in this process, in the fresh folder."""
    from mypt.cli.app import app

    assert Path.cwd() == folder

    def run(*args: str, ok: bool = True, stdin: str | None = None) -> Result:
        result = CliRunner().invoke(app, [str(a) for a in args], input=stdin, env={"COLUMNS": "100", **os.environ})
        if ok:
            assert result.exit_code == 0, result.output + result.stderr
        return result

    return run


@pytest.fixture(scope="session")
def kept_results() -> Results:
    """What calls came to in this session, by the call and the folder that it was made in."""
    return {}


@pytest.fixture
def once(folder: Path, mypt: Mypt, kept_results: Results, tmp_path_factory: pytest.TempPathFactory) -> Once:
    """Calls `mypt` where a test prepares what it is about: once a session for the same call in the same folder.

    Later on what came of it is laid into the folder of the test, with its own path in records and logs. Not for calls
    under patches, nor for those whose output is looked at.
    """

    def lay(*words: str) -> None:
        key = (words, contents_by_name(folder))
        if key not in kept_results:
            mypt(*words)
            kept_results[key] = folder, shutil.copytree(folder, tmp_path_factory.mktemp("once") / "folder")
            return
        lay_again(*kept_results[key], folder)

    return lay


def lay_again(origin: Path, kept: Path, folder: Path) -> None:
    """Lay what came to be in one folder, and is kept in another, into a third, with its path in records and logs."""
    shutil.copytree(kept, folder, dirs_exist_ok=True)
    for path in [*folder.rglob("training_state.json"), *folder.rglob("*.jsonl")]:
        path.write_bytes(path.read_bytes().replace(os.fsencode(origin), os.fsencode(folder)))
    for manifest in folder.rglob("manifest.json"):
        reseal(manifest.parent, json.loads(manifest.read_bytes())["step"])


def contents_by_name(folder: Path) -> frozenset[tuple[str, str]]:
    """Hashes of all files of a folder wherever it lies; a manifest follows from the files beside it."""
    return frozenset(
        (path.relative_to(folder).as_posix(), sha256(path.read_bytes().replace(os.fsencode(folder), b"")).hexdigest())
        for path in folder.rglob("*")
        if path.is_file() and path.name != "manifest.json"
    )


def reseal(bundle: Path, step: int = 0) -> None:
    """Give a bundle that a test has altered on purpose a manifest that fits it again."""
    (bundle / "manifest.json").unlink(missing_ok=True)
    write_manifest(bundle, step)


def fill_the_disk(patch: pytest.MonkeyPatch) -> None:
    """Let no optimizer.pt be written."""
    real = Path.open

    def full(self: Path, *args: object, **kwargs: object) -> object:
        if self.name == "optimizer.pt" and "wb" in args:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(self, *args, **kwargs)  # type: ignore[call-overload]

    patch.setattr(Path, "open", full)


@contextmanager
def stopping_at(step: int) -> Iterator[None]:
    """Let every session end when a step is done, as a signal ends it."""
    from mypt.train.loop import Trainer
    from mypt.train.stop import FitResult

    real = Trainer.run

    def run(trainer: Trainer) -> FitResult:
        trainer.stop.at_step = step
        return real(trainer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "run", run)
        yield


def flat(text: str) -> str:
    """Output with its line breaks and paddings folded, for looking up sentences that a terminal wrapped."""
    return " ".join(text.split())
