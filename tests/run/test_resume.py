"""A run that stops and goes on is the run that never stopped, to the bit."""

import json
import re
from pathlib import Path

import pytest
import torch

from mypt.checkpoint.manager import CheckpointManager
from mypt.checkpoint.tensors import load_tensors
from mypt.train.step import Stepper
from tests.conftest import TINY, Mypt, flat

VARIANTS = {
    "gpt2 style": [],
    "llama style, tied, accumulating": [
        "--pos-encoding", "rope", "--mlp-type", "swiglu", "--norm-type", "rmsnorm", "--tie-weights",
        "--grad-accum-steps", "3", "--lr-schedule", "linear", "--bias",
    ],
    "muon": ["--optimizer", "muon", "--muon-dtype", "fp32", "--mlp-type", "swiglu", "--dropout", "0.1"],
}  # fmt: skip


def tensors(name: str) -> dict[str, torch.Tensor]:
    """Every tensor of a bundle, weights and optimizer state."""
    found: dict[str, torch.Tensor] = dict(load_tensors(Path("checkpoints") / name / "model.pt"))
    optimizer = load_tensors(Path("checkpoints") / name / "optimizer.pt")["optimizer"]
    for i, state in optimizer["state"].items():
        found |= {f"{i}.{k}": v for k, v in state.items()}
    return found


def assert_same_run(a: str, b: str) -> None:
    left, right = tensors(a), tensors(b)
    assert left.keys() == right.keys() and len(left) > 20
    assert all(torch.equal(left[n], right[n]) for n in left), [n for n in left if not torch.equal(left[n], right[n])]
    assert losses(a) == losses(b)


def losses(name: str) -> dict[int, tuple[object, ...]]:
    """The losses of every evaluation by step, and gold decisions by the step's negative, from the log."""
    lines = Path(f"logs/train/{name}_eval.jsonl").read_text(encoding="utf-8").splitlines()
    events = [json.loads(line) for line in lines]
    found: dict[int, tuple[object, ...]] = {
        e["iter"]: (e["val_loss"], e["train_loss"]) for e in events if e["event"] == "eval"
    }
    for e in events:
        if e["event"].startswith("gold"):
            found[-e["iter"]] = (e["event"], e["val_loss"], e.get("prev_best"), e.get("reason"))
    return found


class StopError(Exception):
    """Stands for whatever ends a process."""


@pytest.mark.parametrize("style", VARIANTS)
def test_a_run_stopped_in_the_middle_and_resumed_is_bit_identical(
    style: str, mypt: Mypt, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = ["--input-file", "input.txt", *TINY, *VARIANTS[style], "--max-iters", "24", "--eval-interval", "6"]
    mypt("train", "whole", *call)
    update = Stepper.update
    for stop_at in (9, 20):  # between two saves, in the middle of a step

        def failing(stepper: Stepper, norm: torch.Tensor, stop_at: int = stop_at) -> None:
            if stepper.optimizer.param_groups[0]["lr"] == lr_at(stepper, stop_at):
                raise StopError
            update(stepper, norm)

        monkeypatch.setattr(Stepper, "update", failing)
        monkeypatch.setattr("mypt.run.train.plan_run", lambda *args: untimed_plan(*args))
        verb = ["train", "parts", *call] if stop_at == 9 else ["resume", "parts"]
        assert mypt(*verb, ok=False).exit_code == 1
    monkeypatch.setattr(Stepper, "update", update)
    assert CheckpointManager("parts").load().state.step == 18
    mypt("resume", "parts")
    assert_same_run("whole", "parts")


def lr_at(stepper: Stepper, step: int) -> float:
    from mypt.train.optim.schedule import learning_rate_at

    return learning_rate_at(step, stepper.training)


def untimed_plan(stepper: Stepper, name: str, *_: object) -> object:
    """A plan without the timed step, which would meet the injected stop."""
    from mypt.train.plan import Plan

    return Plan(
        name=name, state=stepper.session, config=stepper.model.config,
        parameters=1, precision="fp32", memory_estimate=1, memory_measured=None,
        disk_needed=1, disk_free=2, step_s=0.001, eval_s=0.001,
    )  # fmt: skip


def test_timing_a_step_leaves_no_trace(mypt: Mypt, monkeypatch: pytest.MonkeyPatch) -> None:
    call = ["--input-file", "input.txt", *TINY, "--max-iters", "5", "--eval-interval", "5"]
    mypt("train", "timed", *call)
    monkeypatch.setattr("mypt.run.train.plan_run", lambda *args: untimed_plan(*args))
    mypt("train", "untimed", *call)
    assert_same_run("timed", "untimed")


def test_the_life_cycle_of_the_spec(mypt: Mypt) -> None:
    spec = ["--n_layer", "2", "--max_iters", "10", "--learning_rate", "3e-4", "--eval_interval", "5"]
    mypt("train", "--model_name", "dante", "--input_file", "input.txt", *TINY, *spec)
    out = mypt("resume", "dante", "--max-iters", "20", "--lr", "1e-4").output
    assert out.splitlines()[0] == "Resuming dante from step 10."
    assert "max_iters" in out and "changes the trajectory" in out
    state = json.loads(Path("checkpoints/dante/training_state.json").read_text(encoding="utf-8"))
    wanted = {"max_iters": 20, "eval_interval": 5, "eval_iters": 2, "learning_rate": 1e-4, "start_step": 10}
    assert list(state)[:3] == ["step", "optimizer_file", "training_config"] and state["step"] == 20
    assert list(state["training_config"])[:5] == list(wanted)
    assert {k: state["training_config"][k] for k in wanted} == wanted
    log = Path("logs/train/dante_eval.jsonl").read_text(encoding="utf-8").splitlines()
    kinds = [json.loads(line)["event"] for line in log]
    assert [k for k in kinds if "gold" not in k] == ["training_start", "eval", "eval", "training_complete"] * 2


def test_train_on_an_existing_name_resumes_and_says_so_first(mypt: Mypt) -> None:
    call = ["train", "dante", "--input-file", "input.txt", *TINY, "--eval-interval", "4"]
    mypt(*call, "--max-iters", "4")
    out = mypt(*call, "--max-iters", "8").output
    assert out.startswith("Resuming dante from step 4.")
    assert "step 8/8" in out and "step 4/8" not in out
    again = mypt(*call, "--max-iters", "8").output
    assert "Nothing left to do: dante is at step 8 already." in again and "--max-iters 16" in again


def test_a_call_that_contradicts_the_record_is_refused_with_every_difference(mypt: Mypt) -> None:
    call = ["--input-file", "input.txt", *TINY, "--max-iters", "4"]
    mypt("train", "dante", *call)
    before = {p: p.read_bytes() for p in Path("checkpoints/dante").iterdir()}
    Path("other.txt").write_text("another text " * 100, encoding="utf-8")
    result = mypt(
        "train", "dante", "--n-layer", "3", "--dropout", "0.5", "--tokenization", "gpt2", "--seed", "4",
        "--input-file", "other.txt", ok=False,
    )  # fmt: skip
    assert result.exit_code == 2
    for name in ("n_layer: recorded 2, given 3", "dropout", "tokenization", "seed", "input_file", "--fresh"):
        assert name in result.stderr
    assert {p: p.read_bytes() for p in Path("checkpoints/dante").iterdir()} == before


def test_an_explicit_default_counts_as_given(mypt: Mypt) -> None:
    mypt("train", "dante", "--input-file", "input.txt", *TINY, "--max-iters", "4")
    result = mypt("resume", "dante", "--n-layer", "6", ok=False)  # 6 is the default, 2 is recorded
    assert result.exit_code == 2 and "n_layer: recorded 2, given 6" in result.stderr


def test_a_changed_text_is_refused_and_a_moved_one_is_found(mypt: Mypt) -> None:
    mypt("train", "dante", "--input-file", "input.txt", *TINY, "--max-iters", "4")
    text = Path("input.txt").read_text(encoding="utf-8")
    Path("input.txt").write_text(text.replace("selva", "salva"), encoding="utf-8")
    result = mypt("resume", "dante", "--max-iters", "8", ok=False)
    assert result.exit_code == 2 and "is not the one that this run was trained on" in result.stderr
    Path("input.txt").unlink()
    assert "does not exist" in mypt("resume", "dante", "--max-iters", "8", ok=False).stderr
    Path("moved.txt").write_text(text, encoding="utf-8")
    mypt("resume", "dante", "--max-iters", "8", "--input-file", "moved.txt")
    assert CheckpointManager("dante").load().state.step == 8


def test_fresh_moves_the_old_run_aside_and_loses_nothing(mypt: Mypt) -> None:
    call = ["train", "dante", "--input-file", "input.txt", *TINY]
    mypt(*call, "--max-iters", "4")
    before = Path("checkpoints/dante/model.pt").read_bytes()
    log = Path("logs/train/dante_eval.jsonl").read_bytes()
    out = mypt(*call, "--max-iters", "2", "--fresh").output
    (kept,) = (p for p in Path("checkpoints").iterdir() if re.fullmatch(r"dante_\d+-\d+", p.name))
    assert kept.with_name(f"{kept.name}_gold").is_dir() and kept.with_name(f"{kept.name}_fp16").is_dir()
    assert " 6 bundles, 0 faults." in mypt("verify").output
    assert str(kept) in out
    assert (kept / "model.pt").read_bytes() == before
    assert any(p.read_bytes() == log for p in Path("logs/train").iterdir())
    assert CheckpointManager("dante").load().state.step == 2
    newer = Path("logs/train/dante_eval.jsonl").read_bytes()
    mypt("resume", kept.name, "--max-iters", "6")
    assert Path("logs/train/dante_eval.jsonl").read_bytes() == newer  # the run set aside has a log of its own
    assert Path(f"logs/train/{kept.name}_eval.jsonl").read_bytes().startswith(log)


def test_a_resume_from_another_folder_goes_on_with_the_same_log(mypt: Mypt, monkeypatch: pytest.MonkeyPatch) -> None:
    mypt("train", "dante", "--input-file", "input.txt", *TINY, "--max-iters", "4")
    here = Path.cwd()
    elsewhere = here / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    mypt("resume", "dante", "--out-dir", "../checkpoints", "--max-iters", "6")
    assert not (elsewhere / "logs").exists()
    log = (here / "logs/train/dante_eval.jsonl").read_text(encoding="utf-8")
    assert [json.loads(line)["event"] for line in log.splitlines()].count("training_start") == 2


def test_a_reader_puts_a_half_switched_bundle_back_and_says_so(mypt: Mypt) -> None:
    mypt("train", "dante", "--input-file", "input.txt", *TINY, "--max-iters", "2")
    bundle = Path("checkpoints/dante")
    bundle.rename(bundle.with_name(".dante.old"))
    bundle.with_name(".dante.saving").touch()
    result = mypt("inspect", "dante")
    assert flat(result.stderr) == f"Restored {bundle} after a crash in the middle of a save."
    assert bundle.is_dir() and mypt("inspect", "dante").stderr == ""


def test_a_resume_that_cannot_be_exact_says_so(mypt: Mypt) -> None:
    mypt("train", "half", "--input-file", "input.txt", *TINY, "--max-iters", "4", "--save-dtype", "bf16")
    state = json.loads(Path("checkpoints/half/training_state.json").read_text(encoding="utf-8"))
    assert state["exact_resume"] is False and state["model_dtype"] == "bf16"
    assert "this resume is not exact" in mypt("resume", "half", "--max-iters", "6").output


def test_a_text_from_standard_input_trains_and_must_be_given_again(mypt: Mypt) -> None:
    text = Path("input.txt").read_text(encoding="utf-8")
    mypt("train", "piped", "--input-file", "-", *TINY, "--max-iters", "4", stdin=text)
    assert "--input-file" in mypt("resume", "piped", "--max-iters", "6", ok=False).stderr
    mypt("resume", "piped", "--max-iters", "6", "--input-file", "input.txt")
