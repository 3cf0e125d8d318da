"""The figures of the plan: what all sessions of a run see of its data, and settings that do not do what they say."""

import json
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mypt.schema.files.environment import Environment
from mypt.schema.files.state import DataRecord, PhaseRecord, SessionRecord, TrainingState
from mypt.schema.settings.config import GPTConfig
from mypt.schema.settings.training import TrainingConfig
from mypt.train.optim.schedule import learning_rate_at
from mypt.train.plan import Plan, doubtful_settings
from tests.conftest import TINY, Mypt, flat
from tests.data.test_data import curriculum, nanogpt
from tests.run.test_names import contents

CONFIG = GPTConfig(batch_size=3, block_size=5, n_embd=8, n_head=2, n_layer=1)
HERE = Environment(
    mypt="0", python="3", torch="2", numpy="2", tiktoken="0", platform="x", device="cpu", threads=1
)  # fmt: skip
ACCUM = st.integers(1, 4)


def plan_of(state: TrainingState) -> Plan:
    return Plan(
        name="x", state=state, config=CONFIG, parameters=1, precision="fp32", memory_estimate=1, memory_measured=None,
        disk_needed=1, disk_free=2, step_s=0.5, eval_s=0.25,
    )  # fmt: skip


def data_of(tokens: int) -> DataRecord:
    return DataRecord(sources=(), fingerprint="f", tokenization="char", train_tokens=tokens, val_tokens=9)


@given(
    sessions=st.lists(st.tuples(st.integers(1, 12), ACCUM), min_size=1, max_size=5),
    ends=st.lists(st.integers(1, 70), max_size=3, unique=True),
    stops=st.lists(st.integers(0, 12), max_size=6),
    left=st.integers(1, 9),
)
def test_coverage_and_tokens_are_those_of_a_count_step_by_step(
    sessions: list[tuple[int, int]], ends: list[int], stops: list[int], left: int
) -> None:
    """Each session has its own --grad-accum-steps and may have stopped anywhere; phases may end anywhere, or never."""
    starts = [*accumulate((steps for steps, _ in sessions[:-1]), initial=0)]
    last = starts[-1] + left
    names = [str(i) for i in range(len(ends) + 1)]
    phases = tuple(
        PhaseRecord(name=name, until_iter=end, description="", data=data_of(100 + 7 * i))
        for i, (name, end) in enumerate(zip(names, [*sorted(ends), None], strict=True))
    )
    first = TrainingConfig(max_iters=last, grad_accum_steps=sessions[0][1])
    state = TrainingState(step=0, training_config=first, data=data_of(100), curriculum=phases if ends else ())
    seen, counted = dict.fromkeys(names, 0), 0
    for start, (steps, accum) in zip(starts, sessions, strict=True):
        training = TrainingConfig(max_iters=last, grad_accum_steps=accum, start_step=start)
        session = SessionRecord(start_step=start, training_config=training, environment=HERE, started_at="")
        state = state.with_session(session).model_copy(update={"training_config": training})
        assert state.progress.tokens_processed == counted
        plan = plan_of(state)
        end = min(start + steps, last) if start != starts[-1] else last
        for step in range(start, end):
            counted += accum * 15
            seen[names[sum(e <= step for e in ends)]] += accum * 15
        for stop in sorted({start + s for s in stops if start + s < end} | {end}):
            if stop > state.step:
                state = state.at_step(stop, accum * 15)
    assert state.step == last and state.progress.tokens_processed == counted == state.micro_batches(last) * 15
    found = {p.phase: p.times * p.tokens for p in plan.coverage}
    assert found == pytest.approx(seen if ends else {None: counted})
    assert [p.tokens for p in plan.coverage] == [100 + 7 * i for i in range(len(names))]


@given(last=st.integers(1, 300), first=st.integers(0, 299), interval=st.integers(1, 400))
def test_evaluations_to_go_are_those_that_will_be_made(last: int, first: int, interval: int) -> None:
    training = TrainingConfig(max_iters=last, eval_interval=interval)
    first = min(first, last - 1)
    made = [s for s in range(first + 1, last + 1) if s % interval == 0 or s == last]
    plan = plan_of(TrainingState(step=first, training_config=training))
    assert (plan.evaluations, plan.steps) == (len(made), last - first)
    assert (plan.training_s, plan.evaluating_s) == (0.5 * (last - first), 0.25 * len(made))


RUN = ["--input-file", "input.txt", *TINY, "--eval-interval", "5"]


def test_a_resume_plans_with_what_the_earlier_sessions_saw(mypt: Mypt) -> None:
    mypt("train", "m", *RUN, "--max-iters", "10")
    out = flat(mypt("resume", "m", "--max-iters", "11", "--grad-accum-steps", "100", "--dry-run").output)
    tokens = int(out.split(" tokens (")[1].split(" train")[0].replace(",", ""))
    assert f"the run sees the training text {(10 + 100) * 64 / tokens:.3g} times" in out
    assert "10 to 11; evaluates and saves at the end" in out


DOUBTFUL: dict[str, tuple[dict[str, Any], str]] = {
    "warm-up": ({"warmup_iters": 30}, "warm-up takes 30 steps and the run ends at step 20: the learning rate rises to"),
    "as long": ({"warmup_iters": 20}, "rises to 0.009524 and never reaches 0.01"),
    "share": ({"warmup_iters": 0.99}, "rises to 0.009524 and never reaches 0.01"),
    "floor": ({"lr_schedule": "constant", "min_lr": 1e-4}, "min_lr 0.0001 has no effect with lr_schedule constant"),
    "saves": ({"save_interval": 21}, "save_interval 21 is longer than the run of 20 steps: nothing is saved between"),
    "steps": ({"log_interval": 100}, "log_interval 100 is longer than the run of 20 steps: no step is logged"),
    "gold": ({"gold_overfit_ratio": 0.9}, "gold_overfit_ratio 0.9 is below 1: no evaluation becomes gold unless"),
}


@pytest.mark.parametrize("case", DOUBTFUL)
def test_what_a_setting_will_not_do_is_said_before_the_first_step_and_not_refused(case: str, mypt: Mypt) -> None:
    settings, said = DOUBTFUL[case]
    words = [w for n, v in settings.items() for w in (f"--{n.replace('_', '-')}", str(v))]
    (note,) = doubtful_settings(TrainingConfig(max_iters=20, learning_rate=0.01, **settings))
    assert said in note
    assert note in flat(mypt("train", "m", *RUN, "--max-iters", "20", *words, "--dry-run").output)


@given(max_iters=st.integers(1, 400), warmup=st.one_of(st.integers(0, 600), st.floats(0, 0.999)))
def test_the_rate_that_a_long_warm_up_reaches_is_the_highest_of_the_run(max_iters: int, warmup: float) -> None:
    training = TrainingConfig(max_iters=max_iters, warmup_iters=warmup, learning_rate=0.01)
    top = max(learning_rate_at(step, training) for step in range(max_iters))
    notes = [n for n in doubtful_settings(training) if "warm-up" in n]
    assert bool(notes) == (top < 0.01)
    if notes:
        assert f"rises to {top:.4g} and" in notes[0]


def test_settings_that_fit_the_run_are_not_remarked_upon() -> None:
    training = TrainingConfig(max_iters=20, warmup_iters=19, save_interval=20, log_interval=20, gold_overfit_ratio=1.0)
    assert doubtful_settings(training, [("a", 10), ("b", None)]) == []


def test_a_phase_that_would_never_begin_is_named() -> None:
    phases = [("a", 10), ("b", 20), ("c", 30), ("d", None)]
    said = doubtful_settings(TrainingConfig(max_iters=20), phases)
    assert [s.split()[2] for s in said] == ["c", "d"] and "after step 30 and the run ends at step 20" in said[1]


def test_the_check_of_a_config_file_says_it_too(mypt: Mypt) -> None:
    Path("c.json").write_text('{"max_iters": 10, "warmup_iters": 40}', encoding="utf-8")
    assert "never reaches 0.0003" in flat(mypt("config", "check", "c.json").output)


def test_the_coverage_of_a_curriculum_is_told_by_phase(mypt: Mypt) -> None:
    nanogpt(Path("first"))
    nanogpt(Path("second"), train=800)
    config = curriculum(Path(), curriculum={"phases": [
        {"name": "forming", "dataset_dir": "first", "until_iter": 6}, {"name": "balanced", "dataset_dir": "second"},
    ]})  # fmt: skip
    mypt("train", "m", "--config-file", config, "--max-iters", "10")
    out = flat(mypt("resume", "m", "--max-iters", "11", "--grad-accum-steps", "10", "--dry-run").output)
    state = json.loads(Path("checkpoints/m/training_state.json").read_text(encoding="utf-8"))
    (a, one), (b, two) = ((p["name"], p["data"]["train_tokens"]) for p in state["curriculum"])
    batch = state["sessions"][0]["training_config"]["grad_accum_steps"] * 4 * 16
    assert f"{a} sees its {one:,} tokens {6 * batch / one:.3g} times" in out
    assert f"{b} sees its {two:,} tokens {(4 * batch + 10 * 4 * 16) / two:.3g} times" in out


@pytest.mark.parametrize("verb", ["train", "resume"])
def test_a_limit_that_ends_before_the_first_step_is_told_and_changes_nothing(
    verb: str, mypt: Mypt, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Timing one step of a large model can take longer than the limit; it is broken off."""
    from mypt.train import benchmark_step

    if verb == "resume":
        mypt("train", "m", "--input-file", "input.txt", *TINY, "--max-iters", "2")
    before = contents(Path("checkpoints"), Path("logs"))
    monkeypatch.setattr(benchmark_step, "REPEATS", 10**9)
    monkeypatch.setattr(benchmark_step, "BUDGET_S", 10**9)
    words = (
        ["train", "m", "--input-file", "input.txt", *TINY] if verb == "train" else ["resume", "m", "--max-iters", "9"]
    )
    result = mypt(*words, "--max-minutes", "0.02", ok=False)
    assert result.exit_code == 2 and "max_minutes 0.02 is over before the first step" in result.stderr
    assert contents(Path("checkpoints"), Path("logs")) == before
    monkeypatch.setattr(benchmark_step, "REPEATS", 1)
    mypt(*words, "--max-minutes", "0.0001", "--dry-run")
