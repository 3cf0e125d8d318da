"""Shards of every format, the order in which they are read, further eval sets, phases, other models to start from."""

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.checkpoint import checkpoint

from mypt import GPT, GPTConfig, GPTDataLoader, Tokenizer
from mypt.checkpoint.manager import CheckpointManager, weights_sha256
from mypt.data.loader import LoaderOptions
from mypt.data.sampling import epoch_starts, shuffled
from mypt.data.shards import open_shards
from mypt.errors import ConfigError, ConflictError, InputError
from mypt.log.reader import SkippedLines, read_events
from mypt.log.replay import Replay
from mypt.model.losses import next_token_loss
from mypt.schema.files.events import EVENTS
from mypt.schema.files.state import TrainingState
from mypt.schema.settings.training import TrainingConfig
from mypt.train.benchmark_step import Timing
from mypt.train.device.async_check import StepResult
from mypt.train.device.precision import Precision
from mypt.train.evaluation.evaluate import evaluate
from mypt.train.observer import Observer
from mypt.train.run_data import RunData
from mypt.train.session import assemble
from mypt.train.step import Stepper
from tests.conftest import TINY, Mypt, flat, stopping_at, tiny_text

MODEL = ["--n-layer", "2", "--n-head", "2", "--n-embd", "16", "--block-size", "16", "--batch-size", "4"]
TRAIN = [*MODEL, "--eval-iters", "2", "--learning-rate", "1e-2", "--eval-interval", "4", "--max-iters", "8"]
GPT2 = Tokenizer.gpt2()


def config_of(**changes: object) -> GPTConfig:
    shape = {"batch_size": 3, "block_size": 8, "n_embd": 16, "n_head": 2, "n_layer": 1, "dropout": 0.0}
    return GPTConfig.model_validate({"device": "cpu", **shape, **changes})


def nanogpt(folder: Path, train: int = 500, val: int = 200, top: int = 100) -> Path:
    """A dataset as nanoGPT's scripts leave it: uint16, no header."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(7)
    for name, tokens in (("train", train), ("val", val)):
        rng.integers(0, top, tokens).astype("<u2").tofile(folder / f"{name}.bin")
    return folder


def llmc(folder: Path, sizes: dict[str, int]) -> Path:
    """Shards as llm.c's scripts write them: 256 int32 of header, then uint16."""
    folder.mkdir(parents=True, exist_ok=True)
    start = 0
    for name, tokens in sizes.items():
        header = np.zeros(256, dtype="<i4")
        header[:3] = 20240520, 1, tokens
        ids = (np.arange(start, start + tokens) % 50257).astype("<u2")
        (folder / name).write_bytes(header.tobytes() + ids.tobytes())
        start += tokens
    return folder


@given(st.integers(1, 3000), st.integers(0, 2**40))
def test_shuffling_is_a_permutation(size: int, seed: int) -> None:
    assert sorted(shuffled(np.arange(size), size, (seed,)).tolist()) == list(range(size))


@given(st.integers(20, 400), st.integers(1, 17), st.integers(1, 9), st.integers(0, 1000))
def test_an_epoch_sees_every_token_once(tokens: int, block_size: int, batch: int, seed: int) -> None:
    """Every token but the first is a target; only those of the last window, moved back, can come twice."""
    windows = -(-(tokens - 1) // block_size)
    starts = np.concatenate([epoch_starts(seed, i, batch, tokens, block_size) for i in range(-(-3 * windows // batch))])
    for epoch in range(3):
        own = starts[epoch * windows : (epoch + 1) * windows]
        seen = np.bincount((own[:, None] + 1 + np.arange(block_size)).ravel(), minlength=tokens)
        assert seen[0] == 0 and (seen[1:] >= 1).all() and seen.sum() - (tokens - 1) < block_size
    if windows > 20:
        assert not np.array_equal(starts[:windows], starts[windows : 2 * windows])
        assert not np.array_equal(starts[:windows], np.sort(starts[:windows]))


def test_windows_run_across_the_borders_of_shards(tmp_path: Path) -> None:
    folder = llmc(
        tmp_path, {"x_train_000001.bin": 33, "x_train_000002.bin": 5, "x_train_000003.bin": 62, "x_val_000000.bin": 40}
    )
    shards = open_shards(folder)
    assert shards.format == "llm.c" and {s: len(t) for s, t in shards.splits.items()} == {"train": 100, "val": 40}
    windows = shards.splits["train"].windows(np.array([0, 28, 30, 33, 91]), 9)
    assert windows.tolist() == [list(range(s, s + 9)) for s in (0, 28, 30, 33, 91)]
    assert shards.splits["train"].locate(37) == (str(folder / "x_train_000002.bin"), 4)
    loader = GPTDataLoader(config_of(vocab_size=50304), GPT2, dataset_dir=folder)
    seen = {int(t) for i in range(5) for t in loader.batch(i)[1].flatten()}  # 13 windows are one epoch
    assert seen >= set(range(1, 100)) and loader.record.sampling == "epoch"
    only = GPTDataLoader(config_of(vocab_size=50304), GPT2, dataset_dir=folder, eval_only=True)
    assert only.record.train_tokens == 0 and only.record.val_tokens == 40


def test_nanogpts_files_are_read_as_they_are(tmp_path: Path) -> None:
    folder = nanogpt(tmp_path / "gpt2")
    shards = open_shards(folder)
    assert shards.format == "plain" and shards.tokenizer.token_kind == "gpt2"
    assert shards.splits["train"].windows(np.array([3]), 5).tolist() == [
        np.fromfile(folder / "train.bin", "<u2")[3:8].tolist()
    ]
    chars = nanogpt(tmp_path / "char", top=3)
    meta = {"vocab_size": 3, "itos": {0: "\n", 1: "a", 2: "é"}, "stoi": {"\n": 0, "a": 1, "é": 2}}
    (chars / "meta.pkl").write_bytes(pickle.dumps(meta))
    assert open_shards(chars).tokenizer.chars == ("\n", "a", "é")
    (chars / "meta.pkl").write_bytes(pickle.dumps(Path("x")))  # would call a constructor
    with pytest.raises(InputError, match="names pathlib"):
        open_shards(chars)


def test_ids_outside_the_vocabulary_are_found_before_step_0(mypt: Mypt) -> None:
    folder = nanogpt(Path("data"))
    ids = np.fromfile(folder / "train.bin", "<u2")
    ids[321] = 60_000
    ids.tofile(folder / "train.bin")
    result = mypt("train", "x", "--dataset-dir", "data", *TRAIN, ok=False)
    assert result.exit_code == 2 and not Path("checkpoints/x").exists()
    where = f"Token 60000 at offset 321 of {folder.absolute() / 'train.bin'} is outside the vocabulary of 50,304."
    assert where in flat(result.stderr)


def test_a_shard_that_was_changed_after_its_metadata_is_read_through(mypt: Mypt) -> None:
    folder = masked_dataset(Path("data"))
    assert open_shards(folder).max_id == 89
    shard = folder / "train/00000.bin"
    shard.write_bytes(shard.read_bytes()[:-2] + b"\xff\xff")
    result = mypt("train", "x", "--dataset-dir", "data", *TRAIN, ok=False)
    assert result.exit_code == 2 and "Token 65535 at offset 599 of" in flat(result.stderr)


def test_shards_that_are_not_whole_are_refused(tmp_path: Path) -> None:
    folder = llmc(tmp_path, {"train.bin": 50, "val.bin": 50})
    with (folder / "train.bin").open("r+b") as file:
        file.truncate(1024 + 99)
    with pytest.raises(InputError, match=r"train\.bin is not whole: it has 1,123 bytes and 50 tokens need 1,124"):
        open_shards(folder)
    with pytest.raises(InputError, match="does not exist"):
        open_shards(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="has no tokens for train and val"):
        open_shards(tmp_path / "empty")


def test_a_dataset_of_another_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConflictError, match="made with another tokenizer"):
        GPTDataLoader(config_of(vocab_size=99), Tokenizer.char("abc"), dataset_dir=nanogpt(tmp_path))


def test_a_tokenization_that_was_asked_for_is_not_passed_over(mypt: Mypt) -> None:
    nanogpt(Path("data"))
    result = mypt("train", "x", "--dataset-dir", "data", "--tokenization", "char", *TRAIN, ok=False)
    said = flat(result.stderr)
    assert result.exit_code == 2 and "tokenization char was asked for, but data was made with gpt2." in said
    mypt("train", "x", "--dataset-dir", "data", "--preset", "tiny", *TRAIN)  # that of a preset was not asked for


def events(name: str) -> list[dict[str, Any]]:
    passed = SkippedLines()
    found = list(read_events(Path(f"logs/train/{name}_eval.jsonl"), passed))
    assert not passed.total
    for event in found:
        EVENTS[event["event"]].model_validate(event)
    return found


def weights_of(name: str) -> str:
    return weights_sha256(CheckpointManager(name).load().model)


def test_eval_sets_are_measured_logged_and_shown(mypt: Mypt) -> None:
    nanogpt(Path("data"))
    nanogpt(Path("general"), top=50)
    Path("code.txt").write_text("def f(x):\n    return x\n" * 60, encoding="utf-8")
    call = ["--dataset-dir", "data", "--eval-dataset-dir", "general", "--eval-set", "code=code.txt", *TRAIN]
    out = mypt("train", "x", *call).output
    first = next(e for e in events("x") if e["event"] == "eval")
    keys = list(first)
    assert keys[keys.index("phase") : keys.index("phase") + 5] == [
        "phase", "val_loss", "eval_general", "eval_code", "eval_duration_s",
    ]  # fmt: skip
    assert {"train_loss", "val_se", "val_bpb", "train_se", "general_se", "code_se", "general_bpb", "code_bpb"} < set(
        keys
    )
    line = next(x for x in out.splitlines() if x.startswith("  val "))
    assert f"| phase: main | general {first['eval_general']:.4f} | code {first['eval_code']:.4f} | train" in line
    state = json.loads(Path("checkpoints/x/training_state.json").read_text())
    assert set(state["eval_sets"]) == {"general", "code"} and state["progress"]["gold"]["baseline"]["code"] > 0
    mypt("train", "alone", "--dataset-dir", "data", *TRAIN)  # eval sets leave no trace in the training
    assert weights_sha256(CheckpointManager("alone").load().model) == weights_sha256(
        CheckpointManager("x").load().model
    )
    mypt("resume", "x", "--max-iters", "12")
    assert "eval_code" in [e for e in events("x") if e["event"] == "eval"][-1]
    out = mypt("resume", "x", "--max-iters", "16", "--eval-set", "more=code.txt").output
    assert "eval_sets" in out and "changes what becomes gold" in flat(out)
    last = [e for e in events("x") if e["event"] == "eval"][-1]
    assert {"eval_more", "eval_code", "eval_general"} <= last.keys()  # a call changes the sets that it names
    mypt("resume", "x", "--max-iters", "18", "--eval-set", "code=")
    last = [e for e in events("x") if e["event"] == "eval"][-1]
    assert "eval_more" in last and "eval_code" not in last
    assert mypt("reproduce", "x").output.splitlines()[-1].startswith("identical: all 18 steps and the weights")
    for bad in ("val=code.txt", "a b=code.txt", "code.txt"):
        assert mypt("train", "y", "--dataset-dir", "data", "--eval-set", bad, *TRAIN, ok=False).exit_code == 2


def curriculum(folder: Path, **changes: object) -> Path:
    config = {
        "n_layer": 2, "n_head": 2, "n_embd": 16, "block_size": 16, "batch_size": 4, "eval_iters": 2,
        "learning_rate": 1e-2, "eval_interval": 4, "max_iters": 12, "dataset_dir": "first",
        "curriculum": {"phases": [
            {"name": "forming", "dataset_dir": "first", "until_iter": 6, "description": "the beginning"},
            {"name": "balanced", "dataset_dir": "second", "until_iter": 12},
        ]},
        **changes,
    }  # fmt: skip
    path = folder / "config.json"
    path.write_text(json.dumps(config), encoding="utf-8")
    return path


def test_a_curriculum_switches_at_its_border_and_resumes_in_the_right_phase(mypt: Mypt) -> None:
    nanogpt(Path("first"), top=60)
    nanogpt(Path("second"), top=90)
    config = curriculum(Path())
    out = mypt("train", "one", "--config-file", config).output
    found = events("one")
    (switch,) = [e for e in found if e["event"] == "phase_switch"]
    assert list(switch)[:6] == ["event", "iter", "timestamp", "elapsed_s", "tokens_processed", "new_phase"]
    assert (switch["iter"], switch["new_phase"], switch["tokens_processed"]) == (6, "balanced", 6 * 64)
    assert [e["phase"] for e in found if e["event"] == "eval"] == ["forming", "balanced", "balanced"]
    assert "| phase: balanced |" in out
    for stop in (4, 6, 8):  # before, at and after the border
        name = f"stop{stop}"
        with stopping_at(stop):
            mypt("train", name, "--config-file", config)
        assert CheckpointManager(name).load().state.step == stop
        mypt("resume", name)
        assert weights_of(name) == weights_of("one")
        log = Path(f"logs/train/{name}_eval.jsonl")
        live = Replay(log).live()
        assert [e["iter"] for e in live if e["event"] == "phase_switch"] == [6]
    assert mypt("reproduce", "stop6").output.splitlines()[-1].startswith("identical: all 12 steps and the weights")
    mypt("train", "one", "--config-file", config, "--max-iters", "12")  # the same call contradicts nothing


def test_a_step_that_diverges_in_a_later_phase_names_the_bundle_that_is_there(
    mypt: Mypt, monkeypatch: pytest.MonkeyPatch
) -> None:
    nanogpt(Path("first"), top=60)
    nanogpt(Path("second"), top=90)
    take_step = Stepper.step

    def diverging_at_6(stepper: Stepper, at: int) -> list[StepResult]:  # where the phase begins
        return [replace(result, finite=at != 6) for result in take_step(stepper, at)]

    monkeypatch.setattr(Stepper, "step", diverging_at_6)
    result = mypt("train", "one", "--config-file", curriculum(Path()), ok=False)
    assert "Step 7 has a loss of" in result.stderr
    assert "the last good bundle is checkpoints/one at step 4" in result.stderr


@pytest.mark.parametrize(
    ("phases", "complaint"),
    [
        ([("a", 6), ("b", 6), ("c", 12)], "phase b ends at 6, but the phase before it ends at 6"),
        ([("a", 8), ("b", 6), ("c", 12)], "phase b ends at 6, but the phase before it ends at 8"),
        ([("a", 6), ("b", 10)], "curriculum leaves a gap: its last phase ends at 10, before max_iters 12"),
        ([("a", None), ("b", 12)], "phase a has no until_iter"),
        ([("a", 6), ("a", 12)], "two phases have the same name"),
        ([], "curriculum"),
    ],
)
def test_phases_that_do_not_follow_one_another_are_refused(
    mypt: Mypt, phases: list[tuple[str, int | None]], complaint: str
) -> None:
    planned = [{"name": n, "dataset_dir": "first", **({"until_iter": u} if u else {})} for n, u in phases]
    config = curriculum(Path(), curriculum={"phases": planned})
    result = mypt("train", "x", "--config-file", config, ok=False)
    assert result.exit_code == 2 and complaint in flat(result.stderr)


def test_a_resume_with_another_accumulation_takes_the_next_batches(mypt: Mypt, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left out of an epoch and nothing comes twice; the curriculum's phases count from their own start."""
    nanogpt(Path("first"))
    nanogpt(Path("second"))
    used: list[tuple[str, int]] = []
    real = GPTDataLoader.batch

    def batch(loader: GPTDataLoader, index: int) -> Any:
        used.append((Path(loader.record.dataset_dir or "").name, index))
        return real(loader, index)

    monkeypatch.setattr(GPTDataLoader, "batch", batch)
    monkeypatch.setattr("mypt.train.planning.time_step", lambda _: Timing(0.01, 0.01, None))
    mypt("train", "x", "--config-file", curriculum(Path()), "--max-iters", "12", "--max-minutes", "600")
    assert used == [("first", i) for i in range(6)] + [("second", i) for i in range(6)]
    used.clear()
    mypt("train", "y", "--dataset-dir", "first", *TRAIN, "--max-iters", "4")
    mypt("resume", "y", "--grad-accum-steps", "3", "--max-iters", "6")
    mypt("resume", "y", "--grad-accum-steps", "1", "--max-iters", "8")
    assert used == [("first", i) for i in range(4 + 2 * 3 + 2)]


def test_the_number_of_a_micro_batch_counts_through_all_sessions() -> None:
    from mypt.schema.files.environment import Environment
    from mypt.schema.files.state import SessionRecord, TrainingState
    from mypt.schema.settings.training import TrainingConfig

    here = Environment(mypt="", python="", torch="", numpy="", tiktoken="", platform="", device="cpu", threads=1)
    sessions = tuple(
        SessionRecord(start_step=s, training_config=TrainingConfig(grad_accum_steps=a), environment=here, started_at="")
        for s, a in ((0, 2), (5, 3), (9, 1))
    )
    state = TrainingState(step=9, training_config=sessions[-1].training_config, sessions=sessions)
    assert [state.micro_batches(s) for s in (0, 1, 5, 6, 9, 12)] == [0, 2, 10, 13, 22, 25]


def test_a_run_that_starts_from_another_model_keeps_its_lineage(mypt: Mypt) -> None:
    mypt("train", "base", "--input-file", "input.txt", *TINY, "--max-iters", "6")
    base = CheckpointManager("base").load()
    Path("new.txt").write_text(tiny_text()[::-1], encoding="utf-8")
    call = ["--input-file", "new.txt", "--init-from-model", "base", "--max-iters", "4", "--eval-iters", "2"]
    out = mypt("train", "tuned", *call, "--freeze-layers", "1", "--freeze-embeddings", "--dropout", "0.1").output
    assert "Starting from base at step 6." in out
    tuned = CheckpointManager("tuned").load()
    before, after = base.model.state_dict(), tuned.model.state_dict()
    moved = {n.split(".")[0] + "." + n.split(".")[1] for n in after if not torch.equal(before[n], after[n])}
    assert moved == {"blocks.1", "norm.weight", "lm_head.weight"}
    state = json.loads(Path("checkpoints/tuned/training_state.json").read_text())
    assert state["parent"] == {
        "name": "base", "path": str(Path("checkpoints/base").absolute()), "step": 6,
        "run_id": base.state.run_id, "weights_sha256": weights_sha256(base.model),
    }  # fmt: skip
    config = json.loads(Path("checkpoints/tuned/config.json").read_text())
    assert (config["n_layer"], config["dropout"], config["vocab_size"]) == (2, 0.1, base.model.config.vocab_size)
    assert " 0 faults." in mypt("verify", "tuned").output
    out = mypt("inspect", "tuned").output
    line = [x.strip("│├└─ ") for x in out[out.index("Lineage") :].splitlines()]
    assert line[:2] == ["Lineage", "base, step 6"] and "tuned, step 4" in line and "gold at step" in out
    info = json.loads(mypt("inspect", "tuned", "--json").output)
    assert [(a["name"], a["step"]) for a in info["lineage"]] == [("base", 6), ("tuned", 4)]
    mypt("resume", "tuned", "--max-iters", "7")
    assert mypt("reproduce", "tuned").output.splitlines()[-1].startswith("identical: all 7 steps and the weights")
    mypt("resume", "base", "--max-iters", "8")
    result = mypt("reproduce", "tuned", ok=False)
    assert result.exit_code == 2 and "is at step 8 with other weights" in flat(result.stderr)
    Path("checkpoints/base").rename("checkpoints/elsewhere")
    assert "started from base at step 6, which is missing" in flat(mypt("reproduce", "tuned", ok=False).stderr)


def test_a_run_cannot_start_from_the_bundle_that_it_replaces(mypt: Mypt) -> None:
    mypt("train", "base", "--input-file", "input.txt", *TINY, "--max-iters", "2")
    for parent in ("base", "base_gold", "checkpoints/base"):
        call = ["--fresh", "--input-file", "input.txt", "--init-from-model", parent]
        assert "Give the new run a name of its own." in flat(mypt("train", "base", *call, ok=False).stderr)
    assert CheckpointManager("base").load().state.step == 2


def test_a_loader_from_python_takes_the_names_that_the_command_line_takes(tmp_path: Path) -> None:
    config = config_of(vocab_size=50304)
    domain = GPTDataLoader(config, GPT2, dataset_dir=nanogpt(tmp_path))
    general = GPTDataLoader(config, GPT2, dataset_dir=tmp_path, eval_only=True)
    model = GPT(config)
    result = model.fit(data_loader=domain, eval_data_loaders={"general": general}, max_iters=2, eval_iters=1)
    assert result.evals[-1].eval_sets()["general"] == pytest.approx(result.evals[-1].val_loss)
    with pytest.raises(ConfigError, match="'val' cannot name an eval set"):
        model.fit(data_loader=domain, eval_data_loaders={"val": general}, max_iters=2)


def test_a_parent_of_another_shape_is_refused_with_every_difference(mypt: Mypt) -> None:
    mypt("train", "base", "--input-file", "input.txt", *TINY, "--max-iters", "2")
    call = ["--input-file", "input.txt", "--init-from-model", "base", "--n-layer", "3", "--n-embd", "32"]
    result = mypt("train", "x", *call, ok=False)
    assert result.exit_code == 2 and not Path("checkpoints/x").exists()
    said = flat(result.stderr)
    assert "n_layer: base has 2, given 3 (command line)." in said and "n_embd: base has 16, given 32" in said
    Path("strange.txt").write_text("#" * 3000, encoding="utf-8")
    call = ["--input-file", "strange.txt", "--init-from-model", "base"]
    assert "The vocabulary has no '#'" in flat(mypt("train", "x", *call, ok=False).stderr)


def test_recomputing_activations_changes_nothing_but_memory(mypt: Mypt, monkeypatch: pytest.MonkeyPatch) -> None:
    recomputed: list[object] = []

    def counted(block: Any, *args: Any, **options: Any) -> Any:
        recomputed.append(block)
        return checkpoint(block, *args, **options)

    monkeypatch.setattr("mypt.model.network.checkpoint", counted)
    for name, more in (("plain", []), ("saving", ["--use-checkpoint"])):
        assert not recomputed
        mypt("train", name, "--input-file", "input.txt", *TINY, "--max-iters", "4", *more)
    assert len(recomputed) >= 4 * 2  # two layers in each step
    assert weights_of("plain") == weights_of("saving")


def test_a_stretched_rope_equals_positions_divided_by_the_scale() -> None:
    config = config_of(pos_encoding="rope", vocab_size=11, block_size=16)
    plain, stretched = GPT(config).eval(), GPT(config.model_copy(update={"rope_scale": 2.0})).eval()
    assert plain.rope is not None and stretched.rope is not None
    torch.testing.assert_close(stretched.rope.cos[::2], plain.rope.cos[:8])
    tokens = torch.arange(8)[None] % 11
    assert not torch.allclose(plain(tokens), stretched(tokens))


def masked_dataset(folder: Path) -> Path:
    """A dataset of `mypt prepare`'s layout whose masks let every third token count."""
    from mypt.checkpoint.manifest import file_hash
    from mypt.data.shards import mask_path
    from mypt.schema.files.dataset import METADATA_FILE, DatasetMetadata, ShardRecord, SplitRecord

    tokenizer = GPT2.file.with_special()
    splits = {}
    for split, tokens in (("train", 600), ("val", 300)):
        path = folder / split / "00000.bin"
        path.parent.mkdir(parents=True)
        ids = np.random.default_rng(3).integers(0, 90, tokens).astype("<u2")
        ids.tofile(path)
        (np.arange(tokens) % 3 == 0).astype(np.uint8).tofile(mask_path(path))
        record = ShardRecord(
            file=f"{split}/00000.bin", tokens=tokens, documents=1, max_id=int(ids.max()),
            sha256=file_hash(path).sha256, mask_sha256=file_hash(mask_path(path)).sha256,
        )  # fmt: skip
        splits[split] = SplitRecord(tokens=tokens, documents=1, shards=(record,))
    metadata = DatasetMetadata(
        dtype="uint16", tokenization="gpt2", vocab_size=tokenizer.vocab_size, separator=50256, masked=True,
        val_share=0.3, sources=(), train=splits["train"], val=splits["val"],
    )  # fmt: skip
    (folder / METADATA_FILE).write_text(metadata.model_dump_json(), encoding="utf-8")
    (folder / "tokenizer.json").write_text(tokenizer.model_dump_json(), encoding="utf-8")
    return folder


def test_masked_positions_have_exactly_no_gradient(tmp_path: Path) -> None:
    """Neither through the small vocabulary's loss nor through the chunked one."""
    loader = GPTDataLoader(
        config_of(vocab_size=50304),
        GPT2,
        dataset_dir=masked_dataset(tmp_path),
        options=LoaderOptions(use_loss_mask=True),
    )
    x, y = loader.batch(0)
    options = LoaderOptions(use_loss_mask=False)
    whole = GPTDataLoader(config_of(vocab_size=50304), GPT2, dataset_dir=tmp_path, options=options).batch(0)
    assert torch.equal(x, whole[0]) and torch.equal(y[y >= 0], whole[1][y >= 0])
    assert 0 < (y >= 0).sum() < y.numel() / 2
    for vocab_size in (128, 50304):
        hidden = torch.randn(3, 8, 16, requires_grad=True)
        torch.autograd.backward(next_token_loss(hidden, torch.randn(vocab_size, 16), y))
        assert hidden.grad is not None
        assert (hidden.grad[y < 0] == 0).all() and (hidden.grad[y >= 0] != 0).any(dim=-1).all()


def test_a_masked_step_is_the_mean_over_all_its_counted_tokens(tmp_path: Path) -> None:
    """However unevenly masks fall on micro-batches, in the loss, in the gradient and in an evaluation."""
    config = config_of(vocab_size=50304, n_embd=8)
    options = LoaderOptions(use_loss_mask=True)
    loader = GPTDataLoader(config, GPT2, dataset_dir=masked_dataset(tmp_path), options=options)
    training = TrainingConfig(grad_accum_steps=2, use_amp=False)
    model, precision = GPT(config), Precision.of(training, "cpu")
    stepper = assemble(model, RunData(loader), TrainingState(step=0, training_config=training), Observer()).stepper
    batches = stepper.batches(0)
    counted = stepper.counted_tokens(0, batches, stepper.group.part())
    assert counted == sum(int((y >= 0).sum()) for _, y in batches.values()) < stepper.tokens_per_step / 2
    loss = sum(stepper.micro_step(0, m, b, counted) for m, b in batches.items())
    made = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    x, y = (torch.cat(parts) for parts in zip(*batches.values(), strict=True))
    wanted = torch.nn.functional.cross_entropy(model(x).flatten(0, 1), y.flatten(), ignore_index=-100)
    torch.autograd.backward(wanted)
    torch.testing.assert_close(loss, wanted.detach(), atol=1e-5, rtol=1e-5)
    for left, right in zip(made, [p.grad for p in model.parameters()], strict=True):
        torch.testing.assert_close(left, right, atol=1e-6, rtol=1e-4)
    measured = evaluate(model, loader, "val", TrainingConfig(eval_iters=1000), precision).loss
    losses = [model.token_losses(x, y)[y >= 0] for x, y in loader.eval_batches("val", 1000)]
    assert measured == pytest.approx(float(torch.cat(losses).mean()), rel=1e-5)


def test_reading_can_be_chosen(tmp_path: Path) -> None:
    config = config_of(vocab_size=50304)
    folder = nanogpt(tmp_path, val=2000)

    def windows(eval_seed: int = 2357, **changes: Any) -> tuple[list[int], list[int]]:
        loader = GPTDataLoader(config, GPT2, dataset_dir=folder, options=LoaderOptions(**changes))
        evaluated = torch.cat([x for x, _ in loader.eval_batches("val", 2, eval_seed)])
        return loader.window_starts(0).tolist(), evaluated[:, 0].tolist()

    plain = windows()
    assert windows(eval_seed=1)[0] == plain[0] and windows(eval_seed=1)[1] != plain[1]
    assert windows(sampling="random")[0] != plain[0] and windows(seed=1)[0] != plain[0]
    assert all(start % 8 == 0 or start == 500 - 9 for start in plain[0])  # an epoch's windows lie side by side


def test_a_masked_run_counts_only_what_the_masks_name(mypt: Mypt) -> None:
    masked_dataset(Path("chat"))
    mypt("train", "sft", "--dataset-dir", "chat", "--use-loss-mask", *TRAIN, "--grad-accum-steps", "2")
    state = json.loads(Path("checkpoints/sft/training_state.json").read_text())
    assert state["data"]["masked"] and state["progress"]["gold"]["step"]
    assert mypt("reproduce", "sft").output.splitlines()[-1].startswith("identical: all 8 steps and the weights")
    nanogpt(Path("plain"))
    result = mypt("train", "y", "--dataset-dir", "plain", "--use-loss-mask", *TRAIN, ok=False)
    assert result.exit_code == 2 and "has no loss masks" in flat(result.stderr)
