"""A schedule that lifts the learning rate again on a resume is named, and the alternatives do what they say."""

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mypt.schema.settings.training import TrainingConfig
from mypt.train.optim.schedule import falling, find_lift, keeping, learning_rate_at
from tests.conftest import TINY, Mypt, flat, stopping_at

PEAKS = st.floats(1e-6, 1e-1)


@st.composite
def schedules(draw: st.DrawFn, least: int = 1) -> TrainingConfig:
    peak = draw(PEAKS)
    return TrainingConfig.model_validate(
        {
            "max_iters": draw(st.integers(least, least + 200)),
            "learning_rate": peak,
            "warmup_iters": draw(st.one_of(st.integers(0, 250), st.floats(0, 0.99))),
            "lr_schedule": draw(st.sampled_from(["cosine", "linear", "constant"])),
            "min_lr": draw(st.one_of(st.none(), st.floats(0, 1).map(lambda share: share * peak))),
        }
    )


@given(data=st.data(), before=schedules())
def test_a_lift_is_what_no_step_of_the_recorded_course_would_have_reached(
    data: st.DataObject, before: TrainingConfig
) -> None:
    step = data.draw(st.integers(1, before.max_iters))
    now = data.draw(schedules(least=step + 1))
    if step < before.max_iters:
        assert find_lift(before, before, step) is None
    rates = {s: learning_rate_at(s, now) for s in range(step, now.max_iters)}
    planned = [learning_rate_at(s, before) for s in range(step - 1, before.max_iters)]
    lift = find_lift(before, now, step)
    assert (lift is not None) == (max(rates.values()) > 1.01 * max(planned))
    last = learning_rate_at(step - 1, before)
    if lift is not None:
        assert (lift.last, lift.next, lift.highest) == (last, rates[step], max(rates.values()))
        assert rates[lift.highest_step - 1] == lift.highest
    for changes, falls in ((keeping(last, now, step), False), (falling(last, now, step), True)):
        changed = TrainingConfig.model_validate({**now.model_dump(), **changes})
        course = [learning_rate_at(s, changed) for s in range(step, now.max_iters)]
        assert course[0] == pytest.approx(last, rel=1e-5)
        if falls:
            assert all(b < a for a, b in pairwise(course)) and course[-1] == pytest.approx(last / len(course), rel=1e-5)
        else:
            assert len(set(course)) == 1
        assert find_lift(before, changed, step) is None


RUN = ["--input-file", "input.txt", *TINY, "--eval-interval", "5"]
CASES: dict[str, list[str]] = {
    "cosine, at its end": ["--max-iters", "20"],
    "linear, at its end": ["--max-iters", "20", "--lr-schedule", "linear", "--min-lr", "1e-4"],
    "a warm-up that begins again": ["--max-iters", "20", "--warmup-iters", "0.9"],
    "a higher peak": ["--max-iters", "20", "--lr-schedule", "constant", "--min-lr", "1e-2", "--lr", "2e-2"],
}


def rates(name: str) -> dict[int, float]:
    lines = Path(f"logs/train/{name}_eval.jsonl").read_text(encoding="utf-8").splitlines()
    return {e["iter"]: e["lr"] for e in map(json.loads, lines) if e["event"] == "step"}


@pytest.mark.parametrize("case", CASES)
def test_the_notice_has_the_figures_and_options_that_work(case: str, mypt: Mypt) -> None:
    first = CASES[case] if "linear" in case else []
    call = CASES[case][:2] if first else CASES[case]
    mypt("train", "m", *RUN, *first, "--max-iters", "10", "--log-interval", "1")
    out = flat(mypt("resume", "m", *call, "--dry-run").output)
    said = re.search(r"it was (\S+) at step 10 and is (\S+) at step 11(?:, up to (\S+) at step (\d+))?\. To", out)
    assert said is not None, out
    last, following = (float(said[i]) for i in (1, 2))
    assert last == pytest.approx(rates("m")[10], rel=1e-3) and float(said[3] or following) > last
    alternatives = [words.split() for words in re.findall(r"add `([^`]+)`", out)]
    assert len(alternatives) == 2
    for number, words in enumerate(alternatives):
        mypt("train", f"m{number}", *RUN, *first, "--max-iters", "10", "--log-interval", "1")
        resumed = mypt("resume", f"m{number}", *call, *words)
        assert "rises again" not in resumed.output
        taken = [rates(f"m{number}")[step] for step in range(10, 21)]
        assert taken[1] == pytest.approx(taken[0], rel=1e-4)
        assert all((b < a) if number else (b == pytest.approx(a, rel=1e-4)) for a, b in pairwise(taken[1:]))


@pytest.mark.parametrize(
    "words", [[], ["--max-iters", "12"], ["--lr", "1e-3"], ["--lr-schedule", "constant", "--lr", "1e-3"]]
)
def test_a_rate_that_goes_on_as_planned_or_lower_is_not_remarked_upon(words: list[str], mypt: Mypt) -> None:
    with stopping_at(10):
        mypt("train", "m", *RUN, "--max-iters", "20", "--warmup-iters", "2")
    assert "rises again" not in mypt("resume", "m", *words).output


def test_the_figures_are_those_of_the_session_that_a_rewind_goes_back_to(mypt: Mypt) -> None:
    mypt("train", "m", *RUN, "--max-iters", "10")
    mypt("resume", "m", "--max-iters", "20", "--lr", "1e-9")
    state: dict[str, Any] = json.loads(Path("checkpoints/m_gold/training_state.json").read_text(encoding="utf-8"))
    step, recorded = state["step"], TrainingConfig.model_validate(state["training_config"])
    out = flat(mypt("resume", "m", "--from", "gold", "--max-iters", "40", "--lr", "1e-1", "--dry-run").output)
    assert f"it was {learning_rate_at(step - 1, recorded):.4g} at step {step}" in out
