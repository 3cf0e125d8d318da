"""Calls that once ended in a fault of mypt's own, each with those of its kind: they end in a sentence."""

import json
import os
import sys
from pathlib import Path

import pytest
import torch

from mypt.checkpoint.files import read_state
from mypt.checkpoint.tensors import load_tensors
from tests.conftest import SHORT, Mypt, Once, flat, reseal

LONG = "a/" * 3000 + "b"
PATHS = {
    "too long": LONG,
    "too long a name": "a" * 5000,
    "a NUL": "a\0b",
    "nobody's home": "~nosuchuser/x",
    "the root": "/",
    "empty": "",
    "a folder": "folder",
    "upwards": "..",
    "a URL": "http://127.0.0.1:1/x",
    "no UTF-8": "caf\udce9",
}
TAKERS = {
    "a text": ["train", "m", *SHORT[2:], "--input-file"],
    "shards": ["train", "m", *SHORT[2:], "--dataset-dir"],
    "a config file": ["train", "m", *SHORT, "--config-file"],
    "a model to start from": ["train", "m", *SHORT, "--init-from-model"],
    "a log to write": ["train", "m", *SHORT, "--log-file"],
    "a folder of models": ["inspect", "--out-dir"],
    "a name": ["inspect"],
    "a name to train": ["train", *SHORT],
    "an export": ["export-fp16", "dante", "--out"],
    "a log": ["logs", "show"],
    "a CSV file": ["logs", "export", "dante", "--csv"],
    "a parquet file": ["logs", "export", "dante", "--parquet"],
    "a picture": ["logs", "plot", "dante", "--out"],
    "a dataset": ["data", "inspect"],
    "what to prepare": ["prepare", "--out", "d"],
    "where to prepare": ["prepare", "input.txt", "--out"],
    "a config to check": ["config", "check"],
    "a place for an eval set": ["train", "m", *SHORT, "--eval-set"],
}


@pytest.fixture
def dante(once: Once) -> Path:
    """A run, and a folder."""
    once("train", "dante", *SHORT)
    Path("folder").mkdir()
    return Path("checkpoints/dante")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.usefixtures("dante")
def test_a_path_that_cannot_be_used_is_told_wherever_it_is_given(path: str, mypt: Mypt) -> None:
    for taker, words in TAKERS.items():
        if path in ("the root", "upwards") and taker in ("a dataset", "what to prepare", "shards"):
            continue  # which look through all of it, as asked
        word = f"x={PATHS[path]}" if taker == "a place for an eval set" else PATHS[path]
        result = mypt(*words, word, ok=False)
        said = flat(result.output + result.stderr)
        assert result.exit_code in (0, 1, 2) and "unexpectedly" not in said and "Traceback" not in said, (taker, said)
        if path in ("too long", "too long a name", "a NUL") and taker != "a folder of models":
            assert result.exit_code, (taker, said)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["logs", "show", "dante", "--last", "9" * 30], "last"),
        (["data", "inspect", "folder", "--samples", "9" * 30], "samples"),
        (["train", "m", *SHORT, "--n-layer", "9" * 9], "this machine has"),
        (["train", "m", *SHORT, "--n-embd", "1" + "0" * 7], "this machine has"),
        (["train", "m", *SHORT, "--max-iters", "9" * 400], "max_iters"),
        (["train", "m", *SHORT, "--lr", "1e-400"], "learning_rate"),
        (["train", "m", *SHORT, "--seed", "9" * 400], "seed"),
        (["generate", "dante", "--seed", "9" * 400], "seed"),
        (["generate", "dante", "--temperature", "1e-320"], ""),
        (["generate", "dante", "--top-k", "9" * 30, "--max-new-tokens", "1"], ""),
    ],
)
@pytest.mark.usefixtures("dante")
def test_a_number_beyond_all_measure_is_told(words: list[str], said: str, mypt: Mypt) -> None:
    result = mypt(*words, ok=False)
    told = flat(result.output + result.stderr)
    assert "unexpectedly" not in told and said in told, told
    assert result.exit_code == (2 if said else result.exit_code) and result.exit_code in (0, 1, 2)


@pytest.mark.parametrize(
    "content",
    ["[" * 100_000, '{"a":' * 50_000, '{"out_dir": 5}', '{"out_dir": null}', '{"n_layer": [1]}', '{"eval_sets": 3}',
     "3", '{"init_from_model": [5]}', '{"log_file": "a\\u0000b"}', '{"max_iters": 1' + "0" * 5000 + "}",
     '{"input_file": {"a": 1}}', '{"curriculum": {"phases": [3]}}', '"\\ud800"', ""],
)  # fmt: skip
def test_a_config_file_of_anything_is_told(content: str, mypt: Mypt) -> None:
    Path("c.json").write_text(content, encoding="utf-8")
    for words in (["train", "m", *SHORT, "--config-file", "c.json"], ["config", "check", "c.json"]):
        result = mypt(*words, ok=False)
        said = flat(result.output + result.stderr)
        assert result.exit_code in (0, 2) and "unexpectedly" not in said, said
    assert result.exit_code == 2, said


@pytest.mark.parametrize("key", ["step", "exp_avg", "extra", "groups", "scaler", "nothing"])
@pytest.mark.parametrize("value", ["x", 10**30, float("nan"), None, [[]], torch.zeros(3), torch.tensor(-5)], ids=repr)
def test_odd_values_of_an_optimizer_are_told(key: str, value: object, dante: Path, mypt: Mypt) -> None:
    path = dante / "optimizer.pt"
    content = load_tensors(path)
    states = content["optimizer"]["state"]
    if key == "groups":
        content["optimizer"]["param_groups"] = value
    elif key in ("scaler", "nothing"):
        content = {**content, "scaler": value} if key == "scaler" else {"optimizer": value}
    else:
        states[next(iter(states))][key] = value
    torch.save(content, path)
    reseal(dante, read_state_step(dante))
    for words in (["verify", "dante"], ["resume", "dante", "--max-iters", "6"], ["inspect", "dante"]):
        result = mypt(*words, ok=False)
        said = flat(result.output + result.stderr)
        assert result.exit_code in (0, 1, 2) and "unexpectedly" not in said, (words, said)


def read_state_step(bundle: Path) -> int:
    return read_state(bundle).step


@pytest.mark.skipif(sys.platform == "win32", reason="named pipes of Unix")
@pytest.mark.parametrize("option", ["--csv", "--parquet"])
def test_a_pipe_that_nobody_reads_is_refused(option: str, dante: Path, mypt: Mypt) -> None:
    del dante
    os.mkfifo("pipe")
    result = mypt("logs", "export", "dante", option, "pipe", ok=False)
    assert result.exit_code == 1 and "pipe cannot be written" in flat(result.stderr)


@pytest.mark.parametrize("value", [None, "x", [], {}, True])
def test_an_odd_loss_of_an_eval_set_is_passed_over(value: object, dante: Path, mypt: Mypt) -> None:
    del dante
    log = Path("logs/train/dante_eval.jsonl")
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    for line in lines:
        line |= {"eval_x": value} if line["event"] == "eval" else {}
    log.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    looks = (["tail", "dante", "--no-follow"], ["summarize", "dante"], ["show", "dante"], ["plot", "dante"])
    for look in looks:
        result = mypt("logs", *look, ok=False)
        assert result.exit_code in (0, 2) and "unexpectedly" not in result.stderr, (look, result.stderr)


@pytest.mark.parametrize(
    "name", [float("nan"), 3, True, [], {"a": 1}, "", ".", "..", "a/b", "a\\b", "a\0b", "x" * 5000]
)
def test_a_record_whose_run_has_no_name_that_a_folder_can_have_is_told(name: object, dante: Path, mypt: Mypt) -> None:
    path = dante / "training_state.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(record | {"name": name}), encoding="utf-8")
    reseal(dante, record["step"])
    for words in (["inspect", "dante"], ["inspect"], ["verify"], ["generate", "dante"], ["resume", "dante"]):
        result = mypt(*words, ok=False)
        said = flat(result.output + result.stderr)
        assert result.exit_code in (0, 1, 2) and "unexpectedly" not in said, (words, said)
