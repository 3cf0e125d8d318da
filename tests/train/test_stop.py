"""A session that is broken off anywhere saves its last whole step, and goes on as if it had never stopped."""

import json
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mypt.checkpoint.manager import CheckpointManager
from mypt.run.reproduce import ReproduceObserver, reproduce
from mypt.run.train import Call, Outcome, train
from mypt.schema.resolve import resolve_settings
from mypt.signals import STOP_SIGNALS, Interrupted, hearing, held_back, interrupt
from mypt.train.observer import Observer
from mypt.train.stop import SAME_REQUEST_S, Stop, StopNow, stop_on_signals
from tests.run.test_resume import assert_same_run, untimed_plan

SETTINGS: dict[str, Any] = {
    "input_file": ["input.txt"], "tokenization": "char", "n_layer": 1, "n_head": 1, "n_embd": 8, "block_size": 8,
    "batch_size": 4, "rows_at_once": 2, "eval_iters": 1, "max_iters": 4, "eval_interval": 2, "device": "cpu",
    "grad_accum_steps": 2, "use_amp": False, "dropout": 0.1, "log_interval": 1, "eval_sets": {"again": "input.txt"},
    "learning_rate": 1e-2,
}  # fmt: skip
TOLD = ("iter", "val_loss", "train_loss", "eval_again", "lr", "phase", "tokens_processed", "progress_pct", "loss",
        "grad_norm", "prev_best", "best_val_loss", "reason", "final_val_loss", "gold_step")  # fmt: skip


def told(name: str) -> list[dict[str, object]]:
    """Every event of a log but the starts and stops, without what a clock says."""
    lines = Path(f"logs/train/{name}_eval.jsonl").read_text(encoding="utf-8").splitlines()
    found = [json.loads(line) for line in lines]
    ends = ("training_start", "training_stopped")
    return [{"event": e["event"]} | {k: e[k] for k in TOLD if k in e} for e in found if e["event"] not in ends]


@dataclass
class Looks:
    """Lets a signal come at the n-th look of a session."""

    at: int
    count: int = 0

    def install(self, patch: pytest.MonkeyPatch) -> None:
        real = Stop.look_ahead

        def look_ahead(stop: Stop, seconds: float) -> None:
            self.count += 1
            if self.count == self.at:
                stop.hear(signal.SIGTERM)
            real(stop, seconds)

        patch.setattr(Stop, "look_ahead", look_ahead)


def run(name: str, **changes: object) -> Outcome:
    return train(Call(name, resolve_settings({**SETTINGS, **changes})), Observer())


def run_to_look(name: str, at: int, patch: pytest.MonkeyPatch, **changes: object) -> tuple[Outcome, int]:
    """A session that hears a signal at one of its looks, and how many it had."""
    looks = Looks(at)
    with patch.context() as patched:
        looks.install(patched)
        return run(name, **changes), looks.count


VARIANTS: dict[str, dict[str, object]] = {
    "plain": {},
    "recomputing": {"use_checkpoint": True},
    "muon": {"optimizer": "muon", "muon_dtype": "fp32", "max_iters": 2},
}


@pytest.fixture(autouse=True)
def quick(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No timed step: a third of the time of a run this small."""
    assert folder == Path.cwd()
    monkeypatch.setattr("mypt.run.train.plan_run", lambda *args: untimed_plan(*args))


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_signal_at_any_look_loses_at_most_a_step_and_changes_nothing(
    variant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = VARIANTS[variant]
    run("whole", **changes)
    wanted, left = told("whole"), set()
    _, looks = run_to_look("counted", 0, monkeypatch, **changes)
    for n in range(1, looks + 1, 1 if variant == "plain" else 3):
        name = f"parts{n}"
        outcome, _ = run_to_look(name, n, monkeypatch, **changes)
        state = CheckpointManager(name).load().state
        assert outcome.stopped == "SIGTERM" and outcome.step == state.step
        if not (outcome.result and outcome.result.complete):
            if (reached := (state.step, state.evaluation_pending)) not in left:
                assert reproduce(name, Path("checkpoints"), None, ReproduceObserver()).identical
                left.add(reached)
                run(name, **changes)
                assert reproduce(name, Path("checkpoints"), None, ReproduceObserver()).identical
            else:
                run(name, **changes)
        assert told(name) == wanted, n  # which names the first step that differs
        assert_same_run("whole", name)
    last = {**SETTINGS, **changes}["max_iters"]
    assert {(0, False), (1, False), (2, True), (last, True)} <= left and looks >= 30


def test_stops_upon_stops_upon_stops_are_one_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each session is broken off after a few looks more than the one before, until one gets through."""
    run("whole")
    sessions = 0
    for at in range(1, 100):
        outcome, _ = run_to_look("parts", at, monkeypatch)
        sessions += 1
        if outcome.stopped is None:
            break
    assert sessions > 10
    assert told("parts") == told("whole")  # which names the first step that differs
    assert_same_run("whole", "parts")
    verdict = reproduce("parts", Path("checkpoints"), None, ReproduceObserver())
    assert verdict.identical and verdict.weights_same


@pytest.fixture
def default_signals() -> Iterator[None]:
    """Every signal as Python has it at its start, whatever started the tests."""
    before = {s: signal.getsignal(s) for s in STOP_SIGNALS}
    for s in STOP_SIGNALS:
        signal.signal(s, signal.default_int_handler if s is signal.SIGINT else signal.SIG_DFL)
    yield
    for s, handler in before.items():
        signal.signal(s, handler)


@pytest.mark.usefixtures("default_signals")
@pytest.mark.parametrize("first", STOP_SIGNALS)
@pytest.mark.parametrize("second", STOP_SIGNALS)
def test_a_second_signal_does_what_it_did_before_and_a_repeated_one_nothing(
    first: signal.Signals, second: signal.Signals
) -> None:
    stop, before = Stop(), {s: signal.getsignal(s) for s in STOP_SIGNALS}
    with pytest.raises(Interrupted) as ended, hearing(interrupt), stop_on_signals(stop):
        signal.raise_signal(first)
        with pytest.raises(StopNow, match=first.name):
            stop.look()
        signal.raise_signal(second)  # as `timeout` does it
        stop.heard -= SAME_REQUEST_S
        signal.raise_signal(second)
        if second.name == "SIGXCPU":  # comes every second from the limit on
            raise Interrupted(second)
    assert (ended.value.code, stop.signum) == (128 + second, first)
    assert {s: signal.getsignal(s) for s in STOP_SIGNALS} == before


@pytest.mark.usefixtures("default_signals")
def test_who_hears_a_signal_is_the_callers_decision() -> None:
    own: list[int] = []
    signal.signal(signal.SIGUSR1, lambda signum, _: own.append(signum))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # nohup
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # what a script starts in the background
    stop = Stop()
    with stop_on_signals(stop):
        signal.raise_signal(signal.SIGUSR1)
        signal.raise_signal(signal.SIGHUP)
        assert own == [signal.SIGUSR1] and stop.signum is None
        signal.raise_signal(signal.SIGINT)
        assert stop.signum == signal.SIGINT
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_other_threads_hear_nothing_and_take_nothing() -> None:
    before = {s: signal.getsignal(s) for s in STOP_SIGNALS}

    def work() -> None:
        with stop_on_signals(Stop()):
            assert {s: signal.getsignal(s) for s in STOP_SIGNALS} == before

    with ThreadPoolExecutor(1) as pool:
        pool.submit(work).result()


@pytest.mark.usefixtures("default_signals")
def test_a_signal_that_is_held_back_is_heard_at_the_end_of_the_block() -> None:
    done = False
    with pytest.raises(Interrupted, match=r"Interrupted by SIGTERM\."), hearing(interrupt), held_back():
        signal.raise_signal(signal.SIGTERM)
        done = True
    assert done


@pytest.mark.usefixtures("default_signals")
def test_work_without_looks_is_broken_off_where_it_is() -> None:
    stop = Stop()
    with pytest.raises(StopNow, match="SIGHUP"), stop_on_signals(stop), stop.at_once():
        signal.raise_signal(signal.SIGHUP)
        raise AssertionError("it went on")
    assert not stop.breaks_in
