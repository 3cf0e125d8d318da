"""Gold is decided by one pure function, and its guards hold."""

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mypt import CheckpointManager
from mypt.record.human import gold_line
from mypt.schema.events import GoldBlocked, GoldCheckpoint
from mypt.schema.state import GoldState
from mypt.schema.training import TrainingConfig
from mypt.train.gold import Decision, Losses, decide_gold
from tests.conftest import TINY, Mypt

TRAINING = TrainingConfig()


def decisions(history: list[Losses], state: GoldState | None = None) -> list[Decision]:
    made: list[Decision] = []
    for i, losses in enumerate(history):
        made.append(decide_gold(made[-1].state if made else state or GoldState(), i, losses, TRAINING))
    return made


def kinds(*vals: float) -> list[str]:
    return [d.kind for d in decisions([Losses(v, v) for v in vals])]


def test_a_falling_loss_is_gold_every_time() -> None:
    assert kinds(3.0, 2.0, 1.0) == ["gold"] * 3


def test_a_dip_after_two_rises_is_blocked_and_after_one_is_not() -> None:
    assert kinds(3.0, 3.1, 2.9) == ["gold", "none", "gold"]
    made = decisions([Losses(v, v) for v in (3.0, 3.1, 3.2, 2.9, 2.8)])
    assert [d.kind for d in made] == ["gold", "none", "none", "blocked", "gold"]
    assert made[3].reason == "trend: 2 consecutive val rises" and made[3].best == 3.0


def test_overfitting_is_blocked_in_the_words_of_the_spec() -> None:
    made = decisions([Losses(4.0, 4.0), Losses(3.1, 0.5)])
    assert made[1].reason == "overfit: val/train=6.2x, threshold=5.0x"
    assert decisions([Losses(3.0, None)])[0].reason == "overfit: train loss not measured"
    assert decisions([Losses(3.0, 0.0)])[0].kind == "blocked"


def test_an_eval_set_that_got_worse_blocks_in_the_words_of_the_spec() -> None:
    first, second = Losses(4.0, 4.0, {"code": 2.0}), Losses(3.0, 3.0, {"code": 2.5})
    made = decisions([first, second, Losses(2.9, 2.9, {"code": 2.4})])
    assert [d.kind for d in made] == ["gold", "blocked", "gold"]
    assert made[1].reason == "eval regression: code 2.0000→2.5000 (+25%, threshold=20%)"


@st.composite
def histories(draw: st.DrawFn) -> list[Losses]:
    numbers = st.one_of(st.floats(0.01, 10), st.sampled_from([1.0, 2.0, 3.0]), st.just(math.nan), st.just(math.inf))
    size = draw(st.integers(1, 25))
    return [
        Losses(draw(numbers), draw(st.one_of(st.none(), numbers)), {"a": draw(numbers)} if draw(st.booleans()) else {})
        for _ in range(size)
    ]


@given(histories(), st.data())
def test_decisions_are_the_same_across_any_resume(history: list[Losses], data: st.DataObject) -> None:
    whole = decisions(history)
    cut = data.draw(st.integers(0, len(history) - 1))
    state = whole[cut].state
    assert (
        GoldState.model_validate(json.loads(json.dumps(state.model_dump()))).model_dump_json()
        == state.model_dump_json()
    )
    for i in range(cut + 1, len(history)):
        made = decide_gold(state, i, history[i], TRAINING)
        assert (made.kind, made.reason, made.best) == (whole[i].kind, whole[i].reason, whole[i].best)
        state = made.state


@given(histories())
def test_gold_is_better_than_before_and_no_guard_holds_and_the_other_way_round(history: list[Losses]) -> None:
    best, rises, last = math.inf, 0, None
    baseline = history[0].eval_sets
    for losses, made in zip(history, decisions(history), strict=True):
        worse = math.isnan(losses.val) or (last is not None and losses.val > last)
        held = losses.train is None or math.isnan(losses.train) or losses.val > 5 * losses.train
        held = held or (not worse and rises >= 2)
        held = held or any(k in baseline and not v <= 1.2 * baseline[k] for k, v in losses.eval_sets.items())
        assert (made.kind == "gold") == (losses.val < best and not held)
        assert (made.kind == "blocked") == (losses.val < best and held) == (made.reason is not None)
        if made.kind == "gold":
            assert not math.isnan(losses.val)
            best = losses.val
        rises = rises + 1 if worse else 0
        last = last if math.isnan(losses.val) else losses.val


def test_console_lines_are_those_of_the_spec() -> None:
    gold = GoldCheckpoint(iter=200, timestamp="t", val_loss=0.6326, prev_best=None)
    assert gold_line(gold) == "  🏆 New GOLD checkpoint! val_loss=0.6326 at step 200"
    reason = "overfit: val/train=490.0x, threshold=5.0x"
    blocked = GoldBlocked(iter=600, timestamp="t", val_loss=0.49, best_val_loss=0.5173, reason=reason)
    wanted = "  ⚠️  GOLD blocked: val 0.4900 < best 0.5173 but overfit (val/train=490.0x, threshold=5x)"
    assert gold_line(blocked) == wanted


def test_an_overfitting_run_keeps_gold_at_the_sweet_spot(mypt: Mypt) -> None:
    run = ["--input-file", "input.txt", *TINY, "--max-iters", "12", "--eval-interval", "3"]
    out = mypt("train", "dante", *run, "--gold-overfit-ratio", "0.5").output
    assert "GOLD blocked: val" in out and "threshold=0.5x" in out and "Best (GOLD)" not in out
    assert not Path("checkpoints/dante_gold").exists()
    out = mypt("train", "other", *run).output
    assert "  🏆 New GOLD checkpoint! val_loss=" in out
    gold = CheckpointManager("other_gold").load()
    progress = CheckpointManager("other").load().state.progress
    assert (gold.state.step, gold.state.progress.last_val_loss) == (progress.gold.step, progress.gold.val_loss)
    assert f"  🏆 Best (GOLD) checkpoint: checkpoints/other_gold (step {gold.state.step}, val_loss=" in out
    assert gold.state.optimizer_file == "optimizer.pt"


def test_training_never_replaces_a_gold_bundle(mypt: Mypt) -> None:
    mypt("train", "dante", "--input-file", "input.txt", *TINY, "--max-iters", "3")
    before = Path("checkpoints/dante_gold/model.pt").read_bytes()
    for call in (["resume", "dante_gold", "--max-iters", "9"], ["train", "dante_gold", "--fresh"]):
        result = mypt(*call, ok=False)
        assert result.exit_code == 2 and "mypt resume dante --from gold" in result.stderr
    assert Path("checkpoints/dante_gold/model.pt").read_bytes() == before


@pytest.mark.parametrize("name", ["dante_gold", "dante_fp16"])
def test_gold_and_fp16_generate(name: str, mypt: Mypt) -> None:
    mypt("train", "dante", "--input-file", "input.txt", *TINY, "--max-iters", "3")
    assert len(mypt("generate", name, "--max-new-tokens", "5").output) >= 5
