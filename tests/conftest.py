"""Shared pieces: a tiny text, tiny settings, and the command line run in this process."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
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
        result = CliRunner().invoke(app, [str(a) for a in args], input=stdin, env={**os.environ, "COLUMNS": "100"})
        if ok:
            assert result.exit_code == 0, result.output + result.stderr
        return result

    return run


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
    from mypt.train.loop import FitResult, Trainer

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
