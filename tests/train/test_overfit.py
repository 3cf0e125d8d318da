"""A run that learns its text by heart is told of, once, while it goes on; others are not."""

import math
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mypt.log.anomalies import overfits
from mypt.log.reader import read_events
from mypt.schema.files.events import Eval
from mypt.schema.settings.training import TrainingConfig
from mypt.train import loop
from mypt.train.evaluation.evaluate import Measured
from mypt.train.evaluation.overfit import OverfitWatch
from tests.conftest import SHORT, Mypt, flat

TRAINING = TrainingConfig()


def evaluation(step: int, val: float, train: float, phase: str = "main") -> Eval:
    return Eval(
        iter=step, timestamp="", elapsed_s=0, tokens_processed=0, progress_pct=0, lr=0, phase=phase,
        val_loss=val, eval_duration_s=0, train_loss=train,
    )  # fmt: skip


def told(curve: list[tuple[float, float]]) -> list[int]:
    """The evaluations that something was said at."""
    watch = OverfitWatch()
    return [i for i, (val, train) in enumerate(curve) if watch.see(evaluation(i, val, train), TRAINING)]


def learning(speed: float, noise: float, seed: int, rise: float = 0.0, turn: int = 60) -> list[tuple[float, float]]:
    """A run of 60 evaluations: val falls until it turns, and then rises by a share of itself at each."""
    rng, curve = random.Random(seed), []
    for i in range(60):
        val = 1.0 + 2.0 * math.exp(-speed * min(i, turn))
        val *= (1 + rise) ** max(0, i - turn) * (1 + rng.uniform(-noise, noise))
        curve.append((val, 0.5 + 2.5 * math.exp(-speed * i)))
    return curve


@given(st.floats(0.01, 0.5), st.floats(0, 0.004), st.integers(0, 10**6))
def test_nothing_is_said_of_a_run_that_learns_or_is_on_a_plateau(speed: float, noise: float, seed: int) -> None:
    assert told(learning(speed, noise, seed)) == []


@given(st.floats(0.05, 0.3), st.floats(0.01, 0.2), st.integers(0, 10**6), st.integers(3, 20))
def test_a_val_loss_that_rises_is_told_soon_and_once(speed: float, rise: float, seed: int, turn: int) -> None:
    found = told(learning(speed, 0.001, seed, rise, turn))
    assert len(found) == 1 and turn + 3 <= found[0] <= turn + 5


@given(st.floats(0.05, 0.3), st.floats(0.01, 0.2), st.integers(0, 10**6))
def test_a_train_loss_that_rises_as_well_is_another_trouble(speed: float, rise: float, seed: int) -> None:
    curve = learning(speed, 0.001, seed, rise, 10)
    assert told([(val, val) for val, _ in curve]) == []


def test_it_is_said_again_after_the_run_has_improved_and_in_each_phase_by_itself() -> None:
    rising = [(2.0 + 0.1 * i, 1.0 - 0.01 * i) for i in range(8)]
    lower = [(val - 1.0, train - 0.5) for val, train in rising]
    assert told([*rising, *lower]) == [3, 11]
    watch = OverfitWatch()
    said = [
        watch.see(evaluation(i, 2.0 + 0.1 * i, 1.0 - 0.01 * i, "ab"[i % 2]), TRAINING) for i in range(9)
    ]  # what falls from one phase to the other is another text
    assert said == [None] * 9


@pytest.mark.parametrize("nothing", [math.nan, math.inf])
def test_what_is_no_number_says_nothing(nothing: float) -> None:
    assert told([(2.0, 1.0), *[(nothing, 0.9)] * 9]) == [] and told([(nothing, 1.0)] * 9) == []
    assert told([(nothing, 1.0), *((2.0 + 0.1 * i, 1.0 - 0.01 * i) for i in range(5))]) == [4]
    assert not overfits((2.0, 1.0), [2.1, 2.2, 2.3], nothing)


def test_the_console_says_what_and_what_helps_and_the_run_goes_on(mypt: Mypt, monkeypatch: pytest.MonkeyPatch) -> None:
    def evaluate_sets(*_: Any, **__: Any) -> dict[str, Measured]:
        val, train = next(found)
        return {"train": Measured(train, None, None), "val": Measured(val, None, None)}

    monkeypatch.setattr(loop, "evaluate_sets", evaluate_sets)
    for more, hint in (([], "--dropout helps; --patience N ends such a run."), (["--patience", "20"], "helps.")):
        found = iter([(2.0 + 0.1 * i, 1.0 - 0.01 * i) for i in range(8)])
        name = f"m{len(more)}"
        output = flat(mypt("train", name, *SHORT, "--max-iters", "8", "--eval-interval", "1", *more).output)
        line = "Overfitting: since step 1 val rose from 2.0000 to 2.3000 while train fell from 1.0000 to 0.9700."
        assert output.count(line) == output.count("Overfitting") == 1 and hint in output
        assert [e["event"] for e in read_events(Path(f"logs/train/{name}_eval.jsonl"))][-1] == "training_complete"
