"""An observer whose output fails ends no run: it is logged once, and everything else is as if it had been heard."""

import errno
import inspect
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import pytest

import mypt as package
from mypt import GPT, CheckpointManager, GPTConfig, GPTDataLoader, Tokenizer
from mypt.log.reader import read_events
from mypt.train.observer import Guarded, Observer, PrintObserver
from tests.conftest import tiny_text
from tests.run.test_resume import assert_same_run

TOKENIZER = Tokenizer.char(tiny_text())
SHAPE = {"block_size": 8, "n_embd": 16, "n_head": 2, "n_layer": 1, "batch_size": 4, "device": "cpu"}
CONFIG = GPTConfig.model_validate({**SHAPE, "vocab_size": TOKENIZER.vocab_size})
SETTINGS: dict[str, Any] = {"max_iters": 4, "eval_interval": 2, "eval_iters": 1, "use_amp": False}
REPORTS = [n for n, _ in inspect.getmembers(Observer, inspect.isfunction) if n != "lost"]
FAILURES: dict[str, tuple[Exception, str]] = {
    "left": (BrokenPipeError(errno.EPIPE, "Broken pipe"), "Broken pipe"),
    "full": (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
    "closed": (ValueError("I/O operation on closed file."), "I/O operation on closed file."),
    "encoding": (UnicodeEncodeError("cp1252", "à🏆", 1, 2, "character maps to <undefined>"), "can't encode"),
}


class Failing(Observer):
    """Hears every report, and fails at each of one kind."""


def failing(report: str, error: Exception) -> tuple[Failing, list[str]]:
    heard: list[str] = []

    def hear(name: str) -> Callable[..., None]:
        def heard_of(*_: object) -> None:
            heard.append(name)
            if name == report:
                raise error

        return heard_of

    @contextmanager
    def busy(_: object, what: str) -> Iterator[None]:
        heard.append(what)
        yield
        if report == "busy":
            raise error

    methods = {name: hear(name) for name in REPORTS if name != "busy"} | {"busy": busy}
    return type("Failing", (Failing,), methods)(), heard


def fit(name: str | None, observer: Observer) -> None:
    checkpoint = CheckpointManager(name) if name else None
    GPT(CONFIG, seed=3).fit(
        GPTDataLoader(CONFIG, TOKENIZER, text=tiny_text()), checkpoint=checkpoint, observer=observer, **SETTINGS
    )


def reasons(name: str) -> list[str]:
    return [e["reason"] for e in read_events(Path(f"logs/train/{name}_eval.jsonl")) if e["event"] == "output_lost"]


def test_the_guard_passes_on_every_report() -> None:
    assert len(REPORTS) > 8
    assert all(name in vars(Guarded) for name in [*REPORTS, "lost"])


CASES = [(f, "evaluated") for f in FAILURES] + [("left", report) for report in REPORTS if report != "evaluated"]


@pytest.mark.usefixtures("folder")
def test_a_report_that_cannot_be_shown_is_logged_once_and_changes_nothing() -> None:
    fit("calm", Observer())
    for failure, report in CASES:
        (error, reason), name = FAILURES[failure], f"{failure}-{report}"
        observer, heard = failing(report, error)
        fit(name, observer)
        assert_same_run("calm", name)
        told = reasons(name)
        assert len(told) == (report in heard or report == "busy") and all(reason in t for t in told), name
        assert heard.count("evaluated") == 2  # what follows a failure is told too


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("error", [ValueError("mine"), RuntimeError("enough"), KeyError("x")])
def test_what_an_observer_raises_for_a_reason_of_its_own_is_raised(error: Exception) -> None:
    for report in ("evaluated", "stepped", "busy"):
        with pytest.raises(type(error)):
            fit(None, failing(report, error)[0])


def stdout_of(kind: str) -> TextIO:
    if kind == "cp1252":
        return io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    if kind == "full":
        writing = os.open("/dev/full", os.O_WRONLY)
    else:
        reading, writing = os.pipe()
        os.close(reading)
    stream = os.fdopen(writing, "w", encoding="utf-8")
    if kind == "closed":
        stream.close()
    return stream


@pytest.mark.skipif(os.name == "nt", reason="needs /dev/full")
@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("kind", ["left", "full", "closed", "cp1252"])
def test_what_python_prints_ends_neither_fit_nor_resume(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fit("calm", Observer())
    stream = stdout_of(kind)
    with monkeypatch.context() as patch:
        patch.setattr("sys.stdout", stream)
        fit("tranquillità", PrintObserver())
        assert_same_run("calm", "tranquillità")
        package.resume("tranquillità", max_iters=6, input_file="input.txt")
    assert len(reasons("tranquillità")) == (0 if kind == "cp1252" else 2)
    if kind == "cp1252":
        assert b"? New GOLD checkpoint!" in stream.detach().getvalue()  # type: ignore[attr-defined]
    elif kind != "closed":
        with pytest.raises(OSError, match=r"Broken pipe|No space left"):
            stream.close()
