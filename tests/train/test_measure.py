"""Gold compares losses of one measure, through every resume that changes it, and baselines are of before the damage."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mypt as package
from mypt.checkpoint.files import read_state, write_json
from mypt.checkpoint.manager import CheckpointManager
from mypt.cli.render.progress import ConsoleObserver
from mypt.log.reader import read_events
from mypt.log.run_record import read_run
from mypt.log.summary import summarize
from mypt.schema.files.gold import GoldState, Measure, Remeasured
from mypt.schema.files.state import DataRecord
from mypt.schema.settings.config import GPTConfig
from mypt.schema.settings.training import TrainingConfig
from mypt.train.evaluation.gold import Decision, Losses, decide_gold, note_baselines
from mypt.train.evaluation.measure import changed, comparable, measures_of, taken_over
from mypt.train.plan import Plan
from mypt.train.stop import Stop, StopNow
from tests.conftest import TINY, Mypt, Once, flat, reseal, stopping_at, tiny_text

TRAINING = TrainingConfig()
BUNDLES = Path("checkpoints")
MEASURES = [
    Measure(fingerprint=f, windows=w, seed=s, block_size=8, masked=False, precision=p)
    for f, w, s, p in (("a", 1, 1, "fp32"), ("a", 9, None, "fp32"), ("b", 9, None, "fp32"), ("a", 1, 2, "bf16"))
]
NUMBERS = st.one_of(st.floats(0.5, 9), st.sampled_from([1.0, 2.0, 3.0, 0.0, math.nan, math.inf]))


@st.composite
def evaluations(draw: st.DrawFn, together: bool) -> list[Losses]:
    """Evaluations, of which runs are measured alike; `together` changes the measure of all sets at once."""
    made, measures = [], {"val": MEASURES[0], "set": MEASURES[0]}
    for _ in range(draw(st.integers(1, 20))):
        if draw(st.integers(0, 3)) == 0:
            measure = draw(st.sampled_from(MEASURES))
            measures = {**measures, "set": measure} | ({"val": measure} if together else {})
        val, train, further = draw(NUMBERS), draw(NUMBERS), draw(NUMBERS)
        made.append(Losses(val, train, {"set": further}, measures=measures))
    return made


def folded(history: list[Losses], state: GoldState | None = None) -> list[Decision]:
    made: list[Decision] = []
    for step, losses in enumerate(history):
        made.append(decide_gold(made[-1].state if made else state or GoldState(), step, losses, TRAINING))
    return made


@given(evaluations(together=True))
def test_no_decision_looks_behind_a_change_of_the_measure(history: list[Losses]) -> None:
    """What is decided is what a run decides that began where losses were last measured otherwise."""
    for i, made in enumerate(folded(history)):
        first = i
        while first and history[first - 1].measures == history[i].measures:
            first -= 1
        alone = folded(history[first : i + 1])[-1]
        assert (made.kind, made.reason, made.best) == (alone.kind, alone.reason, alone.best)
        assert made.state.measures == history[i].measures


@given(evaluations(together=False))
def test_a_baseline_is_of_the_measure_that_it_is_compared_by(history: list[Losses]) -> None:
    for i, made in enumerate(folded(history)):
        alike = [x for x in history[: i + 1] if x.measures == history[i].measures]
        last = next((j for j in range(i, -1, -1) if history[j].measures != history[i].measures), -1)
        usable = [x.eval_sets["set"] for x in history[last + 1 : i + 1] if 0 < x.eval_sets["set"] < math.inf]
        assert alike and (made.state.baseline or {}).get("set") == (usable[0] if usable else None)


@given(st.lists(NUMBERS, min_size=1, max_size=8), st.booleans())
def test_the_baseline_of_before_the_first_step_may_be_lowered_once(losses: list[float], again: bool) -> None:
    measures = {"val": MEASURES[0], "set": MEASURES[0]}
    first, *later = [Losses(2.0, 2.0, {"set": loss}, measures=measures) for loss in losses]
    state = note_baselines(note_baselines(GoldState(), first) if again else GoldState(), first)
    assert state.step is None and state.last_val_loss is None and state.measures == measures
    usable = [loss for loss in losses[1:] if 0 < loss < math.inf][:1]
    before = [losses[0]] if 0 < losses[0] < math.inf else []
    made = folded(later, state)
    found = (made[-1].state if made else state).baseline or {}
    assert found.get("set") == min([*before, *usable], default=None)


@given(evaluations(together=False), st.sampled_from(MEASURES), st.sampled_from(MEASURES), NUMBERS)
def test_what_is_taken_over_is_of_the_new_measure_alone(
    history: list[Losses], val: Measure, further: Measure, loss: float
) -> None:
    gold, now = folded(history)[-1].state, {"val": val, "set": further}
    left = taken_over(gold, now, None)
    assert left == comparable(gold, now) and not changed(left, now)
    assert (left.step is None) or (gold.measures["val"] == val and left.val_loss == gold.val_loss)
    if "val" in changed(gold, now) and gold.step is not None and 0 < loss < math.inf:
        found = taken_over(gold, now, Remeasured(val_loss=loss, eval_sets={"set": loss}))
        assert (found.step, found.val_loss, found.last_val_loss, found.consecutive_rises) == (gold.step, loss, None, 0)
        assert found.measures == now and found.baseline == {"set": loss}


def test_a_measure_follows_from_the_windows_and_not_from_what_was_asked_for() -> None:
    config = GPTConfig(batch_size=4, block_size=8)
    record = DataRecord(sources=(), fingerprint="f", tokenization="char", train_tokens=0, val_tokens=101)

    def measured(eval_iters: int, eval_seed: int) -> Measure:
        training = TrainingConfig(eval_iters=eval_iters, eval_seed=eval_seed)
        return measures_of(record, {}, config, training, "fp32")["val"]

    assert measured(3, 1) == measured(200, 1) == measured(3, 2), "all 12 windows, however many are allowed"
    assert measured(2, 1) != measured(2, 2) and measured(2, 1) != measured(3, 1)


# whole runs

RUN = ["--input-file", "input.txt", *TINY, "--n-layer", "1", "--n-embd", "8", "--eval-interval", "4"]


@pytest.fixture(autouse=True)
def texts(folder: Path) -> None:
    for name, text in {"input": tiny_text() * 4, "other": tiny_text()[::-1], "more": tiny_text()[500:]}.items():
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")


def events_of(name: str, kind: str) -> list[dict[str, Any]]:
    return [e for e in read_events(Path(f"logs/train/{name}_eval.jsonl")) if e["event"] == kind]


def assert_repeatable(name: str, mypt: Mypt) -> None:
    """A run is sound, is the same when it is run again, and every reader takes it."""
    assert "0 faults." in mypt("verify", name).output
    assert mypt("reproduce", name).output.splitlines()[-1].startswith("identical: all ")
    for call in (
        ["logs", "summarize"],
        ["logs", "tail", "--no-follow"],
        ["logs", "show"],
        ["logs", "plot"],
        ["inspect"],
    ):
        mypt(*call, name)
    mypt("logs", "export", name, "--csv", f"{name}.csv")
    mypt("compare", name, name, "--json")


CHANGES = {
    "more windows": ["--eval-iters", "90"],
    "other windows": ["--eval-seed", "5"],
    "more windows and another set": ["--eval-iters", "90", "--eval-set", "o=more.txt"],
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("how", ["resume", "from gold", "python", "gold is gone", "gold is damaged"])
def test_a_resume_that_measures_otherwise_measures_gold_anew(change: str, how: str, mypt: Mypt, once: Once) -> None:
    once("train", "x", *RUN, "--eval-iters", "1", "--eval-set", "o=other.txt", "--max-iters", "8")
    before, options = read_state(BUNDLES / "x").progress.gold, [*CHANGES[change], "--max-iters", "16"]
    assert before.step is not None and before.measures["val"].windows == 4
    if how == "gold is gone":
        shutil.rmtree(BUNDLES / "x_gold")
    if how == "gold is damaged":
        (BUNDLES / "x_gold/model.pt").write_bytes(b"")
    gold = None if "is" in how.split() else CheckpointManager("x_gold").load().model
    if how == "python":
        settings: dict[str, Any] = {"max_iters": 16}
        for option, value in zip(options[::2], options[1::2], strict=True):
            name = option.removeprefix("--").replace("-", "_")
            settings |= {"eval_sets": [value]} if name == "eval_set" else {name: value}
        package.resume("x", **settings)
    else:
        out = mypt("resume", "x", *(["--from", "gold"] if how == "from gold" else []), *options).output
        assert "changes what becomes gold" in flat(out) and "losses are measured otherwise" in flat(out)
    (event,) = events_of("x", "gold_remeasured")
    assert (event["gold_step"], round(before.val_loss or 0, 6)) == (before.step, event["old_val_loss"])
    state = read_state(BUNDLES / "x")
    golds = [e for e in events_of("x", "gold_checkpoint") if e["attempt"] > 1]
    if gold is None:
        assert event["val_loss"] is None and golds[0]["prev_best"] is None
    else:
        assert event["val_loss"] is not None and (not golds or golds[0]["prev_best"] == event["val_loss"])
    assert state.progress.gold.measures == state.sessions[-1].measures
    baselines = [e for e in events_of("x", "eval") if e["attempt"] > 1 and e["iter"] == state.sessions[-1].start_step]
    assert bool(baselines) == (gold is None or "set" in change)
    assert state.sessions[-1].evaluated_first == bool(baselines)
    assert_repeatable("x", mypt)
    summary = summarize(Path("logs/train/x_eval.jsonl"))
    alike = [e for e in events_of("x", "eval") if e["attempt"] > 1]
    assert summary.val_loss.best == min(e["val_loss"] for e in alike) and summary.signs.measured_otherwise.count == 1
    assert any("losses are measured otherwise" in remark for remark in read_run("x", BUNDLES).missing)


def test_the_same_measure_by_other_settings_changes_nothing(mypt: Mypt, once: Once) -> None:
    once("train", "x", *RUN, "--eval-iters", "90", "--eval-set", "o=other.txt", "--max-iters", "8")
    shutil.move("other.txt", "moved.txt")
    options = ["--eval-iters", "300", "--eval-seed", "9", "--eval-set", "o=moved.txt"]
    mypt("resume", "x", *options, "--max-iters", "16")
    assert not events_of("x", "gold_remeasured") and [e["iter"] for e in events_of("x", "eval")] == [0, 4, 8, 12, 16]


def test_a_lucky_early_loss_does_not_hold_gold_back(mypt: Mypt, once: Once) -> None:
    """One batch happened to be easy: gold of it would stay for ever if losses of all windows were held against it."""
    once("train", "x", *RUN, "--eval-iters", "1", "--max-iters", "8")
    for bundle in ("x", "x_gold"):
        state = read_state(BUNDLES / bundle)
        lucky = state.progress.gold.model_copy(update={"val_loss": 0.5})
        progress = state.progress.model_copy(update={"gold": lucky, "best_val_loss": 0.5, "last_val_loss": 0.5})
        write_json(BUNDLES / bundle / "training_state.json", state.with_progress(progress))
        reseal(BUNDLES / bundle, state.step)
    mypt("resume", "x", "--eval-iters", "90", "--max-iters", "24")
    state = read_state(BUNDLES / "x")
    assert state.progress.gold.step == 24 and read_state(BUNDLES / "x_gold").step == 24
    assert state.progress.best_val_loss == state.progress.gold.val_loss
    assert events_of("x", "gold_checkpoint")[-1]["iter"] == 24


def test_an_eval_set_that_is_another_one_gets_a_baseline_of_its_own(mypt: Mypt, once: Once) -> None:
    once("train", "x", *RUN, "--eval-set", "o=more.txt", "--max-iters", "40")
    mypt(
        "resume", "x", "--eval-set", "o=other.txt", "--max-iters", "48"
    )  # hard for this model, and no fault of its own
    evals = [e for e in events_of("x", "eval") if e["attempt"] == 2]
    assert [e["iter"] for e in evals] == [40, 44, 48] and evals[0]["eval_o"] > 1.2 * events_of("x", "eval")[-4][
        "eval_o"
    ]
    reasons = [e["reason"] for e in events_of("x", "gold_blocked") if e["attempt"] == 2]
    assert (
        not [r for r in reasons if f"{evals[0]['eval_o']:.4f}" not in r]
        and read_state(BUNDLES / "x").progress.gold.step
    )
    assert_repeatable("x", mypt)


@pytest.mark.parametrize("by", ["the command line", "fit"])
def test_forgetting_is_blocked_from_the_first_evaluation_on(by: str, mypt: Mypt, once: Once) -> None:
    """The parent knows a text by heart; a few steps on its reverse, at a high rate, lose it."""
    small = ["--tokenization", "char", "--n-layer", "1", "--n-head", "2", "--n-embd", "32", "--block-size", "16",
             "--batch-size", "8", "--dropout", "0", "--no-use-amp", "--warmup-iters", "0"]  # fmt: skip
    once("train", "base", "--input-file", "input.txt", *small, "--lr", "1e-2", "--max-iters", "150")
    if by == "fit":
        model = package.GPT.load("base", device="cpu")
        assert model.tokenizer is not None
        config = model.config.model_copy(update={"batch_size": 8})
        loaders = [package.GPTDataLoader(config, model.tokenizer, input_file=n) for n in ("other.txt", "input.txt")]
        fitted: dict[str, Any] = {"max_iters": 30, "eval_interval": 30, "learning_rate": 1e-2, "use_amp": False}
        checkpoint = CheckpointManager("x")
        model.fit(loaders[0], eval_data_loaders={"old": loaders[1]}, checkpoint=checkpoint, **fitted)
    else:
        tuned = ["--init-from-model", "base", "--eval-set", "old=input.txt", "--lr", "1e-2", "--batch-size", "8"]
        options = ["--max-iters", "30", "--eval-interval", "30", "--no-use-amp"]
        mypt("train", "x", "--input-file", "other.txt", *tuned, *options)
    first, last = events_of("x", "eval")
    assert (first["iter"], last["iter"]) == (0, 30) and last["eval_old"] > 1.2 * first["eval_old"]
    (block,) = events_of("x", "gold_blocked")
    assert block["iter"] == 30 and block["reason"].startswith(f"eval regression: old {first['eval_old']:.4f}→")
    assert not (BUNDLES / "x_gold").exists() and not events_of("x", "gold_checkpoint")
    assert_repeatable("x", mypt)


@pytest.mark.parametrize("options", [[], ["--eval-set", "o=other.txt"], ["--init-from-model", "base"]])
def test_a_stop_at_any_step_changes_neither_evaluations_nor_gold(options: list[str], mypt: Mypt, once: Once) -> None:
    once("train", "base", *RUN, "--max-iters", "4")
    own = [*RUN[:2], "--eval-interval", "4", "--eval-iters", "2", "--no-use-amp"] if "base" in options else RUN
    run = [*own, *options, "--max-iters", "12"]
    mypt("train", "whole", *run)
    first = [0] if options else []
    assert [e["iter"] for e in events_of("whole", "eval")] == [*first, 4, 8, 12]
    assert all(e["iter"] > 0 for e in events_of("whole", "gold_checkpoint"))
    for stop in (0, 3, 4, 8):
        name = f"stop{stop}"
        with stopping_at(stop):
            mypt("train", name, *run)
        mypt("resume", name)
        losses = [[(e["iter"], e["val_loss"], e["train_loss"]) for e in events_of(n, "eval")] for n in ("whole", name)]
        assert losses[0] == losses[1]
        golds = [read_state(BUNDLES / n).progress.gold for n in ("whole", name)]
        assert golds[0] == golds[1]
        assert_repeatable(name, mypt)


@pytest.mark.parametrize("look", range(1, 40, 6))
def test_measuring_beforehand_can_be_stopped_and_is_made_up_for(look: int, mypt: Mypt, once: Once) -> None:
    """A signal in the middle of measuring gold, or of the evaluation for baselines, leaves what was there."""
    once("train", "x", *RUN, "--eval-iters", "1", "--eval-set", "o=other.txt", "--max-iters", "8")
    change = ["--eval-iters", "3", "--eval-set", "p=more.txt", "--max-iters", "12"]
    shutil.copytree(BUNDLES, "kept")
    mypt("resume", "x", *change)
    wanted = read_state(BUNDLES / "x").progress.gold
    shutil.rmtree(BUNDLES)
    shutil.copytree("kept", BUNDLES)
    Path("logs/train/x_eval.jsonl").unlink()
    real, looks = Stop.look, 0

    def looking(stop: Stop) -> None:
        nonlocal looks
        looks += 1
        if looks == look:
            raise StopNow("SIGTERM")
        real(stop)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Stop, "look", looking)
        mypt("resume", "x", *change, ok=False)
    assert "0 faults." in mypt("verify", "x").output
    mypt("resume", "x", *change)
    state = read_state(BUNDLES / "x")
    assert state.step == 12 and state.progress.gold == wanted
    assert mypt("reproduce", "x").output.splitlines()[-1].startswith("identical: all ")


def test_a_record_of_an_earlier_version_is_taken_at_the_settings_of_its_last_session(mypt: Mypt, once: Once) -> None:
    once("train", "x", *RUN, "--eval-iters", "1", "--eval-set", "o=other.txt", "--max-iters", "8")
    for bundle in ("x", "x_gold"):
        state = read_state(BUNDLES / bundle)
        gold = state.progress.gold.model_copy(update={"measures": {}})
        state = state.with_progress(state.progress.model_copy(update={"gold": gold}))
        state = state.with_current(measures=None, attempt=None, evaluated_first=False)
        write_json(BUNDLES / bundle / "training_state.json", state)
        reseal(BUNDLES / bundle, state.step)
    shutil.copytree(BUNDLES, "kept")
    mypt("resume", "x", "--max-iters", "12")
    assert not events_of("x", "gold_remeasured") and [e["iter"] for e in events_of("x", "eval")] == [0, 4, 8, 12]
    shutil.rmtree(BUNDLES)
    shutil.copytree("kept", BUNDLES)
    mypt("resume", "x", "--eval-iters", "90", "--max-iters", "12")
    (event,) = events_of("x", "gold_remeasured")
    assert event["sets"] == ["val", "o"] and event["gold_step"] == 8 and event["val_loss"] is not None


def test_the_plan_counts_what_is_measured_beforehand(mypt: Mypt, monkeypatch: pytest.MonkeyPatch) -> None:
    plans: list[Plan] = []

    def planned(_: ConsoleObserver, plan: Plan) -> None:
        plans.append(plan)

    monkeypatch.setattr(ConsoleObserver, "planned", planned)
    mypt("train", "x", *RUN, "--eval-iters", "1", "--max-iters", "8")
    mypt("resume", "x", "--max-iters", "12", "--eval-set", "o=other.txt")
    mypt("resume", "x", "--max-iters", "16", "--eval-iters", "90")
    mypt("resume", "x", "--max-iters", "20", "--eval-iters", "1", "--eval-set", "p=other.txt")
    assert [p.evaluations for p in plans] == [2, 1 + 1, 1 + 1, 1 + 2]
    made = [len([e for e in events_of("x", "eval") if e["attempt"] == n]) for n in (1, 2, 3, 4)]
    assert made == [2, 2, 1, 2]
    states = json.loads((BUNDLES / "x/training_state.json").read_text(encoding="utf-8"))["sessions"]
    assert [s["evaluated_first"] for s in states] == [False, True, False, True]
    assert [s["remeasured"] is not None for s in states] == [False, False, True, True]
