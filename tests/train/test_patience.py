"""A run that gets no better is ended where its patience is over, everywhere alike, and can be gone on with."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mypt as package
from mypt.checkpoint.files import read_state
from mypt.log.reader import read_events
from mypt.schema.files.state import Progress, TrainingState
from mypt.schema.settings.training import TrainingConfig
from mypt.train import loop
from mypt.train.evaluation.evaluate import Measured
from mypt.train.evaluation.patience import is_over, more
from tests.conftest import SHORT, TINY, Mypt, Once, flat, reseal

Curve = Callable[..., None]
RUN = [*SHORT, "--max-iters", "20", "--eval-interval", "1"]


@pytest.fixture
def curve(monkeypatch: pytest.MonkeyPatch) -> Curve:
    """Lets evaluations find the given val losses in turn, and any train loss."""

    def follow(*losses: float, train: float = 2.0) -> None:
        found = iter(losses)

        def evaluate_sets(*_: Any, **__: Any) -> dict[str, Measured]:
            return {"train": Measured(train, None, None), "val": Measured(next(found), None, None)}

        monkeypatch.setattr(loop, "evaluate_sets", evaluate_sets)

    return follow


def ends(name: str = "m") -> list[tuple[int, str]]:
    events = read_events(Path(f"logs/train/{name}_eval.jsonl"))
    return [(e["iter"], e["reason"]) for e in events if e["event"] == "training_stopped"]


@given(st.lists(st.sampled_from([1.0, 2.0, 3.0, math.nan, math.inf]), max_size=12), st.integers(1, 4))
def test_it_is_over_after_so_many_evaluations_without_a_new_best(losses: list[float], patience: int) -> None:
    progress, since = Progress(), 0
    for step, loss in enumerate(losses, 1):
        since = 0 if loss < min([x for x in losses[: step - 1] if x < math.inf], default=math.inf) else since + 1
        progress = progress.after_eval(step, 1.0, loss, None)
        state = TrainingState(step=step, training_config=TrainingConfig(patience=patience), progress=progress)
        assert progress.evaluations_since_best == since and is_over(state) == (since >= patience)
        assert not is_over(state.model_copy(update={"training_config": TrainingConfig()}))
        assert more(state) - since == patience


@pytest.mark.parametrize(
    ("losses", "patience", "step"),
    [
        ([3.0, 2.0, 2.5, 2.6], 2, 4),
        ([3.0, 3.0], 1, 2),  # the same again is no new best
        ([3.0, 2.0, 2.5, 1.9, 2.5, 1.8, 2.0, 2.0, 1.9], 3, 9),  # a new best begins anew
        ([2.0] + [1.9 - i / 100 for i in range(19)], 1, 20),  # it gets better to the end
        ([2.0] * 20, 19, 20),  # over with the last evaluation, which completes the run
    ],
)
def test_it_ends_saved_and_says_so(losses: list[float], patience: int, step: int, mypt: Mypt, curve: Curve) -> None:
    curve(*losses)
    told = flat(mypt("train", "m", *RUN, "--patience", str(patience)).output)
    state = read_state(Path("checkpoints/m"))
    assert state.step == step and state.training_config.patience == patience
    if step == 20:
        assert "Training finished!" in told and ends() == []
        return
    best = min(losses)
    assert ends() == [(step, "patience")] and not Path("checkpoints/m_fp16").exists()
    assert f"Ended at step {step} (patience): " in told
    assert f"no better val loss than {best:.4f} at step {losses.index(best) + 1}; everything is saved." in told
    assert f"checkpoints/m_gold (step {losses.index(best) + 1}, " in told
    assert f"Go on with: mypt resume m --patience {2 * patience}" in told


def test_the_call_that_it_names_goes_on_and_no_other_does(mypt: Mypt, curve: Curve) -> None:
    curve(3.0, 2.0, 2.5, 2.6, 2.7, 1.0, 1.1, 1.2, 1.3, 1.4)
    mypt("train", "m", *RUN, "--patience", "2")
    before = Path("logs/train/m_eval.jsonl").read_bytes()
    for call in (["resume", "m"], ["train", "m", *RUN], ["resume", "m", "--max-iters", "40"]):
        told = flat(mypt(*call).output)
        assert "Nothing left to do: m is at step 4" in told and "mypt resume m --patience 4" in told
    assert Path("logs/train/m_eval.jsonl").read_bytes() == before
    told = flat(mypt("resume", "m", "--patience", "4").output)
    assert "patience 2 4 harmless" in told and ends() == [(4, "patience"), (10, "patience")]


def test_a_resume_counts_on_from_where_a_run_was_stopped(mypt: Mypt, curve: Curve) -> None:
    curve(3.0, 2.0, 2.5, 2.5)
    mypt("train", "m", *RUN, "--max-iters", "3", "--patience", "2")
    mypt("resume", "m", "--max-iters", "20")
    assert ends() == [(4, "patience")]


def test_a_better_loss_that_a_guard_blocks_is_a_new_best(mypt: Mypt, curve: Curve) -> None:
    """The run still learns; that it is not gold is another question."""
    curve(*(9.0 - i / 10 for i in range(5)), 8.9, 8.9, train=0.1)
    mypt("train", "m", *RUN, "--patience", "2")
    assert ends() == [(7, "patience")] and not Path("checkpoints/m_gold").exists()


def test_losses_that_are_measured_otherwise_begin_anew(mypt: Mypt, once: Once, curve: Curve) -> None:
    once("train", "m", *SHORT)
    path = Path("checkpoints/m/training_state.json")
    content = json.loads(path.read_text())
    content["progress"]["evaluations_since_best"] = 9
    path.write_text(json.dumps(content))
    reseal(path.parent, 4)
    curve(9.0)
    mypt("resume", "m", "--max-iters", "6", "--patience", "20", "--eval-iters", "1")
    assert read_state(Path("checkpoints/m")).progress.evaluations_since_best == 1


def test_no_bit_depends_on_it_and_a_reproduction_does_without(mypt: Mypt) -> None:
    call = ["--input-file", "input.txt", *TINY, "--max-iters", "60", "--eval-interval", "2", "--lr", "0.3"]
    mypt("train", "m", *call, "--patience", "1")
    [(step, _)] = ends()
    shutil.copytree("checkpoints/m", "kept")
    mypt("train", "plain", *call, "--max-iters", "60", "--save-every", str(step), "--on-spike", "skip")
    evals = [
        [e["val_loss"] for e in read_events(Path(f"logs/train/{name}_eval.jsonl")) if e["event"] == "eval"]
        for name in ("m", "plain")
    ]
    assert step < 60 and evals[0] == evals[1][: step // 2]
    mypt("resume", "m", "--patience", "3")
    assert "identical" in mypt("reproduce", "m").output


def test_python_is_told_the_same(mypt: Mypt, curve: Curve, capsys: pytest.CaptureFixture[str]) -> None:
    mypt("train", "first", *SHORT)
    curve(3.0, 2.0, 2.5, 2.6)
    model = package.GPT.load("first")
    assert model.tokenizer is not None
    loader = package.GPTDataLoader(model.config, model.tokenizer, input_file="input.txt")
    result = model.fit(loader, max_iters=20, eval_interval=1, patience=2, checkpoint=package.CheckpointManager("m"))
    assert result.stopped == "patience" and result.state.step == 3  # it began with an evaluation
    assert "mypt.resume('m', patience=4)" in flat(capsys.readouterr().out)
    assert package.resume("m").state.step == 3
    assert "patience=4" in flat(capsys.readouterr().out)
