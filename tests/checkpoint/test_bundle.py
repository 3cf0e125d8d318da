"""The record on disk: the fields of docs/files.md in their order, and never half a bundle."""

import errno
import json
import math
import os
import shutil
import sys
from collections.abc import Callable
from functools import partialmethod
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mypt import CheckpointManager, get_model_info
from mypt.checkpoint import atomic as commit
from mypt.checkpoint.atomic import recover, replacing
from mypt.checkpoint.describe import read_bundle
from mypt.checkpoint.files import read_config, read_state, write_json
from mypt.checkpoint.manager import weights_sha256
from mypt.checkpoint.overview import overview
from mypt.errors import BundleError, StorageError, UsageError
from mypt.log.messages import eval_lines
from mypt.log.run_record import read_run
from mypt.log.writer import RunLog
from mypt.run.verify import verify_bundle
from mypt.schema.files.environment import Environment
from mypt.schema.files.events import EVENTS, Eval, timestamp
from mypt.schema.files.gold import GoldState, Measure, Remeasured
from mypt.schema.files.imported import ImportedFile, ImportRecord
from mypt.schema.files.optimizer import GroupRecord, OptimizerRecord
from mypt.schema.files.state import (
    DataRecord,
    ParentRecord,
    PhaseRecord,
    Progress,
    SessionRecord,
    SourceRecord,
    TrainingState,
)
from mypt.schema.settings.training import TrainingConfig
from mypt.units import count, duration, parameters, size
from tests.conftest import TINY, Mypt, Once, fill_the_disk, flat, reseal
from tests.strategies import NAMES, WORDS, built

START_FIELDS = {
    "event": "training_start", "timestamp": "2026-02-09T14:30:00.123456",
    "config": {
        "max_iters": 75000, "start_step": 0, "learning_rate": 0.00015, "warmup_iters": 3750, "grad_clip": 1.0,
        "grad_accum_steps": 8, "batch_size": 12, "block_size": 1024, "tokens_per_step": 98304, "eval_interval": 350,
        "eval_iters": 200, "use_amp": True, "amp_dtype": "bf16", "config_file": "configs/base/750M_unified_v1.json",
        "dataset_dir": "data/unified_phase1_circuit",
    },
    "model": {
        "total_params": 699000000, "n_layer": 32, "n_head": 20, "n_embd": 1280, "pos_encoding": "rope",
        "mlp_type": "swiglu", "norm_type": "rmsnorm",
    },
}  # fmt: skip
EVAL_FIELDS = ["event", "iter", "timestamp", "elapsed_s", "tokens_processed", "progress_pct", "lr", "phase", "val_loss",
             "eval_duration_s"]  # fmt: skip
COMPLETE_FIELDS = [
    "event", "timestamp", "started_at", "total_elapsed_s", "total_elapsed_h", "total_steps", "total_tokens",
    "steps_per_sec", "tokens_per_sec", "final_train_loss", "final_val_loss", "best_val_loss", "gold_step",
    "config_file", "dataset_dir",
]  # fmt: skip
CONFIG_FIELDS = ["batch_size", "block_size", "vocab_size", "n_embd", "n_head", "n_layer", "dropout", "bias", "device",
               "pos_encoding", "mlp_type", "norm_type", "rope_theta"]  # fmt: skip


@pytest.fixture
def run(once: Once) -> Path:
    """A finished run named dante."""
    once("train", "dante", "--input-file", "input.txt", *TINY, "--max-iters", "9", "--eval-interval", "4")
    return Path("checkpoints/dante")


def test_the_log_has_the_documented_fields_in_order(run: Path) -> None:
    text = Path("logs/train/dante_eval.jsonl").read_text(encoding="utf-8")
    start, *between, complete = [json.loads(line) for line in text.splitlines()]
    evals = [e for e in between if e["event"] == "eval"]
    golds = [e for e in between if e["event"] == "gold_checkpoint"]
    assert list(golds[0])[:5] == ["event", "iter", "timestamp", "val_loss", "prev_best"]
    assert (golds[0]["prev_best"], golds[-1]["iter"]) == (None, complete["gold_step"])
    assert list(start)[:4] == list(START_FIELDS)
    for part in ("config", "model"):
        wanted = list(START_FIELDS[part])
        assert list(start[part])[: len(wanted)] == wanted
    assert start["config"]["tokens_per_step"] == 64 and run.exists()
    assert [e["iter"] for e in evals] == [4, 8, 9]
    for e in evals:
        assert list(e)[: len(EVAL_FIELDS)] == EVAL_FIELDS
        assert e["tokens_processed"] == e["iter"] * 64
        assert e["progress_pct"] == round(100 * e["iter"] / 9, 2)
        assert round(e["val_loss"], 6) == e["val_loss"] and round(e["train_loss"], 6) == e["train_loss"]
        assert 0 < e["val_loss"] < math.log(60)
    assert list(complete)[: len(COMPLETE_FIELDS)] == COMPLETE_FIELDS
    assert complete["total_steps"] == 9 and complete["total_tokens"] == 9 * 64
    assert complete["started_at"] == start["timestamp"]
    assert complete["final_val_loss"] == evals[-1]["val_loss"]
    assert complete["best_val_loss"] == min(e["val_loss"] for e in evals)
    parts = complete["training_s"] + complete["eval_s"] + complete["save_s"]
    assert complete["steps_per_sec"] == pytest.approx(9 / complete["training_s"], rel=0.02)
    assert 0 < parts <= complete["total_elapsed_s"]


def test_every_line_of_the_log_validates_against_the_schema(run: Path) -> None:
    assert run.exists()
    for line in Path("logs/train/dante_eval.jsonl").read_text(encoding="utf-8").splitlines():
        content = json.loads(line)
        event = EVENTS[content["event"]].model_validate(content)
        assert event.model_extra == {"run_id": get_model_info("dante")["training_state"]["run_id"], "attempt": 1}


def test_the_files_have_the_documented_keys_in_order(run: Path) -> None:
    config = (run / "config.json").read_text(encoding="utf-8")
    assert list(json.loads(config))[: len(CONFIG_FIELDS)] == CONFIG_FIELDS
    assert config.startswith('{\n  "batch_size": 4,\n') and config.endswith("}\n")
    assert sorted(p.name for p in run.iterdir()) == [
        "config.json", "manifest.json", "model.pt", "optimizer.pt", "tokenizer.json", "training_state.json",
    ]  # fmt: skip
    fp16 = Path("checkpoints/dante_fp16")
    assert sorted(p.name for p in fp16.iterdir()) == [
        "config.json",
        "manifest.json",
        "model.pt",
        "tokenizer.json",
        "training_state.json",
    ]


def test_a_minimal_training_state_can_be_read() -> None:
    minimal = {
        "step": 9, "optimizer_file": "optimizer.pt",
        "training_config": {"max_iters": 2000, "eval_interval": 50, "eval_iters": 200, "learning_rate": 0.0003,
                            "start_step": 0},
    }  # fmt: skip
    assert TrainingState.model_validate(minimal).training_config.max_iters == 2000


def test_get_model_info_describes_a_bundle(run: Path) -> None:
    info = get_model_info("dante")
    assert info["training_state"]["training_config"]["max_iters"] == 9
    assert info["parameters"]["total"] == CheckpointManager("dante").load().model.num_params()
    assert info["config"]["n_layer"] == 2 and info["name"] == run.name
    with pytest.raises(UsageError, match="did you mean dante"):
        get_model_info("dantes")


def test_readers_return_models_and_refuse_a_config_that_breaks_a_rule(mypt: Mypt, run: Path) -> None:
    info = read_bundle("dante")
    assert info.config.head_size == 8 and info.state.micro_batches(3) == 3
    config = json.loads((run / "config.json").read_text(encoding="utf-8"))
    (run / "config.json").write_text(json.dumps(config | {"n_embd": 385, "n_head": 6}), encoding="utf-8")
    reseal(run, 9)
    problem = "n_embd 385 is not divisible by n_head 6."
    readers: list[Callable[[], object]] = [
        lambda: read_config(run), lambda: read_bundle("dante"), lambda: get_model_info("dante"),
        lambda: CheckpointManager("dante").load(),
    ]  # fmt: skip
    for read in readers:
        with pytest.raises(BundleError, match=problem):
            read()
    assert problem in str({b.name: b.damage for b in overview(run.parent)}["dante"])
    compared = read_run("dante", run.parent)
    assert problem in compared.missing[0] and compared.results["step"] == 9
    inspected = mypt("inspect", "dante", ok=False)
    assert inspected.exit_code == 1 and problem in flat(inspected.stderr)
    assert problem in flat(mypt("compare", "dante", "dante_gold").output)


def test_console_lines_have_the_documented_form() -> None:
    event = Eval(
        iter=350, timestamp="2026-02-09T14:45:12.654321", elapsed_s=912.5, tokens_processed=34406400,
        progress_pct=0.47, lr=1.4e-5, phase="circuit_formation", val_loss=4.12351, eval_duration_s=12.3,
        train_loss=4.0, eval_general=4.23456, eval_domain=4.34567,
    )  # fmt: skip
    first, second = eval_lines(event, 75000, 52.3 * 3600)
    assert first == "step 350/75000 (0.5%) | 14:45:12 | 15m | ETA 52.3h | 34M tokens"
    wanted = "  val 4.1235 | lr 1.40e-05 | phase: circuit_formation | general 4.2346 | domain 4.3457"
    assert second == wanted + " | train 4.0000"


def test_durations_counts_and_sizes() -> None:
    assert [duration(s) for s in (4, 59, 90, 5400, 188280, 400000)] == ["4s", "59s", "2m", "1.5h", "52.3h", "4.6d"]
    assert [count(n) for n in (950, 3450, 34406400, 7372800000)] == ["950", "3.5K", "34M", "7.4B"]
    assert [size(n) for n in (50, 1411, 39549811, 1.4e9)] == ["50 B", "1.4 KB", "39.5 MB", "1.4 GB"]
    assert [parameters(n) for n in (9600, 804096, 124439808, 1557611200)] == ["9,600", "0.80M", "124.4M", "1.56B"]


def test_a_torn_last_line_of_the_log_is_closed_before_the_next_event(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "log.jsonl"
    path.parent.mkdir()
    path.write_bytes(b'{"event": "eval", "it')
    event = EVENTS["eval"].model_validate(
        dict.fromkeys(EVAL_FIELDS, 1) | {"event": "eval", "timestamp": timestamp(), "phase": "main", "train_loss": 1.0}
    )
    RunLog(path).append(event)
    torn, whole = path.read_text(encoding="utf-8").splitlines()
    assert torn == '{"event": "eval", "it' and json.loads(whole)["phase"] == "main"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A folder with two files that stands for a bundle."""
    target = tmp_path / "name"
    target.mkdir()
    (target / "a").write_text("old a")
    (target / "b").write_text("old b")
    return target


def content_of(folder: Path) -> dict[str, str]:
    return {p.name: p.read_text() for p in folder.iterdir()}


@pytest.mark.parametrize("can_exchange", [True, False])
def test_a_folder_is_replaced_whole(bundle: Path, monkeypatch: pytest.MonkeyPatch, can_exchange: bool) -> None:
    if not can_exchange:
        monkeypatch.setattr(commit, "_exchange", lambda *_: False)
    with replacing(bundle) as folder:
        (folder / "a").write_text("new a")
        assert content_of(bundle) == {"a": "old a", "b": "old b"}
    assert content_of(bundle) == {"a": "new a"}
    assert [p.name for p in bundle.parent.iterdir()] == ["name"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS])
@pytest.mark.parametrize("call", ["fsync", "rename", "mkdir", "write"])
def test_whatever_the_disk_refuses_the_old_folder_stands(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    if call == "rename":
        monkeypatch.setattr(commit, "_exchange", lambda *_: False)
    owner = os if call == "fsync" else Path
    with pytest.raises(StorageError), replacing(bundle) as folder:
        (folder / "a").write_text("new a")
        if call == "write":
            refuse()
        monkeypatch.setattr(owner, call, refuse)
        if call == "mkdir":
            (folder / "deeper").mkdir()
    monkeypatch.undo()
    assert content_of(bundle) == {"a": "old a", "b": "old b"}
    assert [p.name for p in bundle.parent.iterdir()] == ["name"]


def test_a_crash_between_two_renames_is_mended(bundle: Path) -> None:
    bundle.rename(bundle.with_name(".name.old"))
    bundle.with_name(".name.saving").touch()
    assert recover(bundle) and not recover(bundle)
    assert content_of(bundle) == {"a": "old a", "b": "old b"}


READERS: dict[str, Callable[[Path], object]] = {
    "inspect NAME": lambda path: read_bundle(str(path)).state.step,
    "inspect": lambda path: [(r.step, r.damage) for r in overview(path.parent)],
    "compare": lambda path: [(r.results["step"], r.missing) for r in [read_run(str(path), path.parent)]],
    "verify": lambda path: [(c.ok, c.found) for c in verify_bundle(path) if c.name != "step fits log"],
    "load": lambda path: weights_sha256(CheckpointManager.find(str(path)).load().model),
}


@pytest.mark.parametrize("reader", READERS)
def test_a_save_in_the_middle_of_reading_is_no_damage(
    mypt: Mypt, run: Path, monkeypatch: pytest.MonkeyPatch, reader: str
) -> None:
    """At each single look at a file in turn, another save of the run falls just before it."""
    old, new, read, look = Path("old"), Path("new"), READERS[reader], Path.is_file
    shutil.copytree(run, old)
    mypt("resume", "dante", "--max-iters", "12")
    shutil.copytree(run, new)

    def put(source: Path) -> None:
        with replacing(run) as folder:
            shutil.copytree(source, folder, dirs_exist_ok=True)

    looks = 0

    def looking(path: Path, saves_at: int) -> bool:
        nonlocal looks
        if path.parent == run and (looks := looks + 1) == saves_at:
            put(new)
        return look(path)

    found: list[object] = []
    while looks >= len(found):
        put(old)
        looks = 0
        with monkeypatch.context() as patch:
            patch.setattr(Path, "is_file", partialmethod(looking, len(found)))
            found.append(read(run))
    expected = [read(run)]
    put(new)
    expected.append(read(run))
    assert len(found) > 4 and expected[0] != expected[1] and all(f in expected for f in found)
    assert (found[0], found[2], found[-1]) == (expected[0], expected[1], expected[0])


def test_files_and_folder_are_flushed_before_the_switch(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    happened: list[str] = []
    flush, switch = commit.flush, commit._switch

    def flushing(path: Path) -> None:
        happened.append(path.name)
        flush(path)

    def switching(new: Path, target: Path, old: Path) -> None:
        happened.append("switch")
        switch(new, target, old)

    monkeypatch.setattr(commit, "flush", flushing)
    monkeypatch.setattr(commit, "_switch", switching)
    with replacing(bundle) as folder:
        (folder / "a").write_text("new a")
        (folder / "b").write_text("new b")
    assert happened[0] == bundle.parent.name  # the marker of the save
    assert sorted(happened[1:3]) == ["a", "b"]
    assert happened[3:] == [".name.writing", "switch", bundle.parent.name]


def test_a_full_disk_during_training_costs_nothing_that_was_saved(
    mypt: Mypt, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {p: p.read_bytes() for p in run.iterdir()}
    with monkeypatch.context() as patch:
        fill_the_disk(patch)
        result = mypt("resume", "dante", "--max-iters", "20", ok=False)
    assert result.exit_code == 1 and "the disk is full" in result.stderr and "Traceback" not in result.output
    assert {p: p.read_bytes() for p in before} == before


def test_too_little_room_is_refused_before_the_first_step(mypt: Mypt, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(".")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    result = mypt("train", "dante", "--input-file", "input.txt", *TINY, ok=False)
    assert result.exit_code == 1 and "1,000 are free" in result.stderr
    assert not Path("checkpoints/dante").exists() and not Path("logs").exists()


@pytest.mark.parametrize("name", [".m.old", ".m.writing", ".other.old", ".bashrc.old"])
def test_only_what_a_save_marked_as_its_own_is_tidied(name: str, mypt: Mypt, folder: Path) -> None:
    """Files and folders of the user's own that look like leftovers stay, whatever verb is called."""
    own = folder / "checkpoints" / name
    own.mkdir(parents=True)
    (own / "letter.txt").write_text("dear", encoding="utf-8")
    call = ["--input-file", "input.txt", *TINY, "--max-iters", "2"]
    mypt("inspect", ok=False)
    mypt("inspect", "m", ok=False)
    trained = mypt("train", "m", *call, ok=False)
    mypt("resume", "m", "--max-iters", "4", ok=False)
    mypt("verify", ok=False)
    assert (own / "letter.txt").read_text(encoding="utf-8") == "dear"
    assert not (own.parent / name[1:].removesuffix(".old")).is_dir() or name == ".m.old"
    if name in (".m.old", ".m.writing"):
        assert trained.exit_code == 1 and name in trained.stderr
    else:
        assert trained.exit_code == 0


def test_a_save_leaves_no_marker_and_a_failed_one_leaves_nothing(tmp_path: Path) -> None:
    bundle = tmp_path / "name"
    with replacing(bundle) as new:
        (new / "a.txt").write_text("one", encoding="utf-8")
        assert (tmp_path / ".name.saving").exists()
    with pytest.raises(ValueError, match="no"), replacing(bundle) as new:
        raise ValueError("no")
    assert [p.name for p in tmp_path.iterdir()] == ["name"]


def test_a_save_that_cannot_begin_leaves_no_marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A marker that stays would later prove too much."""
    real = Path.mkdir

    def full(path: Path, *args: object, **kwargs: object) -> None:
        if path.name == ".name.writing":
            raise OSError(errno.ENOSPC, "No space left on device")
        real(path, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(StorageError, match="the disk is full"), replacing(tmp_path / "name"):
        pytest.fail("it began")
    assert not list(tmp_path.iterdir())


st.register_type_strategy(ParentRecord, built(ParentRecord, name=NAMES))
st.register_type_strategy(ImportedFile, built(ImportedFile))
st.register_type_strategy(ImportRecord, built(ImportRecord))
for record in (
    SourceRecord,
    DataRecord,
    PhaseRecord,
    Environment,
    Measure,
    Remeasured,
    GoldState,
    Progress,
):
    st.register_type_strategy(record, built(record))
NUMBERS = st.none() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
TAGS = st.lists(st.text(st.sampled_from("aZé9-_.:/="), min_size=1, max_size=50).filter(lambda t: t[0] != "-")).map(
    tuple
)
HYPERPARAMETERS = st.dictionaries(WORDS, NUMBERS | st.booleans() | WORDS | st.lists(NUMBERS, max_size=3).map(tuple))
st.register_type_strategy(GroupRecord, built(GroupRecord, hyperparameters=HYPERPARAMETERS))
st.register_type_strategy(
    OptimizerRecord,
    built(OptimizerRecord, defaults=HYPERPARAMETERS, groups=st.lists(st.from_type(GroupRecord), max_size=2).map(tuple)),
)
st.register_type_strategy(SessionRecord, built(SessionRecord, training_config=st.just(TrainingConfig())))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(state=built(TrainingState, training_config=st.just(TrainingConfig()), name=st.none() | NAMES, tags=TAGS))
def test_every_state_that_is_written_is_read(state: TrainingState, tmp_path: Path) -> None:
    write_json(tmp_path / "training_state.json", state)
    reseal(tmp_path, state.step)
    text = (tmp_path / "training_state.json").read_bytes()
    json.loads(text, parse_constant=lambda constant: pytest.fail(f"{constant} is no JSON"))
    assert repr(read_state(tmp_path)) == repr(state)  # as words: no nan equals another


def test_a_state_of_an_earlier_version_with_a_bare_nan_is_read(tmp_path: Path) -> None:
    path = tmp_path / "training_state.json"
    write_json(path, TrainingState(step=3, training_config=TrainingConfig(), progress=Progress(last_val_loss=math.nan)))
    assert '"last_val_loss": "nan"' in path.read_text(encoding="utf-8")
    path.write_text(path.read_text(encoding="utf-8").replace('"nan"', "NaN"), encoding="utf-8")
    reseal(tmp_path, 3)
    assert math.isnan(read_state(tmp_path).progress.last_val_loss or 0.0)


@pytest.mark.skipif(sys.platform != "linux", reason="paths of bytes that are no UTF-8")
def test_a_text_whose_name_is_no_utf_8_is_trained_on_and_found_again(mypt: Mypt, once: Once) -> None:
    name = os.fsdecode(b"divina\xe0.txt")
    Path("input.txt").rename(name)
    once("train", "dante", "--input-file", name, *TINY, "--max-iters", "2")
    mypt("resume", "dante", "--max-iters", "4")
    assert "identical" in mypt("reproduce", "dante").output
    line = mypt("logs", "show", "dante", "--event", "training_start", "--json").output.splitlines()[0]
    assert json.loads(line)["config"]["input_file"] == [str(Path.cwd() / name)]
