"""A run cannot be lost: faults at every point of a save, two processes on one name, signals, spikes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from mypt.checkpoint import atomic as commit
from mypt.checkpoint.lock import locked
from mypt.checkpoint.manager import CheckpointManager, Content
from mypt.data.loader import Batch, GPTDataLoader
from mypt.errors import BusyError, InputError
from mypt.log.reader import SkippedLines, read_events
from mypt.log.replay import live_evals
from tests.conftest import TINY, Mypt, stopping_at
from tests.run.test_resume import assert_same_run

ROOT = Path(__file__).parents[2]
RUN = ["--input-file", "input.txt", *TINY, "--max-iters", "12", "--eval-interval", "6"]
linux = pytest.mark.skipif(sys.platform != "linux", reason="watches the disk through /proc")
PARTS = 2


@linux
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("kind", ["kill", "refuse"])
def test_a_fault_at_any_point_of_a_session_loses_nothing(
    kind: str, part: int, capsys: pytest.CaptureFixture[str]
) -> None:
    call = [sys.executable, "-m", "tests.run.faults", kind, str(part), str(PARTS)]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(call, capture_output=True, text=True, cwd=ROOT, env=env, timeout=300)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    with capsys.disabled():
        print(f" [{kind}: {report['points']} of {report['of']} injection points]", end="")
    assert report["faults"] == []
    assert report["of"] >= 60
    assert report["kinds"] == ["delete", "flush", "mkdir", "rename", "switch", "write"]


SAVE = """
import json, os, sys
from pathlib import Path
from tests.run import faults
os.fsync = lambda _: None
folder, changes = Path(sys.argv[1]), sys.argv[2:]
faults.fresh(folder / "first")
faults.train_once()  # so that every child finds all modules loaded
for number, change in enumerate(changes):
    def session():
        exec(change, {})
        disk = faults.Disk()
        faults.train_on(disk)
        (folder / f"{number}.json").write_text(json.dumps(disk.points))
    faults.fresh(folder / "run")
    assert faults.in_child(session) == 0
"""
UNFLUSHED = "from mypt.checkpoint import atomic as commit\ncommit._flush_tree = lambda folder: None"
IN_PLACE = """
from mypt.checkpoint import manager
real = manager.CheckpointManager.write
def write(self, *args):
    real(self, *args)
    (self.path / "training_state.json").write_text("{}")
manager.CheckpointManager.write = write
"""
CHANGES = {"nothing": "", "no file is flushed": UNFLUSHED, "a file is written in place": IN_PLACE}


@pytest.fixture(scope="module")
def changes_of_a_session(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[tuple[str, Path]]]:
    """What a session does to the disk, by what is wrong with its saves."""
    folder = tmp_path_factory.mktemp("saves")
    call = [sys.executable, "-c", SAVE, str(folder), *CHANGES.values()]
    done = subprocess.run(call, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    found = [json.loads((folder / f"{number}.json").read_text(encoding="utf-8")) for number in range(len(CHANGES))]
    return {name: [(what, Path(path)) for what, path in points] for name, points in zip(CHANGES, found, strict=True)}


def faults_of_order(points: list[tuple[str, Path]]) -> list[str]:
    """What breaks the rule: written aside, every file flushed, then the folder, then switched, then the parent."""
    found: list[str] = []
    dirty: set[str] = set()
    for i, (what, path) in enumerate(points):
        inside = path.parent.name.endswith(".writing")
        if what == "write" and not inside and path.suffix != ".jsonl" and not path.name.endswith(".owner.json"):
            found.append(f"{path} is written in place")
        if what == "write" and inside:
            dirty |= {path.name, path.parent.name}
        if what == "flush":
            dirty.discard(path.name)
        if what in ("rename", "switch"):
            found += [f"{name} is not flushed before the switch" for name in sorted(dirty)]
            dirty.clear()
            if points[i + 1][0] != "flush" or points[i + 1][1].name != "checkpoints":
                found.append("the folder of the name is not flushed after the switch")
    return found


@linux
def test_every_write_of_a_save_is_aside_and_flushed_before_the_switch(
    changes_of_a_session: dict[str, list[tuple[str, Path]]],
) -> None:
    points = changes_of_a_session["nothing"]
    assert sum(what in ("rename", "switch") for what, _ in points) == 5  # two saves, gold twice, and the export
    assert faults_of_order(points) == []


@linux
@pytest.mark.parametrize(
    ("change", "told"),
    [("no file is flushed", "is not flushed before"), ("a file is written in place", "written in place")],
)
def test_a_save_that_breaks_the_rule_is_found(
    change: str, told: str, changes_of_a_session: dict[str, list[tuple[str, Path]]]
) -> None:
    assert any(told in fault for fault in faults_of_order(changes_of_a_session[change]))


def start(*args: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "mypt", *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


LONG = ["--input-file", "input.txt", *TINY, "--max-iters", "100000", "--eval-interval", "20"]


def wait_for_step(log: Path, step: int) -> None:
    for _ in range(600):
        if log.exists() and any(e.get("iter", 0) >= step for e in read_events(log)):
            return
        time.sleep(0.1)
    raise AssertionError(f"{log} never reached step {step}")


def test_a_second_process_is_refused_and_reading_goes_on(folder: Path, mypt: Mypt) -> None:
    first = start("train", "dante", *LONG)
    try:
        wait_for_step(folder / "logs/train/dante_eval.jsonl", 40)
        for call in (["train", "dante", *LONG], ["resume", "dante"], ["train", "dante", *LONG, "--fresh"]):
            second = mypt(*call, ok=False)
            assert second.exit_code == 1
            assert f"being written by process {first.pid} on" in second.stderr
        for _ in range(5):
            assert "Last recorded training step" in mypt("inspect", "dante").output
    finally:
        first.kill()
        first.communicate()
    out = mypt("resume", "dante", "--max-iters", "1").output
    assert f"process {first.pid} on" in out and "Took over" in out


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_after_the_step_with_everything_saved(
    signum: signal.Signals, code: int, folder: Path, mypt: Mypt
) -> None:
    run = start("train", "dante", *LONG)
    log = folder / "logs/train/dante_eval.jsonl"
    wait_for_step(log, 20)
    run.send_signal(signum)
    out, err = run.communicate(timeout=60)
    assert run.returncode == code, err
    step = CheckpointManager("dante").load().state.step
    assert f"Stopped after step {step} ({signum.name}); everything is saved." in out
    assert "mypt resume dante" in out
    *_, last = read_events(log)
    assert (last["event"], last["reason"], last["iter"]) == ("training_stopped", signum.name, step)
    mypt("resume", "dante", "--max-iters", str(step + 7), "--save-interval", "5")
    assert CheckpointManager("dante").load().state.step == step + 7


def test_stops_at_any_steps_and_resumes_equal_one_go(mypt: Mypt) -> None:
    """Stops asked for by a signal fall between evaluations; the rest of the run does not notice."""
    call = [*RUN, "--grad-accum-steps", "2"]
    mypt("train", "whole", *call)
    for at in (1, 5, 6, 10):
        with stopping_at(at):
            mypt("train", "parts", *call)
        assert CheckpointManager("parts").load().state.step == at
    mypt("resume", "parts")
    assert_same_run("whole", "parts")
    state = CheckpointManager("parts").load().state
    assert [s.start_step for s in state.sessions] == [0, 1, 5, 6, 10] and state.attempt == 5
    attempts = [e["attempt"] for e in read_events(Path("logs/train/parts_eval.jsonl"))]
    assert attempts == sorted(attempts) and set(attempts) == {1, 2, 3, 4, 5}


def test_a_time_limit_saves_and_ends_in_time(mypt: Mypt) -> None:
    began = time.perf_counter()
    result = mypt("train", "dante", *LONG, "--max-minutes", "0.1")
    assert time.perf_counter() - began < 6.5
    assert "(max_minutes); everything is saved." in result.output
    assert CheckpointManager("dante").load().state.step > 20


def test_save_interval_saves_between_evaluations(mypt: Mypt, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[int] = []
    real = CheckpointManager.write

    def write(self: CheckpointManager, content: Content) -> None:
        saved.append(content.state.step)
        real(self, content)

    monkeypatch.setattr(CheckpointManager, "write", write)
    mypt("train", "dante", *RUN, "--save-interval", "4")
    assert [s for i, s in enumerate(saved) if s not in saved[:i]] == [4, 6, 8, 12]


def poison(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Let the loss of one step be infinite: its inputs meet weights of infinity."""
    from mypt.train.step import Stepper

    real = Stepper.micro_step

    def micro_step(stepper: Stepper, at: int, micro: int, batch: Batch, counted: int) -> torch.Tensor:
        loss = real(stepper, at, micro, batch, counted)
        if at == step:
            for p in stepper.model.parameters():
                if p.grad is not None:
                    p.grad.fill_(float("nan"))
        return loss

    monkeypatch.setattr(Stepper, "micro_step", micro_step)


def test_a_step_that_is_not_finite_is_never_taken(mypt: Mypt, monkeypatch: pytest.MonkeyPatch) -> None:
    starts: list[list[int]] = []
    real = GPTDataLoader.window_starts

    def window_starts(self: GPTDataLoader, index: int) -> object:
        found = real(self, index)
        if index == 8:
            starts.append(found.tolist())
        return found

    monkeypatch.setattr(GPTDataLoader, "window_starts", window_starts)
    poison(monkeypatch, 8)
    result = mypt("train", "dante", *RUN, ok=False)
    assert result.exit_code == 1
    assert "Step 9 has a loss of" in result.stderr and "gradient norm of nan" in result.stderr
    assert str(starts[0]) in result.stderr and "the last good bundle is checkpoints/dante at step 6" in result.stderr
    assert all(torch.isfinite(w).all() for w in CheckpointManager("dante").load().model.parameters())
    result = mypt("resume", "dante", "--on-spike", "skip")
    assert "its batches are left out" in result.output and "Training finished!" in result.output
    (skipped,) = [e for e in read_events(Path("logs/train/dante_eval.jsonl")) if e["event"] == "batch_skipped"]
    assert skipped["iter"] == 9 and skipped["windows"] == [starts[0]]
    assert all(torch.isfinite(w).all() for w in CheckpointManager("dante").load().model.parameters())


def test_what_a_crash_leaves_behind_is_put_right_and_said(mypt: Mypt) -> None:
    mypt("train", "dante", *RUN)
    Path("checkpoints/.dante.writing").mkdir()
    Path("checkpoints/.dante.saving").touch()
    out = mypt("resume", "dante").output
    assert "Removed the leftovers of an interrupted save of checkpoints/dante." in out
    assert not Path("checkpoints/.dante.writing").exists()
    Path("checkpoints/dante").rename(commit._old(Path("checkpoints/dante")))
    Path("checkpoints/.dante.saving").touch()
    assert "Last recorded training step: 12" in mypt("inspect", "dante").output


def test_a_lock_is_exclusive_and_given_back(tmp_path: Path) -> None:
    target = tmp_path / "name"
    told: list[str] = []
    with (
        locked(target, told.append),
        pytest.raises(BusyError, match=f"process {os.getpid()} on"),
        locked(target, told.append),
    ):
        pass
    with locked(target, told.append):
        assert told == []


def test_readers_of_the_log_pass_over_what_is_no_event_and_follow_the_live_branch(tmp_path: Path) -> None:
    def line(event: str, **more: object) -> str:
        return json.dumps({"event": event, "run_id": "r", "timestamp": "2026-01-01T00:00:00.000000", **more})

    def session(start: int) -> str:
        config = dict.fromkeys(
            ["max_iters", "learning_rate", "warmup_iters", "grad_clip", "grad_accum_steps", "batch_size", "block_size",
             "tokens_per_step", "eval_interval", "eval_iters", "weight_decay", "dropout", "seed"], 1,
        )  # fmt: skip
        words = dict.fromkeys(["amp_dtype", "lr_schedule", "device"], "x")
        nothing = dict.fromkeys(["config_file", "dataset_dir", "input_file", "tokenization", "preset"])
        model = dict.fromkeys(["total_params", "n_layer", "n_head", "n_embd", "vocab_size"], 1)
        kinds = dict.fromkeys(["pos_encoding", "mlp_type", "norm_type"], "x")
        return line(
            "training_start",
            config={**config, **words, **nothing, "start_step": start, "use_amp": False},
            model={**model, **kinds, "tie_weights": False, "bias": False},
        )

    def evaluation(step: int, loss: float) -> str:
        figures = dict.fromkeys(
            ["elapsed_s", "tokens_processed", "progress_pct", "lr", "eval_duration_s", "train_loss"], 1
        )
        return line("eval", iter=step, phase="main", val_loss=loss, **figures)

    path = tmp_path / "log.jsonl"
    lines = [session(0), evaluation(5, 3.0), "", "no event", evaluation(10, 2.0), '{"event": "other"}', session(5)]
    lines += [evaluation(10, 1.0), '{"event": "eval", "it']
    path.write_bytes("\n".join(lines).encode() + b"\n\xff\xfe\x00")
    passed = SkippedLines()
    assert len(list(read_events(path, passed))) == 5 and passed.total == 4
    assert [(e["iter"], e["val_loss"]) for e in live_evals(path, "r")] == [(5, 3.0), (10, 1.0)]
    with pytest.raises(InputError, match="no event of the run other run"):
        list(live_evals(path, "other run"))
