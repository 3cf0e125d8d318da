"""`mypt verify` finds every kind of damage, and `mypt reproduce` proves a run or names what differs."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mypt.checkpoint import manifest
from mypt.checkpoint.files import write_json
from mypt.checkpoint.tensors import load_tensors
from mypt.data.tokenizer import Tokenizer
from mypt.log.reader import read_events
from mypt.log.replay import live_evals
from mypt.schema.files.manifest import FileHash
from tests.conftest import SHORT, TINY, Mypt, Once, reseal

RUN = [*SHORT, "--n-layer", "2", "--max-iters", "12", "--eval-interval", "4"]
BUNDLE = Path("checkpoints/dante")
FILES = ["model.pt", "config.json", "tokenizer.json", "training_state.json", "optimizer.pt", "manifest.json"]


def faults(mypt: Mypt) -> list[str]:
    """The names of the checks that fail."""
    result = mypt("verify", "dante", "--json", ok=False)
    found = [c["name"] for c in json.loads(result.output) if c["ok"] is False]
    assert result.exit_code == (1 if found else 0)
    return found


def test_what_is_healthy_takes_a_line_and_what_was_not_checked_does_not_count(mypt: Mypt, once: Once) -> None:
    once("train", "dante", *RUN)
    found = json.loads(mypt("verify", "--json").output)
    made = sum(c["ok"] is not None for c in found)
    first, *lines = mypt("verify").output.splitlines()
    assert first == "dante: ok, 9 checks" and len(lines) == 3 and "(an export has none)" in lines[0]
    assert lines[-1] == f"{made} checks of 3 bundles, 0 faults." and made < len(found)
    every = mypt("verify", "--all").output
    assert every.count(" ok ") == made and every.count("not checked") == len(found) - made
    path = BUNDLE / "config.json"
    path.write_bytes(path.read_bytes().replace(b" ", b"  ", 1))
    shown = mypt("verify", ok=False)
    assert shown.exit_code == 1 and "FAULT" in shown.output and "dante_gold: ok, 9 checks" in shown.output
    assert "dante: ok" not in shown.output


@pytest.mark.parametrize("file", FILES)
def test_a_flipped_byte_anywhere_is_found(file: str, mypt: Mypt, once: Once) -> None:
    once("train", "dante", *RUN)
    path = BUNDLE / file
    content = path.read_bytes()
    for at in [*range(0, len(content), max(1, len(content) // 7)), len(content) - 1]:
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        assert "files" in faults(mypt), f"byte {at} of {file}"
    path.write_bytes(content)
    assert faults(mypt) == []


@pytest.mark.parametrize("file", FILES)
def test_a_truncated_or_missing_file_is_found(file: str, mypt: Mypt, once: Once) -> None:
    once("train", "dante", *RUN)
    path = BUNDLE / file
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    assert "files" in faults(mypt)
    path.unlink()
    assert "files" in faults(mypt)


def swap_tokenizer() -> None:
    write_json(BUNDLE / "tokenizer.json", Tokenizer.char("".join(map(chr, range(40, 140)))).file)


def swap_kind() -> None:
    write_json(BUNDLE / "tokenizer.json", Tokenizer.train_bpe("ab", 256).file)


def edit(key: str, value: int) -> Callable[[], None]:
    def change() -> None:
        path = BUNDLE / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), key: value}, indent=2))

    return change


def poison_weight() -> None:
    weights = load_tensors(BUNDLE / "model.pt")
    weights["norm.weight"][3] = float("nan")
    torch.save(weights, BUNDLE / "model.pt")


def poison_moment() -> None:
    content = load_tensors(BUNDLE / "optimizer.pt")
    content["optimizer"]["state"][0]["exp_avg"][0, 0] = float("inf")
    torch.save(content, BUNDLE / "optimizer.pt")


def forget_moments() -> None:
    content = load_tensors(BUNDLE / "optimizer.pt")
    del content["optimizer"]["state"][2]
    torch.save(content, BUNDLE / "optimizer.pt")


def older_gold() -> None:
    mypt_state = BUNDLE / "training_state.json"
    state = json.loads(mypt_state.read_text())
    state["progress"]["gold"]["step"] = 4
    mypt_state.write_text(json.dumps(state))


def older_state() -> None:
    path = BUNDLE / "training_state.json"
    state = json.loads(path.read_text())
    state["progress"]["last_val_loss"] = 1.5
    path.write_text(json.dumps(state))


DAMAGE = {
    "a swapped tokenizer": (swap_tokenizer, "tokenizer fits weights"),
    "a tokenizer of another kind": (swap_kind, "tokenizer fits weights"),
    "another width in the config": (edit("n_embd", 32), "weights fit config"),
    "another depth in the config": (edit("n_layer", 1), "weights fit config"),
    "a NaN in a weight": (poison_weight, "values are finite"),
    "an infinite moment": (poison_moment, "values are finite"),
    "an optimizer with too little": (forget_moments, "optimizer fits model"),
    "another gold than the record's": (older_gold, "gold fits record"),
    "a state that the log does not know": (older_state, "step fits log"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_found_by_its_own_check_even_under_a_manifest_that_fits(damage: str, mypt: Mypt, once: Once) -> None:
    once("train", "dante", *RUN)
    apply, check = DAMAGE[damage]
    apply()
    assert "files" in faults(mypt)
    step = json.loads((BUNDLE / "training_state.json").read_text())["step"]
    reseal(BUNDLE, step)
    assert check in faults(mypt)
    assert "files" not in faults(mypt) and "schema" not in faults(mypt)


def test_a_file_that_did_not_come_with_the_bundle_is_found(mypt: Mypt, once: Once) -> None:
    once("train", "dante", *RUN)
    (BUNDLE / "extra.bin").write_text("x")
    assert faults(mypt) == ["files"]


def test_a_run_and_its_resumes_are_reproduced_to_the_bit(mypt: Mypt, once: Once) -> None:
    once("train", "dante", *RUN, "--grad-accum-steps", "2")
    mypt("resume", "dante", "--max-iters", "20", "--lr", "3e-3", "--weight-decay", "0.3")
    mypt("resume", "dante", "--max-iters", "25", "--eval-interval", "5")
    before = {p: p.read_bytes() for p in Path().rglob("*") if p.is_file() and p.name != "input.txt"}
    out = mypt("reproduce", "dante").output
    assert out.splitlines()[-1] == "identical: all 25 steps and the weights, 6 evaluations"
    assert re.fullmatch(r"weights: recorded (\w{16})…, reproduced \1…", out.splitlines()[-2])
    assert [line.split()[0] for line in out.splitlines()[1:-2]] == ["4", "8", "12", "16", "20", "25"]
    assert {p: p.read_bytes() for p in Path().rglob("*") if p.is_file() and p.name != "input.txt"} == before
    out = mypt("reproduce", "dante", "--steps", "9").output
    assert out.splitlines()[-1] == "identical: the first 9 steps, 2 evaluations"


def test_each_session_is_measured_again_on_the_windows_of_its_own_eval_seed(mypt: Mypt) -> None:
    call = [*RUN, "--eval-iters", "1", "--eval-set", "more=input.txt"]
    for name, seeds in {"dante": ["5", "6"], "other": ["2357", "7"]}.items():
        mypt("train", name, *call)
        for steps, seed in zip(("16", "20"), seeds, strict=True):
            mypt("resume", name, "--max-iters", steps, "--eval-seed", seed)
    logs = [live_evals(Path(f"logs/train/{name}_eval.jsonl"), None) for name in ("dante", "other")]
    same = [a["val_loss"] == b["val_loss"] for a, b in zip(*logs, strict=True)]
    assert same == [True, True, True, True, False, False], "the seeds choose other windows"
    last = mypt("reproduce", "dante").output.splitlines()[-1]
    assert last == "identical: all 20 steps and the weights, 6 evaluations"


def test_a_record_that_is_not_what_was_run_is_told_with_the_first_step(mypt: Mypt, once: Once) -> None:
    once("train", "dante", *RUN)
    log = Path("logs/train/dante_eval.jsonl")
    lines = log.read_text().splitlines()
    at = next(i for i, line in enumerate(lines) if '"eval"' in line and json.loads(line)["iter"] == 8)
    event = json.loads(lines[at])
    lines[at] = json.dumps({**event, "val_loss": event["val_loss"] + 1e-6})
    log.write_text("\n".join(lines) + "\n")
    result = mypt("reproduce", "dante", ok=False)
    assert result.exit_code == 1
    assert "different: first at the evaluation of step 8; what differs from the record: no recorded" in result.output


def test_weights_that_the_record_does_not_lead_to_are_told(mypt: Mypt, once: Once) -> None:
    once("train", "dante", *RUN)
    weights = load_tensors(BUNDLE / "model.pt")
    weights["norm.weight"][0] += 1e-6
    torch.save(weights, BUNDLE / "model.pt")
    reseal(BUNDLE, 12)
    result = mypt("reproduce", "dante", ok=False)
    assert result.exit_code == 1 and "different: in the weights at the end" in result.output


def test_what_cannot_be_reproduced_says_why(mypt: Mypt, once: Once) -> None:
    once("train", "dante", *RUN, "--save-dtype", "fp16")
    assert "rounded below fp32" in mypt("reproduce", "dante", ok=False).stderr
    mypt("train", "whole", *RUN)
    Path("input.txt").unlink()
    assert "input.txt does not exist" in mypt("reproduce", "whole", ok=False).stderr


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_three_kills_then_verify_and_reproduce(mypt: Mypt) -> None:
    """A real process, killed three times at times that fall where they fall."""
    call = [
        "--input-file",
        "input.txt",
        *TINY,
        "--max-iters",
        "400",
        "--eval-interval",
        "20",
        "--grad-accum-steps",
        "2",
    ]
    log, bundle = Path("logs/train/dante_eval.jsonl"), Path("checkpoints/dante")

    def logged() -> int:
        return len(list(read_events(log))) if log.exists() else 0

    for i, pause in enumerate((0.07, 0.19, 0.31)):
        verb = ["train", "dante", *call] if i == 0 else ["resume", "dante"]
        run = subprocess.Popen([sys.executable, "-m", "mypt", *verb], stdout=subprocess.DEVNULL)
        seen = logged()
        while (logged() < seen + 3 or not bundle.exists()) and run.poll() is None:
            time.sleep(0.03)
        time.sleep(pause)
        assert run.poll() is None, "the run ended before it could be killed"
        run.send_signal(signal.SIGKILL)
        run.wait()
    mypt("resume", "dante")
    assert faults(mypt) == []
    out = mypt("reproduce", "dante").output
    assert out.splitlines()[-1] == "identical: all 400 steps and the weights, 20 evaluations"


def test_a_rewind_to_gold_goes_on_under_the_same_name_and_keeps_both_branches(mypt: Mypt, once: Once) -> None:
    once("train", "dante", *RUN)
    mypt("resume", "dante", "--max-iters", "20", "--lr", "30", "--lr-schedule", "constant")  # far from anything good
    last = (BUNDLE / "model.pt").read_bytes()
    call = ["--max-iters", "16", "--lr", "1e-3", "--lr-schedule", "cosine"]
    out = mypt("resume", "dante", "--from", "gold", *call).output
    assert out.startswith("Resuming dante from step 12.")
    (kept,) = Path("checkpoints").glob("dante_2*")
    assert str(kept) in out and (kept / "model.pt").read_bytes() == last
    assert Path(f"logs/train/{kept.name}_eval.jsonl").is_file()
    log = Path("logs/train/dante_eval.jsonl")
    state = json.loads((BUNDLE / "training_state.json").read_text())
    assert [s["start_step"] for s in state["sessions"]] == [0, 12] and state["attempt"] == 3
    every = [(e["attempt"], e["iter"]) for e in read_events(log) if e["event"] == "eval"]
    assert every == [(1, 4), (1, 8), (1, 12), (2, 16), (2, 20), (3, 16)]
    live = [(e["attempt"], e["iter"]) for e in live_evals(log, state["run_id"])]
    assert live == [(1, 4), (1, 8), (1, 12), (3, 16)]
    assert mypt("reproduce", "dante").output.splitlines()[-1].startswith("identical: all 16 steps and the weights")
    assert faults(mypt) == []
    mypt("train", "other", *RUN)
    shutil.rmtree("checkpoints/other_gold")
    shutil.copytree(BUNDLE, "checkpoints/other_gold")
    assert "is not of the run" in mypt("resume", "other", "--from", "gold", ok=False).stderr
    assert mypt("resume", "dante", "--from", "silver", ok=False).exit_code == 2


def test_verify_hashes_the_large_files_once(mypt: Mypt, once: Once, monkeypatch: pytest.MonkeyPatch) -> None:
    once("train", "dante", "--input-file", "input.txt", *TINY, "--max-iters", "2")
    hashed: list[str] = []
    real = manifest.file_hash

    def counted(path: Path) -> FileHash:
        hashed.append(path.name)
        return real(path)

    monkeypatch.setattr(manifest, "file_hash", counted)
    mypt("verify", "dante")
    assert hashed.count("model.pt") == hashed.count("optimizer.pt") == 1
