"""Gold is decided by one pure function, and its guards hold."""

import json
import math
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mypt import CheckpointManager
from mypt.log.messages import gold_line
from mypt.log.reader import read_events
from mypt.schema.files.events import GoldBlocked, GoldCheckpoint
from mypt.schema.files.gold import GoldState
from mypt.schema.settings.training import TrainingConfig
from mypt.train.evaluation.gold import Decision, Losses, decide_gold
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
    broken = st.sampled_from([math.nan, math.inf, -math.inf])
    numbers = st.one_of(st.floats(0.01, 10), st.sampled_from([1.0, 2.0, 3.0]), st.just(0.0), broken)
    size = draw(st.integers(1, 25))
    return [
        Losses(draw(numbers), draw(st.one_of(st.none(), numbers)), {"a": draw(numbers)} if draw(st.booleans()) else {})
        for _ in range(size)
    ]


def numbers_of(made: Decision) -> list[float]:
    """What later decisions compare with."""
    state = made.state
    return [v for v in (state.val_loss, state.last_val_loss, *(state.baseline or {}).values()) if v is not None]


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
    baseline: dict[str, float] = {}
    for losses, made in zip(history, decisions(history), strict=True):
        usable = {k: v for k, v in losses.eval_sets.items() if 0 < v < math.inf}
        baseline = {**usable, **baseline}  # a set is compared with its own first loss that can be compared with
        broken = not all(math.isfinite(v) for v in (losses.val, losses.train or 0.0, *losses.eval_sets.values()))
        worse = not math.isfinite(losses.val) or (last is not None and losses.val > last)
        held = losses.train is None or losses.val > 5 * losses.train
        held = held or (not worse and rises >= 2)
        held = held or any(k in baseline and v > 1.2 * baseline[k] for k, v in losses.eval_sets.items())
        assert (made.kind == "gold") == (losses.val < best and not held and not broken)
        assert (made.kind == "blocked") == (broken or (losses.val < best and held)) == (made.reason is not None)
        assert broken == (made.reason or "").startswith("not finite: ") and all(
            math.isfinite(v) for v in numbers_of(made)
        )
        if made.kind == "gold":
            best = losses.val
        rises = rises + 1 if worse else 0
        last = losses.val if math.isfinite(losses.val) else last


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


def reasons(name: str) -> list[tuple[int, str]]:
    events = list(read_events(Path(f"logs/train/{name}_eval.jsonl")))
    return [(e["iter"], e["reason"]) for e in events if e["event"] == "gold_blocked"]


SMALL = [
    "--tokenization", "char", "--n-layer", "1", "--n-head", "2", "--n-embd", "32", "--block-size", "16",
    "--batch-size", "8", "--dropout", "0", "--learning-rate", "1e-2", "--no-use-amp", "--warmup-iters", "5",
    "--lr-schedule", "constant",
]  # fmt: skip


def assert_gold_is_the_sweet_spot(name: str, blocked: list[tuple[int, str]]) -> None:
    """Gold is the best evaluation before the blocks, and none of the blocked ones, although they were better."""
    state = CheckpointManager(name).load().state
    gold = CheckpointManager(f"{name}_gold").load().state
    assert gold.step == state.progress.gold.step and gold.step < min(step for step, _ in blocked)
    losses = {
        e["iter"]: e["val_loss"] for e in read_events(Path(f"logs/train/{name}_eval.jsonl")) if e["event"] == "eval"
    }
    assert all(losses[step] < losses[gold.step] for step, _ in blocked)
    assert losses[gold.step] == min(loss for step, loss in losses.items() if step < min(blocked)[0])


def test_a_run_that_memorizes_its_text_is_blocked_as_overfit(mypt: Mypt) -> None:
    """The training text is one line over and over; the end of the text has letters that break the pattern."""
    line = "nel mezzo del cammin di nostra vita\n"
    broken = "".join(c if i % 61 else "xqzk"[i % 4] for i, c in enumerate(line * 12))
    Path("small.txt").write_text(line * 108 + broken, encoding="utf-8")
    shape = ["--n-layer", "2", "--block-size", "32", "--lr-schedule", "cosine"]
    run = ["--input-file", "small.txt", *SMALL, *shape, "--eval-interval", "20", "--max-iters", "200"]
    out = mypt("train", "x", *run).output
    blocked = reasons("x")
    assert blocked and all(re.fullmatch(r"overfit: val/train=\d+\.\dx, threshold=5\.0x", why) for _, why in blocked)
    assert re.search(
        r"GOLD blocked: val \d\.\d{4} < best \d\.\d{4} but overfit \(val/train=\d+\.\dx, threshold=5x\)", out
    )
    assert_gold_is_the_sweet_spot("x", blocked)


def test_a_dip_after_the_loss_has_been_climbing_is_blocked_as_a_trend(mypt: Mypt) -> None:
    """A learning rate far too high lets the val loss climb; when it is lowered again, the loss dips below the best."""
    mypt("train", "x", "--input-file", "input.txt", *SMALL, "--eval-interval", "10", "--max-iters", "40")
    mypt("resume", "x", "--lr", "0.05", "--eval-interval", "1", "--max-iters", "43")
    mypt("resume", "x", "--lr", "5e-3", "--eval-interval", "200", "--max-iters", "200")
    blocked = reasons("x")
    assert [step for step, _ in blocked] == [200] and re.fullmatch(r"trend: [23] consecutive val rises", blocked[0][1])
    assert_gold_is_the_sweet_spot("x", blocked)


def test_a_set_that_gets_worse_while_the_val_loss_falls_is_blocked_as_a_regression(mypt: Mypt) -> None:
    """Learning one text forgets another, whose letters come in the opposite order."""
    text = Path("input.txt").read_text(encoding="utf-8")
    Path("other.txt").write_text(text[::-1], encoding="utf-8")
    run = ["--input-file", "input.txt", "--eval-set", "other=other.txt", *SMALL]
    mypt("train", "x", *run, "--eval-interval", "10", "--max-iters", "160")
    blocked = reasons("x")
    form = r"eval regression: other (\d\.\d{4})→(\d\.\d{4}) \(\+(\d+)%, threshold=20%\)"
    assert blocked and all(re.fullmatch(form, why) for _, why in blocked)
    assert_gold_is_the_sweet_spot("x", blocked)
