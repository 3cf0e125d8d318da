"""What is not finite replaces nothing good, is logged and told, and the way back that is named works."""

import json
import math
import re
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from mypt.checkpoint.files import read_state, write_json
from mypt.checkpoint.manager import CheckpointManager, Content
from mypt.log.reader import read_events
from mypt.schema.files.events import EVENTS
from mypt.schema.files.log_line import json_line
from mypt.schema.files.state import Progress
from mypt.train import loop
from mypt.train.evaluation.evaluate import Measured, evaluate_sets
from mypt.train.step import Stepper
from tests.conftest import TINY, Mypt, flat, reseal

RUN = ["--input-file", "input.txt", *TINY, "--n-layer", "1", "--n-embd", "8", "--eval-interval", "4"]
BUNDLES = Path("checkpoints")
BROKEN = (math.nan, math.inf, -math.inf)


def events_of(name: str) -> list[dict[str, Any]]:
    return list(read_events(Path(f"logs/train/{name}_eval.jsonl")))


def named_command(told: str) -> list[str]:
    """The words of the command that an error names."""
    (command,) = re.findall(r"`mypt ([^`]*)`", told)
    return shlex.split(command)


@contextmanager
def evaluations(found: list[dict[str, float]]) -> Iterator[list[tuple[str, int]]]:
    """Let the n-th evaluation find these losses; yields the bundles that are written, each with its step."""
    real, write, saved, made = evaluate_sets, CheckpointManager.write, [], iter(found)

    def measure(*args: Any, **options: Any) -> dict[str, Measured]:
        return real(*args, **options) | {name: Measured(loss, None, None) for name, loss in next(made, {}).items()}

    def note(manager: CheckpointManager, content: Content) -> None:
        saved.append((manager.name, content.state.step))
        write(manager, content)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "evaluate_sets", measure)
        patch.setattr(CheckpointManager, "write", note)
        yield saved


LOSSES = st.dictionaries(st.sampled_from(["val", "train", "other"]), st.sampled_from(BROKEN), max_size=2)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(found=st.lists(LOSSES, min_size=4, max_size=4), skip=st.booleans(), every=st.sampled_from([None, 1, 3]))
@example(found=[{}, {}, {"val": math.nan}, {}], skip=True, every=1)
@example(found=[{}, {}, {"train": math.inf}, {}], skip=False, every=3)
@example(found=[{}, {}, {}, {"other": math.nan}], skip=True, every=None)
@example(found=[{"other": math.nan}, {}, {}, {}], skip=True, every=1)
def test_no_save_follows_an_evaluation_that_is_not_finite(
    found: list[dict[str, float]], skip: bool, every: int | None, mypt: Mypt
) -> None:
    """Evaluations of the steps 0, for the eval set, 4, 8 and 12."""
    for old in (BUNDLES, Path("logs")):
        shutil.rmtree(old, ignore_errors=True)
    options = ["--max-iters", "12", "--eval-set", "other=input.txt", "--on-nonfinite", "skip" if skip else "stop"]
    options += ["--save-interval", str(every)] if every else []
    with evaluations(found) as saved:
        result = mypt("train", "x", *RUN, *options, ok=False)
    broken = {4 * i: losses for i, losses in enumerate(found) if losses}
    end = 12 if skip or not broken else min(broken)
    due = {step for step in range(1, end + 1) if step % 4 == 0 or (every and step % every == 0)}
    allowed = {step for step in due if not found[step // 4]}
    assert {step for name, step in saved if name == "x"} == allowed
    assert not broken.keys() & {step for _, step in saved}
    fails = bool(found[3]) if skip else bool(broken)
    assert result.exit_code == (1 if fails else 0)
    events = events_of("x")
    blocks = {e["iter"]: e["reason"] for e in events if e["event"] == "gold_blocked" and "not finite" in e["reason"]}
    assert [*blocks] == [step for step in broken if step <= end]
    assert all(f"{name} {loss}" in blocks[step] for step in blocks for name, loss in broken[step].items())
    closing = [e for e in events if e["event"] in ("training_stopped", "training_complete")]
    assert [e.get("reason") for e in closing] == (["diverged"] if fails else [None])
    if fails and allowed:
        assert f"the last good bundle is checkpoints/x at step {max(allowed)}" in result.stderr
        assert read_state(BUNDLES / "x").step == max(allowed)
    elif fails:
        assert "nothing was saved yet" in result.stderr and not (BUNDLES / "x").exists()
    page = flat(mypt("logs", "summarize", "x").output)
    assert ("healthy" not in page and "a loss was not finite: " in page) or not blocks


@pytest.mark.parametrize("policy", ["stop", "skip"])
@pytest.mark.parametrize("before", ["a run", "gold alone", "a floor above", "another folder", "nothing"])
def test_a_rate_that_is_far_too_high_ends_with_advice_that_works(policy: str, before: str, mypt: Mypt) -> None:
    place = ["--out-dir", "elsewhere"] if before == "another folder" else []
    floor = ["--min-lr", "8e-3"] if before == "a floor above" else []
    absurd = ["--lr", "1e10", "--max-iters", "24", "--on-nonfinite", policy, *place]
    if before == "nothing":
        result = mypt("train", "x", *RUN, *absurd, ok=False)
        assert result.exit_code == 1 and "nothing was saved yet" in result.stderr
        mypt("train", "x", *RUN, "--lr", "1e-3", "--max-iters", "8")
        return
    mypt("train", "x", *RUN, "--max-iters", "4", "--lr", "1e-3", *place)
    mypt("resume", "x", "--max-iters", "8", "--lr", "1e-2", *floor, *place)
    folder = Path("elsewhere" if place else "checkpoints")
    source = ["--from", "gold"] if before == "gold alone" else []
    if source:
        shutil.rmtree(folder / "x")
    at = read_state(folder / ("x_gold" if source else "x")).step
    weights = {p: p.read_bytes() for p in folder.rglob("model.pt")}
    result = mypt("resume", "x", *source, *absurd, ok=False)
    assert result.exit_code == 1
    assert f"the last good bundle is {folder / ('x_gold' if source else 'x')} at step {at}" in result.stderr
    assert all(p.read_bytes() == content for p, content in weights.items())
    words = named_command(result.stderr)
    assert words[:2] == ["resume", "x"]
    assert "Training finished!" in mypt(*words).output
    state = read_state(folder / "x")
    assert state.step == 24 and state.training_config.learning_rate < 1e10
    assert all(torch.isfinite(w).all() for w in CheckpointManager("x", folder).load().model.parameters())
    assert "0 faults." in mypt("verify", "x", *place).output


def ruin(trainer_step: int, what: str) -> Any:
    """A step that leaves a NaN behind although its loss was finite."""
    real = Stepper.step

    def step(stepper: Stepper, at: int) -> Any:
        results = real(stepper, at)
        if at == trainer_step:
            weight = next(iter(stepper.model.parameters()))
            target = weight if what == "weights" else stepper.optimizer.state_dict()["state"]
            while isinstance(target, dict):
                target = next(v for v in target.values() if isinstance(v, dict) or (torch.is_tensor(v) and v.dim()))
            with torch.no_grad():
                target.view(-1)[-1] = math.nan
        return results

    return step


@pytest.mark.parametrize("policy", ["stop", "skip"])
@pytest.mark.parametrize("what", ["weights", "optimizer state"])
def test_values_that_are_not_finite_are_not_saved_between_evaluations(
    policy: str, what: str, mypt: Mypt, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last row of an embedding that no text reaches moves no loss, so only the values tell."""
    monkeypatch.setattr(Stepper, "step", ruin(5, what))
    run = [*RUN, "--max-iters", "12", "--save-interval", "1", "--on-nonfinite", policy]
    result = mypt("train", "x", *run, ok=False)
    assert result.exit_code == 1 and what in result.stderr
    assert "the last good bundle is checkpoints/x at step 5" in result.stderr
    assert read_state(BUNDLES / "x").step == 5
    assert "0 faults." in mypt("verify", "x").output


def test_a_run_that_recovers_saves_again_and_is_repeated_to_the_bit(mypt: Mypt) -> None:
    """Rates of 1e10 and weights that stay finite: the evaluation is broken by hand, and reproduced so."""
    losses = [{}, {"val": math.nan, "train": math.nan}, {}]
    run = [*RUN, "--max-iters", "12", "--on-nonfinite", "skip"]
    with evaluations(list(losses)):
        out = mypt("train", "x", *run).output
    assert "At step 8 not everything is finite (val nan, train nan); nothing is saved until" in out
    assert "At step 12 everything is finite again, so it is saved." in out and read_state(BUNDLES / "x").step == 12
    assert read_state(BUNDLES / "x").progress.gold.last_val_loss is not None
    with evaluations(list(losses)):
        assert mypt("reproduce", "x").output.splitlines()[-1].startswith("identical: all 12 steps and the weights")
    page = mypt("logs", "summarize", "x").output
    assert "healthy" not in page and "val, train at step 8" in page


def refused(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


@st.composite
def spoilt_logs(draw: st.DrawFn, lines: list[dict[str, Any]]) -> list[str]:
    """The events of a run with any of their numbers broken."""
    spoilt = []
    for event in lines:
        numbers = [k for k, v in event.items() if isinstance(v, float)]
        at = draw(st.sets(st.sampled_from(numbers), max_size=3)) if numbers else set()
        event = {**event, **{k: draw(st.sampled_from(BROKEN)) for k in at}}
        made = EVENTS[event["event"]].model_validate(event)
        spoilt.append(json_line({**made.model_dump(), "run_id": event["run_id"], "attempt": event["attempt"]}))
    return spoilt


READERS = [
    ["logs", "summarize", "x", "--json"], ["logs", "summarize", "x"], ["compare", "x", "x", "--json"],
    ["compare", "x", "x"], ["logs", "show", "x", "--json"], ["logs", "show", "x"], ["logs", "tail", "x", "--no-follow"],
    ["logs", "plot", "x"], ["logs", "export", "x", "--csv", "x.csv", "--parquet", "x.parquet"], ["inspect"],
    ["inspect", "--json"], ["inspect", "x"], ["inspect", "x", "--json"],
]  # fmt: skip


@settings(
    max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], phases=[Phase.generate]
)  # as shrinking would take minutes
@given(data=st.data())
def test_every_verb_that_reads_takes_numbers_that_are_none(data: st.DataObject, mypt: Mypt) -> None:
    log, kept = Path("logs/train/x_eval.jsonl"), Path("kept.jsonl")
    if not kept.exists():
        options = ["--max-iters", "8", "--log-interval", "2", "--eval-set", "other=input.txt"]
        mypt("train", "x", *RUN, *options, "--gold-overfit-ratio", "0.99")
        shutil.copy(log, kept)
    log.write_text("\n".join(data.draw(spoilt_logs(list(read_events(kept))))) + "\n", encoding="utf-8")
    state = read_state(BUNDLES / "x")
    numbers = [n for n in Progress.model_fields if n.startswith(("last", "best_val"))]
    broken = data.draw(st.dictionaries(st.sampled_from(numbers), st.sampled_from([*BROKEN, 2.0]), max_size=4))
    state = state.with_progress(state.progress.model_copy(update=broken))
    write_json(BUNDLES / "x/training_state.json", state)
    reseal(BUNDLES / "x", state.step)
    lost = any(
        not math.isfinite(e.get(k) or 0.0) for e in events_of("x") if e["event"] == "eval" for k in e if "_loss" in k
    )
    for call in READERS:
        out = mypt(*call).output
        if "--json" in call:
            for line in out.splitlines() if call[1] == "show" else [out]:
                json.loads(line, parse_constant=refused)
        assert "healthy" not in out or not lost
    checked = mypt("verify", "x", "--json", ok=False)
    assert checked.exit_code in (0, 1) and json.loads(checked.output, parse_constant=refused)
