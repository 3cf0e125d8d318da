"""One run on several processes, through the real command under torchrun: the same record, and the same end for all."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from mypt.checkpoint.files import read_state
from mypt.checkpoint.lock import locked
from tests.conftest import Mypt, flat
from tests.parallel.conftest import ROOT, SHARED, Ended, Torchrun, Whole, command, environment, on_two_hosts

pytestmark = pytest.mark.distributed


def weights(name: str) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = torch.load(f"checkpoints/{name}/model.pt")
    return found


def same_weights(a: str, b: str) -> bool:
    left, right = weights(a), weights(b)
    assert left.keys() == right.keys() and len(left) > 10
    return all(torch.equal(left[name], right[name]) for name in left)


def same_moments(a: str, b: str) -> bool:
    left, right = (torch.load(f"checkpoints/{name}/optimizer.pt")["optimizer"]["state"] for name in (a, b))
    assert left.keys() == right.keys() and len(left) > 10
    return all(torch.equal(left[i][name], right[i][name]) for i in left for name in left[i])


def events(name: str, kind: str) -> list[dict[str, Any]]:
    lines = Path(f"logs/train/{name}_eval.jsonl").read_text(encoding="utf-8").splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == kind]


def errors_of(ended: Ended) -> int:
    """How many messages there are; torchrun's own errors have other names."""
    return len(re.findall(r"(?<!\w)Error: ", ended.text))


def val_losses(name: str) -> list[float]:
    return [event["val_loss"] for event in events(name, "eval")]


def furthest(a: str, b: str) -> float:
    """The largest difference of two runs' losses at their end, which the log would round."""
    left, right = (read_state(Path("checkpoints", name)).progress for name in (a, b))
    assert left.last_val_loss and left.last_train_loss and right.last_val_loss and right.last_train_loss
    return max(abs(left.last_val_loss - right.last_val_loss), abs(left.last_train_loss - right.last_train_loss))


def test_any_number_of_processes_trains_the_same_model(torchrun: Torchrun, mypt: Mypt) -> None:
    """One under torchrun is one without; several are within rounding of it, to the bit among themselves."""
    mypt("train", "alone", *SHARED)
    for name, processes in {"one": 1, "two": 2, "again": 2, "three": 3, "four": 4}.items():
        ended = torchrun(processes, "train", name, *SHARED)
        assert ended.code == 0, ended
        assert ended.text.count("Training finished!") == ended.text.count("step 8/8") == 1
    for file in ("model.pt", "optimizer.pt", "config.json", "tokenizer.json"):
        assert Path("checkpoints/alone", file).read_bytes() == Path("checkpoints/one", file).read_bytes()
    assert same_weights("two", "again") and same_moments("two", "again")
    assert val_losses("two") == val_losses("again")
    assert val_losses("alone") == val_losses("one")
    for name in ("two", "three", "four"):  # of four micro-batches, three processes take one, one and two
        assert furthest("alone", name) <= 4.8e-7
    for name, processes in {"two": 2, "three": 3, "four": 4}.items():
        env = read_state(Path("checkpoints", name)).environment
        assert env is not None and (env.processes, env.hosts, env.backend) == (processes, 1, "gloo")
        assert events(name, "training_start")[0]["config"]["processes"] == processes
        assert [p.name for p in Path("checkpoints").glob(f"{name}*")] and len(events(name, "training_start")) == 1
    assert "4 processes on 1 host (gloo)" in flat(mypt("inspect", "four").output)
    assert "shared by 4 processes" in ended.text


def test_exact_sums_give_the_same_bits_on_any_number_of_processes(torchrun: Torchrun, mypt: Mypt) -> None:
    """Also with muon, and a run goes on to the bit on another number of processes, which is called harmless then."""
    exact = [*SHARED, "--reduce", "exact", "--optimizer", "muon", "--muon-dtype", "fp32"]
    mypt("train", "alone", *exact)
    for processes in (2, 4):
        assert torchrun(processes, "train", f"on{processes}", *exact).code == 0
        assert same_weights("alone", f"on{processes}") and same_moments("alone", f"on{processes}")
        assert val_losses("alone") == val_losses(f"on{processes}")
    assert torchrun(4, "train", "moved", *exact, "--max-iters", "4", "--warmup-iters", "1").code == 0
    told = torchrun(2, "resume", "moved", "--max-iters", "8")
    assert told.code == 0 and re.search(r"processes 4 2 harmless", told.text)
    mypt("train", "stayed", *exact, "--max-iters", "4", "--warmup-iters", "1")
    mypt("resume", "stayed", "--max-iters", "8")
    assert same_weights("moved", "stayed")


@pytest.mark.parametrize(("optimizer", "bound"), [("adamw", 7e-7), ("muon", 2.5e-5)])
def test_rounding_stays_small_over_hundreds_of_steps(
    torchrun: Torchrun, mypt: Mypt, optimizer: str, bound: float
) -> None:
    call = [*SHARED, "--max-iters", "300", "--eval-interval", "150", "--optimizer", optimizer, "--muon-dtype", "fp32"]
    mypt("train", "alone", *call, "--learning-rate", "1e-3")
    assert torchrun(4, "train", "four", *call, "--learning-rate", "1e-3").code == 0
    assert furthest("alone", "four") <= bound and not same_weights("alone", "four")


def test_half_precision_adds_up_in_fp32(torchrun: Torchrun) -> None:
    """Sums of bf16 micro-batches are near each other, and the exact ones are equal."""
    call = [word for word in SHARED if word != "--no-use-amp"]
    call += ["--use-amp", "--amp-dtype", "bf16", "--max-iters", "15", "--learning-rate", "1e-3"]
    for name, processes, reduce in (("one", 1, "sum"), ("four", 4, "sum"), ("a", 1, "exact"), ("b", 4, "exact")):
        ended = torchrun(processes, "train", name, *call, "--reduce", reduce, fault="bf16:none:0:0")
        assert ended.code == 0 and "cpu in bf16" in ended.text, ended
    assert furthest("one", "four") <= 7.5e-5
    assert same_weights("a", "b") and same_moments("a", "b") and val_losses("a") == val_losses("b")


def test_a_resume_on_another_number_is_named_and_within_rounding(torchrun: Torchrun, mypt: Mypt) -> None:
    """The same number goes on to the bit; plain verbs read what several processes made, and reproduce proves it."""
    assert torchrun(2, "train", "whole", *SHARED).code == 0
    half = [*SHARED, "--warmup-iters", "2", "--lr-schedule", "constant"]
    assert torchrun(2, "train", "kept", *half, "--max-iters", "4").code == 0
    for name in ("same", "other"):
        shutil.copytree("checkpoints/kept", f"checkpoints/{name}")
    assert torchrun(2, "train", "straight", *half).code == 0
    assert torchrun(2, "resume", "same", "--max-iters", "8").code == 0
    assert same_weights("straight", "same")
    told = torchrun(4, "resume", "other", "--max-iters", "8")
    assert told.code == 0 and "processes 2 4 trajectory within rounding" in told.text
    assert furthest("other", "straight") <= 4.8e-7
    for verb in (["verify", "whole"], ["inspect", "whole"], ["export-fp16", "whole"], ["generate", "whole"]):
        mypt(*verb)
    assert "identical" in torchrun(2, "reproduce", "whole").text
    plain = flat(mypt("reproduce", "whole", ok=False).output)
    assert "processes 2 1 trajectory within rounding" in plain


def test_hosts_need_no_disk_in_common_but_the_data(whole: Whole, folder: Path) -> None:
    """Two agents, as on two hosts: the second host reads the text, and writes nothing."""
    other = folder / "host"
    other.mkdir()
    ended = on_two_hosts((folder, other), "train", "m", *SHARED)
    assert [e.code for e in ended] == [0, 0], ended
    wrote = [path for path in (folder, other) if (path / "checkpoints").exists()]  # either agent may be the first
    assert len(wrote) == 1 and sum(e.text.count("Training finished!") for e in ended) == 1
    shutil.move(wrote[0] / "checkpoints/m", folder / "m")
    assert not [*wrote[0].glob("host/*")]
    env = read_state(folder / "m").environment
    assert env is not None and (env.processes, env.hosts) == (2, 2)
    whole(*SHARED)
    assert same_weights("whole", "../m")


@pytest.mark.parametrize("kind", ["SIGTERM", "SIGUSR1", "twice"])
def test_a_signal_to_any_process_stops_all_at_the_same_step(torchrun: Torchrun, whole: Whole, kind: str) -> None:
    """With exit code 0, for torchrun takes another for a failure; what is left of the run is what would have been."""
    ended = torchrun(2, "train", "stopped", *SHARED, fault=f"{kind}:1:5")
    signum = "SIGTERM" if kind == "twice" else kind
    assert ended.code == 0, ended
    assert ended.text.count(f"{signum} came to process 1 on ") == ended.text.count("Stopped after step 5") == 1
    assert [e["reason"] for e in events("stopped", "training_stopped")] == [signum]
    assert read_state(Path("checkpoints/stopped")).step == 5
    if kind == "SIGUSR1":  # what is saved is no other than after SIGTERM
        return
    assert torchrun(2, "resume", "stopped").code == 0
    whole(*SHARED)
    assert same_weights("stopped", "whole") and same_moments("stopped", "whole")


def test_hosts_that_run_ahead_of_their_devices_stop_at_the_same_step(torchrun: Torchrun) -> None:
    """No weight moves from the step on that a process could not do, though later ones were launched; then all save."""
    ended = torchrun(2, "train", "stopped", *SHARED, fault="ahead:SIGTERM:1:4")
    assert ended.code == 0 and ended.text.count("Stopped after step 4") == 1, ended
    assert torchrun(2, "resume", "stopped", fault="ahead:none:0:0").code == 0
    assert torchrun(2, "train", "whole", *SHARED, fault="ahead:none:0:0").code == 0
    assert same_weights("stopped", "whole") and same_moments("stopped", "whole")
    failed = torchrun(2, "train", "failed", *SHARED, fault="ahead:data:1:5")
    assert failed.code == 1 and errors_of(failed) == 1 and read_state(Path("checkpoints/failed")).step == 5


def test_a_signal_to_torchrun_itself_stops_the_run_saved(folder: Path) -> None:
    """As a queue sends it: to torchrun and to its processes at once."""
    call = command(
        2, "train", "stopped", *SHARED, "--max-iters", "100000", "--eval-interval", "100000", "--log-interval=1"
    )
    with subprocess.Popen(
        call, cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    ) as job:
        log = Path("logs/train/stopped_eval.jsonl")
        while not (log.exists() and '"step"' in log.read_text(encoding="utf-8")):
            time.sleep(0.05)
        os.killpg(job.pid, signal.SIGTERM)
        assert job.stdout is not None
        text = job.stdout.read().decode()
    assert "everything is saved" in text, text
    [stopped] = events("stopped", "training_stopped")
    assert read_state(Path("checkpoints/stopped")).step == stopped["iter"] > 0


@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_process_is_named_and_torchrun_goes_on_by_itself(torchrun: Torchrun, whole: Whole, rank: int) -> None:
    """To the bit, with --fresh too, which is not meant again for what the job itself has saved."""
    whole(*SHARED)
    before = torchrun(2, "train", "killed", *SHARED, "--seed", "7", "--max-iters", "4")
    assert before.code == 0
    ended = torchrun(2, "train", "killed", *SHARED, "--fresh", fault=f"kill:{rank}:5", options=("--max-restarts", "2"))
    assert ended.code == 0, ended
    assert re.search(rf"Process {rank} on \S+ is lost\.", ended.text) and "Resuming killed from step" in ended.text
    assert same_weights("killed", "whole") and same_moments("killed", "whole")
    assert events("killed", "training_complete")[-1]["restarts"] == 1
    assert len([*Path("checkpoints").glob("killed.*")]) <= 1  # what was there before --fresh, moved aside once


FAULTS = {
    "nan:1:5": (1, r"Error: Step 6 has a loss of nan", "diverged", 4),
    "data:1:5": (1, r"Error: Process 1 on \S+: The shard train_0.npy cannot be read any more", "data", 5),
    "bug:1:5": (1, r"Error: Process 1 on \S+ failed with RuntimeError: a shape that nobody expected", "process", 5),
    "hang:1:5": (1, r"Error: Process 1 on \S+ hangs", "process", 5),
    "disk:0:0": (1, r"Error: \S+ cannot be written: the disk is full", None, None),
    "windows:1:0": (1, r"Error: Process 1 would train on other windows", None, None),
}
"""Of each fault: the exit code, the message, the reason in the log and the step that is saved."""


@pytest.mark.parametrize("fault", FAULTS)
def test_what_goes_wrong_in_one_process_ends_all_with_one_message(torchrun: Torchrun, fault: str) -> None:
    code, message, reason, step = FAULTS[fault]
    waits = ["--collective-timeout", "10"] if fault.startswith("hang") else []  # long enough for a busy machine
    ended = torchrun(2, "train", "m", *SHARED, *waits, fault=fault)
    assert ended.code == code and len(re.findall(message, ended.text)) == 1, ended
    assert errors_of(ended) == 1 and "mypt failed unexpectedly" not in ended.text
    assert [e["reason"] for e in events("m", "training_stopped")] == ([reason] if reason else []) if step else True
    assert (read_state(Path("checkpoints/m")).step if Path("checkpoints/m").exists() else None) == step


def test_debug_shows_where_another_process_failed(torchrun: Torchrun) -> None:
    ended = torchrun(2, "train", "m", *SHARED, "--debug", fault="bug:1:5")
    assert ended.code == 1 and "faulty.py" in ended.text and "in micro_step" in ended.text, ended


def test_a_name_that_is_busy_or_too_many_processes_end_all_before_the_first_step(torchrun: Torchrun) -> None:
    with locked(Path("checkpoints/m"), print):
        ended = torchrun(2, "train", "m", *SHARED)
    assert ended.code == 1 and errors_of(ended) == 1 and "checkpoints/m" in ended.text
    ended = torchrun(3, "train", "m", *SHARED, "--grad-accum-steps", "2")
    assert ended.code == 1 and errors_of(ended) == 1  # torchrun's own exit code
    assert "A step has 2 micro-batches, which 3 processes cannot share." in ended.text
    assert not Path("checkpoints/m").exists() and not Path("logs/train/m_eval.jsonl").exists()


def test_a_time_limit_ends_all_at_the_same_step(torchrun: Torchrun) -> None:
    ended = torchrun(2, "train", "m", *SHARED, "--max-iters", "1000000", "--max-minutes", "0.25")
    assert ended.code == 0 and "max_minutes" in ended.text, ended
    [stopped] = events("m", "training_stopped")
    assert stopped["reason"] == "max_minutes" and read_state(Path("checkpoints/m")).step == stopped["iter"]


def test_patience_ends_all_at_the_same_evaluation(torchrun: Torchrun) -> None:
    call = [*SHARED, "--max-iters", "1000", "--eval-interval", "1", "--learning-rate", "1", "--patience", "2"]
    ended = torchrun(2, "train", "m", *call)
    assert ended.code == 0 and ended.text.count("(patience)") == 1, ended
    [stopped] = events("m", "training_stopped")
    losses = [event["val_loss"] for event in events("m", "eval")]
    assert stopped["reason"] == "patience" and read_state(Path("checkpoints/m")).step == stopped["iter"] == len(losses)
    assert losses.index(min(losses)) == len(losses) - 3


def test_the_benchmark_of_processes_runs() -> None:
    """A few steps of each line, whose figures nobody looks at here."""
    call = [sys.executable, str(ROOT / "benchmarks/parallel.py"), "--processes", "2", "--rounds", "1", "--steps", "3"]
    table = subprocess.run(call, capture_output=True, text=True, env=environment(), check=True).stdout
    assert re.search(r"\| mypt \| [\d,.]+ \|\n\| mypt exact \| [\d,.]+ \|", table), table


def test_masks_count_tokens_over_all_processes(torchrun: Torchrun, mypt: Mypt) -> None:
    """Conversations of uneven length: what counts in a step is known only together."""
    turns = [{"user": "abc " * (1 + i % 7), "assistant": "d e " * (1 + i * 5 % 11)} for i in range(120)]
    rows = [{"messages": [{"role": role, "content": text} for role, text in turn.items()]} for turn in turns]
    Path("chat.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    mypt("prepare", "chat.jsonl", "--chat", "--tokenization", "char", "--out", "data")
    call = ["--dataset-dir", "data", *SHARED[2:], "--block-size", "32"]
    call = [w for w in call if w not in ("--tokenization", "char")]
    mypt("train", "alone", *call)
    assert torchrun(2, "train", "two", *call).code == 0 and torchrun(4, "train", "four", *call).code == 0
    assert furthest("alone", "two") <= 4.8e-7 and furthest("alone", "four") <= 4.8e-7
