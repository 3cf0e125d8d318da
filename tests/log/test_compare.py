"""Comparing runs: what differs, whether losses compare, which is better beyond the noise."""

import io
import json
import math
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter
from rich.console import Console

from mypt.checkpoint.changes import ValueFrom, changed_between
from mypt.checkpoint.describe import BundleInfo, FileInfo, TensorInfo
from mypt.checkpoint.lineage import Ancestor
from mypt.checkpoint.overview import BundleSummary
from mypt.cli.render.bundle import inspect_tables, lineage_tree, overview_table, state_lines, tensor_tables
from mypt.cli.render.comparison import closing_lines, tables, verdict_lines
from mypt.log.compare import Comparison, Difference, _at, _better, _matched, _verdict, compare
from mypt.log.run_record import RunRecord, read_run
from mypt.log.writer import RunLog
from mypt.schema.files.environment import Environment
from mypt.schema.files.events import Eval
from mypt.schema.files.state import DataRecord, Progress, SourceRecord, TrainingState
from mypt.schema.files.tokenizer import TokenizerFile
from mypt.schema.settings.config import GPTConfig
from mypt.schema.settings.training import TrainingConfig
from tests.conftest import TINY, Mypt, Once, flat

RUN = ["--input-file", "input.txt", *TINY, "--max-iters", "8", "--eval-interval", "4"]
HERE = Path("checkpoints")


def test_only_what_differs_is_shown_and_the_rest_is_counted(mypt: Mypt, once: Once) -> None:
    once("train", "one", *RUN)
    once("train", "two", *RUN, "--lr", "1e-3", "--n-embd", "32")
    found = compare(["one", "two"], HERE)
    assert found.verdict == "comparable"
    assert [(d.field, d.values) for d in found.architecture] == [("n_embd", [16, 32])]
    assert [(d.field, d.values) for d in found.training] == [("learning_rate", [0.01, 0.001])]
    assert found.data == [] and found.equal["architecture"]["n_layer"] == 2
    out = mypt("compare", "one", "two").output
    assert out.splitlines()[0] == "Comparable." and "learning_rate" in out and "n_layer" not in out
    assert "n_layer" in mypt("compare", "one", "two", "--all").output
    assert TypeAdapter(Comparison).validate_json(mypt("compare", "one", "two", "--json").output).verdict == "comparable"
    last = [json.loads(x) for x in Path("logs/train/one_eval.jsonl").read_text().splitlines() if '"eval"' in x][-1]
    one = found.runs[0].results
    assert (one["final_val_loss"], one["final_val_se"]) == (pytest.approx(last["val_loss"], abs=1e-6), last["val_se"])
    assert [m[0] for m in found.matched] == ["tokens", "seconds"] or [m[0] for m in found.matched] == ["tokens"]


@given(
    st.lists(
        st.tuples(st.integers(0, 6), st.fixed_dictionaries({"a": st.integers(0, 2), "b": st.booleans()})), min_size=1
    )
)
def test_what_changed_between_sessions_is_what_held_at_each_step(sessions: list[tuple[int, dict[str, Any]]]) -> None:
    """Sessions may start anywhere up to where the run is, and supersede what lies beyond."""
    course: list[int] = []
    started: list[tuple[int, dict[str, Any]]] = []
    for number, (start, facts) in enumerate(sessions):
        start = min(start, len(course))
        course = [*course[:start], *[number] * 3]
        started.append((start, {**facts, "start_step": start}))
    expected: dict[str, list[ValueFrom]] = {}
    for name in ("a", "b"):
        held = [sessions[number][1][name] for number in course]
        values = [ValueFrom(i, v) for i, v in enumerate(held) if i == 0 or held[i - 1] != v]
        expected |= {name: values} if len(values) > 1 else {}
    assert changed_between(started) == expected


def test_the_settings_of_all_sessions_are_told_where_they_changed(mypt: Mypt, once: Once) -> None:
    once("train", "one", *RUN)
    once("train", "two", *RUN, "--eval-set", "poems=input.txt")
    mypt("resume", "two", "--max-iters", "12", "--lr", "1e-3")
    mypt("resume", "two", "--max-iters", "16", "--lr", "2e-2", "--eval-set", "more=input.txt", "--eval-set", "poems=")
    mypt("resume", "two", "--max-iters", "20")
    out = flat(mypt("compare", "one", "two").output)
    assert "learning_rate 0.01 0.01, from step 8 0.001, from step 12 0.02" in out
    assert "max_iters 8 8, from step 8 12, from step 12 16, from step 16 20" in out
    assert "eval_sets none poems, from step 12 more" in out
    found = json.loads(mypt("compare", "one", "two", "--json").output)
    rates = [{"from_step": 0, "value": 0.01}, {"from_step": 8, "value": 0.001}, {"from_step": 12, "value": 0.02}]
    (told,) = (d["values"] for d in found["training"] if d["field"] == "learning_rate")
    assert told == [0.01, rates] and found["runs"][1]["changed"]["learning_rate"] == rates
    assert found["runs"][1]["training"]["learning_rate"] == 0.02 and found["runs"][0]["changed"] == {}
    log = read_run("logs/train/two_eval.jsonl", HERE)
    assert log.changed["learning_rate"] == [ValueFrom(0, 0.01), ValueFrom(8, 0.001), ValueFrom(12, 0.02)]
    assert "  learning_rate: 0.01, from step 8 0.001, from step 12 0.02" in mypt("inspect", "two").output
    assert "Changed from session to session" not in mypt("inspect", "one").output
    assert compare(["two", "two"], HERE).equal["training"]["learning_rate"] == log.changed["learning_rate"]
    assert "learning_rate 0.01, from step 8" in flat(mypt("compare", "two", "two", "--all").output)


def test_an_evaluation_setting_that_changed_on_the_way_is_remarked_upon(mypt: Mypt, once: Once) -> None:
    once("train", "one", *RUN)
    once("train", "two", *RUN, "--eval-iters", "1")
    mypt("resume", "two", "--max-iters", "12", "--eval-iters", "2")
    assert compare(["one", "two"], HERE).reasons == ["eval_iters differs, so other windows were measured."]


def test_the_figures_of_an_earlier_bundle_are_those_of_its_own_step(mypt: Mypt, once: Once) -> None:
    once("train", "m", *RUN, "--eval-set", "poems=input.txt")
    mypt("resume", "m", "--max-iters", "16", "--lr", "3.0", "--warmup-iters", "0")
    gold, last = (read_run(name, HERE) for name in ("m_gold", "m"))
    assert last.results["step"] == 16 > gold.results["step"]
    lines = map(json.loads, Path("logs/train/m_eval.jsonl").read_text(encoding="utf-8").splitlines())
    evals = {e["iter"]: e for e in lines if e["event"] == "eval"}
    for run in (gold, last):
        e = evals[run.results["step"]]
        assert run.results["final_val_loss"] == pytest.approx(e["val_loss"], abs=1e-6)
        assert (run.results["final_val_se"], run.results["eval_poems"]) == (e["val_se"], e["eval_poems"])
        assert run.results["tokens"] == e["tokens_processed"] == run.curve[-1].tokens
        assert run.results["tokens_per_sec"] == e["tokens_per_sec"]


def test_the_better_one_is_marked_only_beyond_the_noise(mypt: Mypt, once: Once) -> None:
    once("train", "good", *RUN)
    once("train", "same", *RUN, "--seed", "5")
    once("train", "bad", *RUN, "--lr", "1e-7")
    assert compare(["good", "bad"], HERE).better["best_val_loss"] == ["good"]
    close = compare(["good", "same"], HERE)
    a, b = (r.results for r in close.runs)
    noise = 2 * (a["best_val_se"] ** 2 + b["best_val_se"] ** 2) ** 0.5
    assert ("best_val_loss" in close.better) == (abs(a["best_val_loss"] - b["best_val_loss"]) > noise)
    assert "* better by more than" in mypt("compare", "good", "bad").output


def test_the_verdict_says_what_does_not_compare_and_why(mypt: Mypt, once: Once) -> None:
    once("train", "char", *RUN)
    once("train", "bpe", *RUN, "--tokenization", "bpe", "--bpe-vocab-size", "300")
    Path("other.txt").write_text(Path("input.txt").read_text(encoding="utf-8") + "x" * 400, encoding="utf-8")
    mypt("train", "other", *RUN, "--input-file", "other.txt")
    found = compare(["char", "bpe"], HERE)
    assert found.verdict == "comparable in bits per byte only" and not found.matched
    assert "Their tokenizers are not the same (char: char of" in found.reasons[0]
    assert set(found.better) <= {"best_val_bpb", "final_val_bpb"}
    assert compare(["char", "other"], HERE).reasons == ["Their validation data are not the same."]


def test_what_is_missing_is_said_and_the_rest_is_shown(mypt: Mypt, once: Once) -> None:
    for name in ("a", "b", "c"):
        once("train", name, *RUN)
    log = Path("logs/train/a_eval.jsonl")
    log.rename("alone.jsonl")
    with Path("logs/train/b_eval.jsonl").open("a") as file:
        file.write('{"event": "eval", torn')
    (Path("checkpoints/c") / "config.json").write_text("{}")
    found = compare(["a", "b", "c", "alone.jsonl"], HERE)
    assert any("is not here" in s for s in found.runs[0].missing)
    torn = Path("logs/train/b_eval.jsonl").absolute()
    assert found.runs[1].missing == [f"1 line of {torn} could not be read."]
    assert "config.json" in found.runs[2].missing[0] and found.runs[2].results["final_val_loss"]
    assert found.runs[3].results["final_val_loss"] and found.runs[3].architecture["n_layer"] == 2
    assert found.verdict == "comparable" and found.runs[3].partial
    assert mypt("compare", "a", ok=False).exit_code == 2
    assert "There is no model 'nobody'" in flat(mypt("compare", "a", "nobody", ok=False).stderr)


def older(log: Path) -> str:
    """A log as versions wrote it that did not say what they measured."""
    added = re.compile(r', "(fingerprint|masked|tokenizer_size)": ("[^"]*"|\w+)')
    return "".join(added.sub("", line) for line in log.read_text(encoding="utf-8").splitlines(keepends=True))


def test_logs_of_mypt_compare_with_their_bundles_and_without(mypt: Mypt, once: Once) -> None:
    once("train", "a", *RUN)
    once("train", "b", *RUN, "--lr", "1e-3", "--tag", "x")
    mypt("resume", "b", "--max-iters", "12", "--lr", "2e-3")
    a, b = (Path(f"logs/train/{name}_eval.jsonl") for name in "ab")
    bundles = compare(["a", "b"], HERE)
    for log in (a, b):
        Path(f"{log.stem}_alone.jsonl").write_bytes(log.read_bytes())
        Path(f"{log.stem}_old.jsonl").write_text(older(log), encoding="utf-8")
    alone = compare(["a_eval_alone.jsonl", "b_eval_alone.jsonl"], HERE)
    mixed = compare(["a", "b_eval_alone.jsonl"], HERE)
    for found in (alone, mixed):
        assert (found.verdict, found.reasons, found.better.keys()) == ("comparable", [], bundles.better.keys())
        assert found.matched == bundles.matched and found.architecture == []
        assert {d.field: d.values[1] for d in found.training} | {"warmup_iters": 0} == {
            d.field: d.values[1] for d in bundles.training} | {"warmup_iters": 0}  # fmt: skip
        assert not {d.field for d in found.data} - {"tags"}
    old = compare(["a_eval_old.jsonl", "b"], HERE)
    assert old.verdict == "not comparable"
    assert old.reasons == ["a_eval_old does not tell its validation data."]
    assert {d.field for d in old.training} == {d.field for d in mixed.training}
    a.write_text(older(a), encoding="utf-8")
    here = compare([str(a), "b"], HERE)
    assert here.verdict == "comparable" and here.runs[0].label == "a_eval" and not here.runs[0].partial
    losses = [found.runs[0].results["final_val_loss"] for found in (here, bundles)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)
    assert [(d.field, d.values) for d in here.training] == [(d.field, d.values) for d in bundles.training]


def test_a_comparison_is_drawn_and_saved_in_every_form(mypt: Mypt, once: Once, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, rate in (("slow", "1e-3"), ("fast", "1e-2")):
        once("train", name, *RUN, "--lr", rate)
    starts = {"png": b"\x89PNG", "svg": b"<?xml", "html": b"<!doctype html>", "md": b"Comparable.", "json": b"{"}
    for form, start in starts.items():
        mypt("compare", "slow", "fast", "--out", f"deep/c.{form}", "--over", "steps")
        assert Path(f"deep/c.{form}").read_bytes().startswith(start)
    assert "| learning_rate | 0.001 | 0.01 |" in Path("deep/c.md").read_text()
    drawn = mypt("compare", "slow", "fast", "--plot", "--over", "time").output
    assert "time of all sessions" in drawn and " slow" in drawn and "★" in drawn and "\x1b" not in drawn
    mypt("logs", "plot", "slow", "fast", "--out", "curves.svg")
    assert Path("curves.svg").read_text().count("<path") > 20
    alone = mypt("logs", "plot", "logs/train/slow_eval.jsonl").output
    assert "training tokens" in alone and "slow_eval train" in alone and "slow_eval val" in alone
    assert mypt("compare", "slow", "fast", "--out", "c.doc", ok=False).exit_code == 2
    assert mypt("compare", "slow", "fast", "--over", "mood", ok=False).exit_code == 2
    for form in ("md", "png"):
        refused = mypt("compare", "slow", "fast", "--out", f"input.txt/c.{form}", ok=False)
        assert refused.exit_code == 1 and "choose another place with --out" in flat(refused.stderr)
    monkeypatch.setitem(sys.modules, "plotext", None)
    assert "pip install 'mypt[plot]'" in mypt("compare", "slow", "fast", "--plot", ok=False).stderr


def test_losses_are_read_off_between_evaluations() -> None:
    curve = [(100, 4.0), (200, 3.0), (400, 2.0), (400, 1.0)]
    assert [_at(curve, t) for t in (100, 150, 300, 400)] == [4.0, 3.5, 2.5, 1.0]


def test_a_loss_that_is_no_number_beats_nothing_and_is_told(tmp_path: Path) -> None:
    def logged(name: str, *vals: float) -> str:
        path = tmp_path / f"{name}.jsonl"
        for i, val in enumerate(vals, 1):
            se = 0.01 if math.isfinite(val) else None
            RunLog(path, name).append(
                Eval(iter=i, timestamp="2026-01-01T00:00:00", elapsed_s=i, tokens_processed=i, progress_pct=1, lr=0.1,
                     phase="main", val_loss=val, train_loss=val, eval_duration_s=0.1, val_se=se)
            )  # fmt: skip
        return str(path)

    for broken in (math.nan, math.inf):
        runs = [read_run(logged(f"{broken}-{i}", *vals), tmp_path) for i, vals in enumerate(((2, 1), (2, broken)))]
        assert runs[1].results["final_val_loss"] is None and runs[1].results["best_val_loss"] == 2
        assert runs[1].missing == ["A loss was not finite at step 2."] and not runs[0].missing
        assert [p.val_loss for p in runs[1].curve] == [2, None]
        for run in runs:
            run.data = {"fingerprint": "f", "tokenizer": "char", "tokenizer_size": 3}
        verdict, _ = _verdict(runs)
        assert _better(runs, verdict).get("final_val_loss") is None
        assert [losses for _, _, losses in _matched(runs)] == [[2, 2], [2, 2]]


def shown(*tables: object, width: int) -> str:
    out = Console(width=width, file=io.StringIO(), highlight=False)
    for table in tables:
        out.print(table)
    assert isinstance(out.file, io.StringIO)
    return "\n".join(line.rstrip() for line in out.file.getvalue().splitlines()) + "\n"


def two_runs() -> Comparison:
    def run(label: str, lr: float, loss: float) -> RunRecord:
        results = {"step": 2000, "tokens": 1_536_000, "best_val_loss": loss, "best_val_se": 0.006, "seconds": 71.5,
                   "gold_step": 2000, "gold_blocks": 3}  # fmt: skip
        return RunRecord(label=label, training={"learning_rate": lr}, results=results)

    runs = [run("dante_with_a_rather_long_name", 1e-3, 1.8776), run("dante", 3e-3, 1.8321)]
    return Comparison(
        verdict="comparable", reasons=[], runs=runs, architecture=[], better={"best_val_loss": ["dante"]},
        training=[Difference(field="learning_rate", values=[1e-3, 3e-3])], equal={"architecture": {}},
        data=[Difference(field="fingerprint", values=["ab" * 32, "cd" * 32])], matched=[("tokens", 1.5e6, [1.9, 1.8])],
        evaluations=[],
    )  # fmt: skip


def one_bundle() -> BundleInfo:
    source = SourceRecord(path="/home/ada/texts/dante.txt", bytes=558_240, sha256="ab" * 32)
    data = DataRecord(
        sources=(source,), fingerprint="cd" * 32, characters=551_846, tokenization="char", train_tokens=496_661,
        val_tokens=55_185,
    )  # fmt: skip
    where = Environment(
        mypt="0.1.0", python="3.12.1", torch="2.13.0", numpy="2.4.6", tiktoken="0.14.0", platform="Linux", device="cpu",
        threads=2,
    )  # fmt: skip
    gold = Progress().gold.model_copy(update={"step": 1750})
    progress = Progress(
        tokens_processed=1_536_000, best_val_loss=1.7823, best_step=1750, last_val_loss=1.7901, last_train_loss=1.6512,
        gold=gold,
    )  # fmt: skip
    state = TrainingState(
        step=2000, optimizer_file="optimizer.pt", training_config=TrainingConfig(), progress=progress, data=data,
        environment=where, saved_at="2026-02-09T14:30:00.123456",
    )  # fmt: skip
    files = (
        FileInfo(
            "model.pt",
            119_823_113,
            "12" * 32,
            "size",
            ("bf16", "fp32"),
            (
                TensorInfo("token_embedding.weight", (50304, 384), "bf16"),
                TensorInfo("loss_scale", (), "fp32"),
            ),
        ),
        FileInfo("config.json", 294, "34" * 32, "hash", ()),
        FileInfo("manifest.json", 710, None, "hash", ()),
    )
    tokenizer = TokenizerFile(token_kind="char", vocab_size=4, chars=["a", "b", "c", "d"])
    return BundleInfo(Path("checkpoints/dante"), GPTConfig(vocab_size=4), tokenizer, state, files, "12" * 32)


@pytest.mark.parametrize("width", [80, 140])
def test_tables_fold_well(width: int) -> None:
    rows = [
        BundleSummary(name="dante_with_a_rather_long_name", parameters=817_280, step=2000, val_loss=1.8776,
                  val_bpb=2.6512, tokens_processed=1_536_000, saved_at="2026-02-09T14:30:00.123456", state="complete"),
        BundleSummary(name="large", parameters=698_880_000, step=75_000, val_loss=3.1,
                  tokens_processed=7_372_800_000, saved_at="2026-02-10T08:30:00.999888", state="running"),
        BundleSummary(name="torn", damage="checkpoints/torn/model.pt is missing."),
    ]  # fmt: skip
    line = [
        Ancestor(name="dante_base", step=1000, commands=("mypt train dante_base --input-file dante.txt --n-layer 6",)),
        Ancestor(name="dante_purgatorio", step=400, commands=("mypt train dante_purgatorio --config-file c.json",)),
    ]
    found = two_runs()
    text = shown(overview_table(rows), lineage_tree(line, 300), *tables(found, False), width=width)
    text += "\n".join([*verdict_lines(found), *closing_lines(found)]) + "\n"
    info = one_bundle()
    text += shown(*inspect_tables(info), *tensor_tables(info), *state_lines(info), width=width)
    page = Path(__file__).parent / "snapshots" / f"reading_{width}.txt"
    if os.environ.get("UPDATE_SNAPSHOTS"):
        page.write_text(text, encoding="utf-8", newline="\n")
    assert text == page.read_text(encoding="utf-8")
