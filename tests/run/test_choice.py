"""Where gold is better than the last step, everyone who would deploy the last step is told."""

from pathlib import Path
from typing import Any

import pytest

from mypt.run.exchange.choice import better_gold, better_gold_of, losses_of_run, own_val_loss
from mypt.schema.files.gold import GoldState
from mypt.schema.files.state import Progress, TrainingState
from mypt.schema.settings.training import TrainingConfig
from tests.conftest import SHORT, Mypt, flat
from tests.train.test_divergence import evaluations

BUNDLES = Path("checkpoints")


def record(step: int = 8, run_id: str = "run", gold_step: int | None = 4, **gold: Any) -> TrainingState:
    known = {"step": gold_step, "val_loss": 2.25, "last_val_loss": 4.19, **gold}
    progress = Progress(last_val_loss=known["last_val_loss"], gold=GoldState(**known))
    return TrainingState(step=step, training_config=TrainingConfig(), run_id=run_id, progress=progress)


@pytest.mark.parametrize(
    ("last", "gold", "better"),
    [
        (record(), record(4), True),
        (record(last_val_loss=2.25), record(4), False),
        (record(last_val_loss=2.2), record(4), False),
        (record(), None, False),
        (record(), record(4, run_id="other"), False),
        (record(), record(3), False),  # the gold bundle of a rewound run's other branch
        (record(gold_step=None, val_loss=None), record(4), False),  # gold began anew, as it was measured otherwise
        (record(last_val_loss=None), record(4), False),  # measured anew, and nothing since
    ],
)
def test_gold_is_better_where_losses_of_one_measure_say_so(
    last: TrainingState, gold: TrainingState | None, better: bool
) -> None:
    found = better_gold(last, gold, BUNDLES / "x_gold")
    assert (found is not None) == better
    if found is not None:
        told = "Gold is better than the last step: val loss 2.2500 at step 4, 4.1900 at step 8"
        assert str(found) == told


@pytest.mark.parametrize("last", [4.19, 2.0])
def test_an_overfit_run_ends_with_the_loss_of_each_bundle_and_the_one_to_deploy(last: float, mypt: Mypt) -> None:
    with evaluations([{"val": 2.25}, {"val": last}]):
        told = mypt("train", "x", *SHORT).output
    lines = told[told.index("Training finished!") :].splitlines()
    assert lines[1:3] == ["  Resume training from: checkpoints/x", "  Deploy inference from: checkpoints/x_fp16"]
    shown = mypt("inspect", "x").output
    overfit = last > 2.25
    gold = "x_gold 2.2500 (step 2)" if overfit else "x_gold 2.0000 (step 4)"
    assert f"  Val losses: x {last:.4f} (step 4), {gold}, x_fp16 " in told
    warning = [
        "  ⚠️  Gold is better than the last step: val loss 2.2500 at step 2, 4.1900 at step 4.",
        "      Deploy checkpoints/x_gold instead; make it light with: mypt export-fp16 x_gold",
    ]
    for out in (told, shown):
        assert ("\n".join(warning) in out) == overfit
    own = [f"  x: step 4, val loss {last:.4f}", f"  x_fp16: step 4, val loss {last:.4f} before rounding"]
    assert all(line in shown.splitlines() for line in own)
    assert mypt("inspect", "x_gold").output.count("x_fp16: step 4") == 1
    assert (better_gold_of(BUNDLES / "x") is not None) == overfit
    if overfit:
        mypt("export-fp16", "x_gold")  # the command that is named


def test_bundles_that_are_damaged_or_of_another_run_are_no_choice(mypt: Mypt) -> None:
    with evaluations([{"val": 2.25}, {"val": 4.19}]):
        mypt("train", "x", *SHORT)
    state = BUNDLES / "x_gold" / "training_state.json"
    whole = state.read_text(encoding="utf-8")
    for broken in (whole[:50], whole.replace('"run_id": "', '"run_id": "0')):
        state.write_text(broken, encoding="utf-8")
        assert better_gold_of(BUNDLES / "x") is None
        assert [of.path.name for of in losses_of_run(BUNDLES / "x")] == ["x", "x_fp16"]
        assert "Gold is better" not in flat(mypt("inspect", "x").output)


@pytest.mark.parametrize(
    ("changes", "loss"),
    [
        ({}, 2.5),
        ({"evaluation_pending": True}, None),
        ({"step": 5}, None),
        ({"model_dtype": "fp16"}, None),
        ({"model_dtype": "fp16", "optimizer_file": "optimizer.pt"}, 2.5),
        ({"progress": Progress()}, None),
    ],
    ids=str,
)
def test_a_loss_is_that_of_a_bundle_only_where_its_very_weights_were_measured(
    changes: dict[str, Any], loss: float | None
) -> None:
    settings = TrainingConfig(max_iters=9, eval_interval=4)
    state = TrainingState(step=4, training_config=settings, progress=Progress(last_val_loss=2.5))
    assert own_val_loss(state.model_copy(update=changes)) == loss
