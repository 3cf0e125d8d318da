"""What a user meets: settings and their sources, errors in sentences, every verb."""

import gzip
import hashlib
import http.server
import io
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from rich.console import Console

from mypt import __version__
from mypt.checkpoint.manager import CheckpointManager
from mypt.checkpoint.tensors import load_tensors
from mypt.cli.console import busy
from mypt.data.text import is_sample
from mypt.schema.base import extra_of
from mypt.schema.resolve import resolve_settings
from mypt.schema.settings.presets import PRESETS
from mypt.schema.settings.run import SECTIONS
from tests.conftest import TINY, Mypt, Once, flat, reseal, tiny_text

RUN = ["--input-file", "input.txt", *TINY, "--max-iters", "4"]


def test_every_setting_is_an_option_with_its_help_unit_and_default(mypt: Mypt) -> None:
    shown = flat(mypt("train", "--help-all").output)
    for heading, section in SECTIONS.items():
        assert heading in shown
        for name, field in section.model_fields.items():
            if extra_of(section, name)["option"]:
                assert f"--{name.replace('_', '-')}" in shown
                assert field.description and field.description.endswith(".")
    assert "--lr" in shown and "default 0.0003" in shown and "default 50304" in shown
    assert "(micro-batches; default 1)" in shown and "(layers; default 0)" in shown  # numbers, not on and off
    assert "Example: mypt train dante" in shown


def test_names_and_texts_are_shown_as_they_are(mypt: Mypt) -> None:
    assert "':memo:' cannot be the name" in mypt("inspect", ":memo:", ok=False).stderr
    texts = [json.dumps({"text": ":memo: [bold]x[/bold]" + "y" * n}) for n in range(300)]
    Path("texts.jsonl").write_text("\n".join(texts), encoding="utf-8")
    mypt("prepare", "texts.jsonl", "--out", "d", "--tokenization", "char")
    assert ":memo: [bold]x[/bold]" in mypt("data", "inspect", "d", "--width", "140").output


@pytest.mark.parametrize("terminal", [True, False])
def test_what_takes_long_is_said_in_a_terminal_alone(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    class Elapsed:
        """A timer whose second is over as soon as it starts."""

        ident = None

        def __init__(self, _: float, say: Callable[[], None]) -> None:
            self.start = say

        def cancel(self) -> None:
            """Too late."""

    shown = Console(file=io.StringIO(), force_terminal=terminal)
    monkeypatch.setattr("mypt.cli.console.Timer", Elapsed)
    monkeypatch.setattr("mypt.cli.console.error_console", lambda: shown)
    with busy("Reading the runs"):
        pass
    assert isinstance(shown.file, io.StringIO)
    assert ("Reading the runs" in shown.file.getvalue()) == terminal


def test_defaults_are_those_of_the_contract() -> None:
    wanted = {
        "batch_size": 32, "block_size": 256, "vocab_size": 50304, "n_embd": 384, "n_head": 6, "n_layer": 6,
        "dropout": 0.2, "bias": False, "tie_weights": False, "pos_encoding": "learned", "mlp_type": "gelu",
        "norm_type": "layernorm", "rope_theta": 10000.0, "device": "auto", "max_iters": 1000, "eval_interval": 50,
        "eval_iters": 200, "learning_rate": 3e-4, "lr_schedule": "cosine", "weight_decay": 0.1, "grad_clip": 1.0,
        "grad_accum_steps": 1, "save_dtype": "fp32", "amp_dtype": "bf16", "tokenization": "gpt2",
    }  # fmt: skip
    values = resolve_settings({}).values()
    assert {n: values[n] for n in wanted} == wanted


def test_command_line_over_config_file_over_preset_over_default(tmp_path: Path) -> None:
    config = tmp_path / "c.json"
    config.write_text(json.dumps({"name": "n", "description": "d", "n_layer": 3, "n_head": 6, "max_iters": 7}))
    settings = resolve_settings({"n_embd": "384", "max_iters": "1000"}, config, "tiny")
    values = settings.values()
    assert values["max_iters"] == 1000 and settings.given["max_iters"] == "command line"  # given, though the default
    assert values["n_layer"] == 3 and values["n_embd"] == 384
    assert values["block_size"] == PRESETS["tiny"].settings["block_size"]
    assert values["grad_clip"] == 1.0 and "grad_clip" not in settings.given
    assert settings.description == {"name": "n", "description": "d"}


def test_a_config_file_names_one_text_or_several(tmp_path: Path) -> None:
    for given, wanted in (("a.txt", ("a.txt",)), (["a.txt", "b.txt"], ("a.txt", "b.txt"))):
        (tmp_path / "c.json").write_text(json.dumps({"input_file": given}))
        assert resolve_settings({}, tmp_path / "c.json").data.input_file == wanted


def test_all_wrong_settings_are_told_at_once(mypt: Mypt) -> None:
    Path("c.json").write_text(json.dumps({"n_layr": 3, "dropout": 1.5}))
    result = mypt(
        "train", "x", "--config", "c.json", "--n-embd", "100", "--n-head", "6", "--max-iters", "-5", "--lr", "abc",
        "--device", "gpu", "--batch-size", "0", "--warmup-iters", "nan", ok=False,
    )  # fmt: skip
    assert result.exit_code == 2
    for part in (
        "8 settings are wrong", "n_layr is not a setting; did you mean n_layer?", "c.json: dropout 1.5",
        "n_embd 100 is not divisible by n_head 6", "max_iters -5: must be greater than 0", "learning_rate abc",
        "device gpu", "batch_size 0", "warmup_iters nan",
    ):  # fmt: skip
        assert part in result.stderr, part


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_valid(name: str) -> None:
    assert resolve_settings({}, preset=name).preset == name


def test_presets_are_listed_with_their_costs(mypt: Mypt) -> None:
    shown = mypt("presets").output
    assert all(name in shown for name in PRESETS) and "124." in shown
    listed = {p["name"]: p for p in json.loads(mypt("presets", "--json").output)}
    assert listed["gpt2-124m"]["parameters"] == 124439808 + (50304 - 50257) * 768
    assert "did you mean tiny" in mypt("train", "--preset", "tinny", ok=False).stderr


BAD_INPUTS = {
    "missing": ("gone.txt", "gone.txt does not exist"),
    "folder": (".", "is a folder"),
    "empty": ("empty.txt", "is empty"),
    "latin1": ("latin1.txt", "byte 0xe9 at offset 3"),
    "not gzip": ("fake.gz", "is named as gz and is none"),
    "cut gzip": ("cut.gz", "cannot be unpacked as a whole"),
    "too short": ("short.txt", "too short for one window"),
    "unreachable": ("http://127.0.0.1:9/x", "cannot be fetched"),
}


@pytest.mark.parametrize("case", BAD_INPUTS)
def test_bad_input_is_one_sentence_and_touches_nothing(case: str, mypt: Mypt, folder: Path) -> None:
    (folder / "empty.txt").write_text(" \n")
    (folder / "latin1.txt").write_bytes(b"caf\xe9 nero")
    (folder / "fake.gz").write_text("plain")
    (folder / "cut.gz").write_bytes(gzip.compress(b"text " * 1000)[:-20])
    (folder / "short.txt").write_text("nel mezzo")
    before = sorted(folder.rglob("*"))
    path, sentence = BAD_INPUTS[case]
    result = mypt("train", "x", "--input-file", path, *TINY, ok=False)
    assert result.exit_code == 2, result.output
    assert sentence in result.stderr and result.stderr.startswith("Error: ")
    assert len(result.stderr.strip().splitlines()) == 2 and "Traceback" not in result.stderr
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("name", ["a/b", "..", "../x", "a\\b", "", " x", ".hidden", "x" * 200, "a:b", "a\nb"])
def test_a_name_that_is_no_folder_is_refused(name: str, mypt: Mypt, folder: Path) -> None:
    result = mypt("train", name, *RUN, ok=False)
    assert result.exit_code == 2 and "cannot be the name of a model" in result.stderr
    assert [p.name for p in folder.iterdir()] == ["input.txt"]


def test_a_name_with_a_blank_and_an_accent_works(mypt: Mypt, once: Once) -> None:
    once("train", "la città", *RUN)
    assert "Last recorded training step: 4" in mypt("inspect", "la città").output
    assert mypt("generate", "la città", "--max-new-tokens", "5").output


def test_unknown_options_and_verbs_suggest_the_nearest(mypt: Mypt) -> None:
    result = mypt("train", "--n-layr", "3", ok=False)
    assert result.exit_code == 2 and "--n-layer" in result.stderr
    result = mypt("trian", ok=False)
    assert result.exit_code == 2 and "train" in result.stderr
    result = mypt("train", "a", "--model-name", "b", ok=False)
    assert result.exit_code == 2


def test_a_device_that_is_not_here_is_refused(mypt: Mypt) -> None:
    result = mypt("train", "x", *RUN, "--device", "cuda:7", ok=False)
    assert result.exit_code == 2 and "cuda:7 is not available" in result.stderr


DAMAGE = {
    "missing": lambda p: p.unlink(),
    "cut": lambda p: p.write_bytes(p.read_bytes()[: p.stat().st_size // 2]),
    "empty": lambda p: p.write_bytes(b""),
    "noise": lambda p: p.write_bytes(b"\x80\x04noise" * 50),
}


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize(
    "file", ["model.pt", "config.json", "tokenizer.json", "training_state.json", "optimizer.pt", "manifest.json"]
)
def test_a_damaged_bundle_is_named_and_left_alone(file: str, how: str, mypt: Mypt, once: Once) -> None:
    once("train", "dante", *RUN)
    DAMAGE[how](Path("checkpoints/dante") / file)
    before = {p: p.read_bytes() for p in Path("checkpoints").rglob("*") if p.is_file()}
    calls = [["resume", "dante", "--max-iters", "8"], ["train", "dante", *RUN[:-1], "8"], ["inspect", "dante"]]
    calls += [["generate", "dante"], ["export-fp16", "dante"]] if file not in ("optimizer.pt",) else []
    for call in calls:
        result = mypt(*call, ok=False)
        assert result.exit_code in (1, 2), (call, result.output)
        assert file in result.stderr and "Traceback" not in result.stderr, (call, result.stderr)
    assert {p: p.read_bytes() for p in Path("checkpoints").rglob("*") if p.is_file()} == before


def test_several_files_gz_and_addresses_are_read(mypt: Mypt, folder: Path) -> None:
    (folder / "b.txt.gz").write_bytes(gzip.compress(tiny_text().encode()))
    handler = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/input.txt"
        mypt("train", "x", *RUN, "--input-file", "b.txt.gz", "--input-file", address)
        server.shutdown()
    data = json.loads((folder / "checkpoints/x/training_state.json").read_text(encoding="utf-8"))["data"]
    assert data["characters"] == 3 * len(tiny_text()) and data["documents"] == 3
    assert [s["path"] for s in data["sources"]] == [str(folder / "input.txt"), str(folder / "b.txt.gz"), address]


def test_without_input_the_sample_is_used_and_said(mypt: Mypt) -> None:
    out = mypt("train", "x", *TINY, "--max-iters", "2").output
    assert "No --input-file was given, so this trains on the sample: the language reference of Python" in out
    state = CheckpointManager("x").load().state
    assert state.data is not None and is_sample(state.data.sources[0].path)
    mypt("resume", "x", "--max-iters", "4")


def test_bpe_is_trained_on_the_input(mypt: Mypt, once: Once) -> None:
    options = ["--tokenization", "bpe", "--bpe-vocab-size", "280", "--block-size", "8"]
    once("train", "x", *RUN, *options)
    assert CheckpointManager("x").load().model.config.vocab_size == 280
    mypt("train", "x", *RUN[:-1], "6", *options)
    result = mypt("train", "x", *RUN, *options, "--bpe-vocab-size", "300", ok=False)
    assert "bpe_vocab_size: recorded 280, given 300" in result.stderr


def test_a_vocabulary_smaller_than_the_tokenizer_is_refused(mypt: Mypt) -> None:
    result = mypt("train", "x", *RUN, "--vocab-size", "5", ok=False)
    assert result.exit_code == 2 and "vocab_size 5 is smaller" in result.stderr
    mypt("train", "x", *RUN, "--vocab-size", "64")


def test_a_dry_run_times_a_step_and_writes_nothing(mypt: Mypt, folder: Path) -> None:
    out = flat(mypt("train", "x", *RUN, "--dry-run").output)
    assert re.search(r"training at \d+ ms a step \(measured\)", out) and "Dry run: nothing was written." in out
    assert "coverage the run sees the training text" in out and "needed" in out and "free" in out
    assert [p.name for p in folder.iterdir()] == ["input.txt"]
    mypt("train", "x", *RUN)
    before = sorted((p, p.read_bytes()) for p in folder.rglob("*") if p.is_file())
    mypt("train", "x", *RUN, "--fresh", "--dry-run")
    mypt("train", "x", *RUN[:-1], "9", "--dry-run")
    assert sorted((p, p.read_bytes()) for p in folder.rglob("*") if p.is_file()) == before


def test_the_closing_lines_of_the_spec(mypt: Mypt) -> None:
    lines = mypt("train", "dante", *RUN).output.splitlines()
    at = lines.index("Training finished!")
    assert lines[at + 1 : at + 3] == [
        "  Resume training from: checkpoints/dante",
        "  Deploy inference from: checkpoints/dante_fp16",
    ]


def test_inspect_shows_the_lines_of_the_spec(mypt: Mypt, once: Once) -> None:
    once("train", "dante", *RUN)
    out = mypt("inspect", "dante").output
    at = out.index("=== TRAINING STATE ===")
    wanted = (
        "=== TRAINING STATE ===\nLast recorded training step: 4\nTraining configuration:\n  max_iters: 4\n"
        "  eval_interval: 50\n  eval_iters: 2\n  learning_rate: 0.01\n  start_step: 0\n"
    )
    assert out[at : at + len(wanted)] == wanted
    for part in ("pos_encoding", "token embedding", "total", "char, ", "model.pt", "fp32", "fingerprint"):
        assert part in out
    info = json.loads(mypt("inspect", "dante", "--json").output)
    weights = Path("checkpoints/dante/model.pt").read_bytes()
    tensors = {t["name"]: tuple(t["shape"]) for t in info["files"][0].pop("tensors")}
    assert tensors == {name: tuple(w.shape) for name, w in load_tensors(Path("checkpoints/dante/model.pt")).items()}
    assert "Tensors of optimizer.pt" in mypt("inspect", "dante", "--tensors").output
    assert info["files"][0] == {"name": "model.pt", "bytes": len(weights), "dtypes": ["fp32"],
                                "checked": "hash", "sha256": hashlib.sha256(weights).hexdigest()}  # fmt: skip
    assert json.loads(mypt("inspect", "dante_fp16", "--json").output)["files"][0]["dtypes"] == ["fp16"]
    assert mypt("inspect", "checkpoints/dante").output == out


def test_a_state_of_another_step_than_the_bundle_is_told(mypt: Mypt, once: Once) -> None:
    once("train", "dante", *RUN)
    reseal(Path("checkpoints/dante"), 9)
    for call in (["inspect", "dante"], ["verify", "dante"]):
        assert "is of step 9 and the training state of step 4" in flat(
            mypt(*call, ok=False).output + mypt(*call, ok=False).stderr
        )


def test_the_version_is_printed(mypt: Mypt) -> None:
    assert mypt("--version").output == f"mypt {__version__}\n"


def test_inspect_alone_shows_every_bundle_and_which_is_damaged(mypt: Mypt) -> None:
    assert mypt("inspect", ok=False).exit_code == 2
    mypt("train", "small", *RUN)
    mypt("train", "large", *RUN, "--n-embd", "32")
    path = Path("checkpoints/small_fp16/model.pt")
    path.write_bytes(path.read_bytes()[:-9])
    lines = mypt("inspect", "--all", "--sort", "parameters").output.splitlines()
    names = [line.split()[0] for line in lines if line.startswith((" small", " large"))]
    assert names == ["large", "large_fp16", "large_gold", "small", "small_fp16", "small_gold"]
    assert any("small_fp16" in x and "damaged" in x for x in lines) and lines[-1].startswith(str(path))
    found = json.loads(mypt("inspect", "--json").output)
    assert found["schema_version"] == 1 and [b["name"] for b in found["bundles"]][:1] == ["large"]
    assert all((b["damage"] is None) == (b["name"] != "small_fp16") for b in found["bundles"])
    assert mypt("inspect", "--sort", "beauty", ok=False).exit_code == 2


def test_generate_streams_the_same_text_for_the_same_seed(mypt: Mypt, once: Once) -> None:
    once("train", "dante", *RUN)
    call = ["generate", "dante", "--prompt", "nel mezzo", "--max-new-tokens", "40", "--temperature", "1"]
    first = mypt(*call).output
    assert first.startswith("nel mezzo") and len(first) == len("nel mezzo") + 41
    assert mypt(*call).output == first != mypt(*call, "--seed", "2").output
    assert mypt("generate", "dante_fp16", "--max-new-tokens", "3").output
    result = mypt("generate", "dante", "--prompt", "Ж", ok=False)
    assert result.exit_code == 2 and "'Ж'" in result.stderr
    result = mypt("generate", "dante", "--temperature", "-1", "--top-p", "2", ok=False)
    assert result.exit_code == 2 and "2 settings are wrong" in result.stderr


def test_export_fp16_rounds_measures_and_refuses_what_does_not_fit(mypt: Mypt, once: Once, folder: Path) -> None:
    once("train", "dante", *RUN)
    at_the_end = load_tensors(folder / "checkpoints/dante_fp16/model.pt")
    out = flat(mypt("export-fp16", "dante", "--out", "light").output)
    assert re.search(r"weights: .* before, .* after largest rounding error: \S+ in \S+ val loss: \d", out)
    exact, light = (load_tensors(folder / p / "model.pt") for p in ("checkpoints/dante", "light"))
    assert exact.keys() == light.keys() == at_the_end.keys()
    for name, weight in exact.items():
        assert light[name].dtype == torch.float16 and torch.equal(light[name], weight.half())
        assert torch.equal(light[name], at_the_end[name])
    state = CheckpointManager("light", ".").load().state
    assert (state.optimizer_file, state.exact_resume, state.step) == (None, False, 4)
    refused = mypt("resume", "dante_fp16", "--max-iters", "9", ok=False)
    assert refused.exit_code == 1 and "holds no optimizer state" in refused.stderr
    refused = mypt("export-fp16", "./light", "--out", "checkpoints/dante", ok=False)
    assert refused.exit_code == 2 and "training goes on from" in refused.stderr

    exact["blocks.1.mlp.up.weight"][0, 0] = 1e6
    torch.save(exact, folder / "checkpoints/dante/model.pt")
    reseal(folder / "checkpoints/dante", 4)
    refused = mypt("export-fp16", "dante", ok=False)
    assert refused.exit_code == 1 and "blocks.1.mlp.up.weight holds 1e+06" in refused.stderr


def test_an_export_without_its_text_still_works_and_says_what_is_missing(mypt: Mypt, once: Once) -> None:
    once("train", "dante", *RUN)
    Path("input.txt").unlink()
    out = mypt("export-fp16", "dante").output
    assert "The val loss is not measured" in out and "largest rounding error" in out


def test_weights_that_do_not_fit_the_config_are_refused(mypt: Mypt, once: Once) -> None:
    once("train", "dante", *RUN)
    path = Path("checkpoints/dante/config.json")
    path.write_text(path.read_text().replace('"n_embd": 16', '"n_embd": 32'))
    result = mypt("generate", "dante", ok=False)
    assert (result.exit_code == 1 and "was saved with" in result.stderr) or "was changed" in result.stderr
    reseal(path.parent, 4)
    result = mypt("generate", "dante", ok=False)
    assert result.exit_code == 1 and "does not fit config.json" in result.stderr and "shape" in result.stderr


def test_a_traceback_comes_with_debug_only(mypt: Mypt) -> None:
    result = mypt("inspect", "nobody", "--debug", ok=False)
    assert type(result.exception).__name__ == "UsageError"


def test_a_read_only_place_is_told(mypt: Mypt) -> None:
    Path("checkpoints").write_text("a file in the way")
    result = mypt("train", "x", *RUN, ok=False)
    assert result.exit_code == 1 and "checkpoints" in result.stderr and "Traceback" not in result.stderr


def test_piped_output_is_plain_and_utf8(folder: Path) -> None:
    env = {**os.environ, "PYTHONIOENCODING": "ascii", "COLUMNS": "80"}
    call = [sys.executable, "-m", "mypt", "train", "x", *RUN]
    done = subprocess.run(call, capture_output=True, cwd=folder, env=env)
    assert done.returncode == 0, done.stderr
    text = done.stdout.decode("utf-8")
    assert "\x1b" not in text and "Training finished!" in text
    told, _, _ = text.partition("Next:\n")  # calls to be copied are never folded
    assert all(len(line) <= 80 for line in told.splitlines())
    assert re.search(r"^step 4/4 \(100\.0%\) \| \d\d:\d\d:\d\d \| \d+s \| ETA 0s \| 256 tokens$", text, re.M)
    assert re.search(r"^  val \d\.\d{4} \| lr \d\.\d\de-\d\d \| phase: main \| train \d\.\d{4}$", text, re.M)
