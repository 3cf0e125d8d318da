"""Loss masks: used where there are some, said in the plan, and a mean over no tokens is refused or left out."""

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from mypt.api import GPT
from mypt.data.loader import GPTDataLoader
from mypt.data.shards import mask_path
from mypt.data.tokenizer import Tokenizer
from mypt.data.tokens import Part, Tokens
from mypt.log.reader import read_events
from mypt.schema.files.dataset import METADATA_FILE, DatasetMetadata, ShardRecord, SplitRecord
from mypt.schema.files.gold import GoldState
from mypt.schema.files.state import TrainingState
from mypt.schema.settings.config import GPTConfig
from mypt.schema.settings.training import TrainingConfig
from mypt.train.device.async_check import AsyncCheck
from mypt.train.device.precision import Precision
from mypt.train.evaluation import masks
from mypt.train.evaluation.evaluate import losses_of
from mypt.train.evaluation.gold import Losses, decide_gold
from mypt.train.observer import Observer
from mypt.train.run_data import RunData
from mypt.train.session import assemble
from tests.conftest import Mypt, flat

FILE = Tokenizer.char("abcdefgh").file.with_special().with_template()
SEPARATOR = FILE.special_ids["<|endoftext|>"]
T = 8
TRAIN = [
    "--n-layer", "1", "--n-head", "2", "--n-embd", "8", "--block-size", str(T), "--batch-size", "2",
    "--eval-iters", "4", "--max-iters", "6", "--eval-interval", "3", "--no-use-amp", "--log-interval", "1",
    "--dropout", "0",
]  # fmt: skip
Mask = npt.NDArray[np.uint8]


def every(n: int, step: int = 3) -> Mask:
    mask: Mask = (np.arange(n) % step == 1).astype(np.uint8)
    return mask


def nothing(n: int) -> Mask:
    return np.zeros(n, np.uint8)


def dataset(name: str, train: Mask | None, val: Mask | None, *, described: bool = True, length: int = 10) -> str:
    """A folder of shards of conversations of one length, with the given masks."""
    splits = {}
    for split, mask, size in (("train", train, 600), ("val", val, 400)):
        size = size if mask is None else len(mask)
        path = Path(name, split, "00000.bin")
        path.parent.mkdir(parents=True)
        ids = np.random.default_rng(3).integers(0, 8, size).astype("<u2")
        ids[length - 1 :: length] = SEPARATOR
        ids.tofile(path)
        if mask is not None:
            mask.tofile(mask_path(path))
        record = ShardRecord(
            file=f"{split}/00000.bin", tokens=size, documents=size // length, max_id=SEPARATOR, sha256=split,
            mask_sha256=None if mask is None else split,
            counted=int(mask.sum()) if described and mask is not None else None,
            longest=length - 1 if described and mask is not None else None,
        )  # fmt: skip
        splits[split] = SplitRecord(tokens=size, documents=size // length, shards=(record,))
    metadata = DatasetMetadata(
        dtype="uint16", tokenization="char", vocab_size=FILE.vocab_size, separator=SEPARATOR, masked=train is not None,
        val_share=0.3, sources=(), train=splits["train"], val=splits["val"],
    )  # fmt: skip
    Path(name, METADATA_FILE).write_text(metadata.model_dump_json(), encoding="utf-8")
    Path(name, "tokenizer.json").write_text(FILE.model_dump_json(), encoding="utf-8")
    return name


def curriculum(*folders: str) -> str:
    phases = [{"name": f"p_{f}", "dataset_dir": f, "until_iter": 3 * (i + 1)} for i, f in enumerate(folders)]
    Path("c.json").write_text(json.dumps({"curriculum": {"phases": phases}}), encoding="utf-8")
    return "c.json"


def events_of(name: str) -> list[dict[str, Any]]:
    return list(read_events(Path(f"logs/train/{name}_eval.jsonl")))


@pytest.mark.usefixtures("folder")
class TestNothingToMean:
    """Whatever set it is of which no token counts: the run is refused before it begins, and the set is named."""

    @pytest.mark.parametrize("described", [True, False])
    @pytest.mark.parametrize(
        ("train", "val", "named"),
        [
            (every(600), nothing(400), ["windows of the validation split"]),
            (nothing(600), every(400), ["No token of the training split", "windows of the training split"]),
            (nothing(600), nothing(400), ["training split", "validation split"]),
        ],
    )
    def test_a_split(self, mypt: Mypt, train: Mask, val: Mask, named: list[str], described: bool) -> None:
        dataset("d", train, val, described=described)
        failed = mypt("train", "a", "--dataset-dir", "d", *TRAIN, ok=False)
        assert failed.exit_code == 2 and all(name in flat(failed.stderr) for name in named)
        assert "--no-use-loss-mask" in failed.stderr and not Path("checkpoints/a").exists()
        mypt("train", "a", "--dataset-dir", "d", "--no-use-loss-mask", *TRAIN)

    def test_an_eval_set(self, mypt: Mypt) -> None:
        dataset("d", every(600), every(400)), dataset("e", every(600), nothing(400))
        failed = mypt("train", "a", "--dataset-dir", "d", "--eval-set", "poems=e", *TRAIN, ok=False)
        assert failed.exit_code == 2 and "windows of the eval set poems" in flat(failed.stderr)

    def test_a_phase(self, mypt: Mypt) -> None:
        dataset("d", every(600), every(400)), dataset("e", nothing(600), every(400))
        failed = mypt("train", "a", "--config-file", curriculum("d", "e"), *TRAIN, ok=False)
        assert failed.exit_code == 2 and "No token of the phase p_e counts" in flat(failed.stderr)

    def test_the_windows_that_are_measured(self, mypt: Mypt) -> None:
        """A split whose only tokens that count are in windows that no evaluation looks at."""
        val = nothing(4000)
        val[-T:] = 1
        dataset("d", every(600), val)
        failed = mypt("train", "a", "--dataset-dir", "d", *TRAIN, "--eval-iters", "1", ok=False)
        assert failed.exit_code == 2 and "windows of the validation split that evaluations measure" in flat(
            failed.stderr
        )
        mypt("train", "a", "--dataset-dir", "d", *TRAIN, "--eval-iters", "250")

    def test_a_resume(self, mypt: Mypt) -> None:
        dataset("d", every(600), every(400)), dataset("e", every(600), nothing(400))
        mypt("train", "a", "--dataset-dir", "d", *TRAIN)
        failed = mypt("resume", "a", "--max-iters", "9", "--eval-set", "poems=e", ok=False)
        assert failed.exit_code == 2 and "windows of the eval set poems" in flat(failed.stderr)


def sparse() -> Mask:
    """Counts in a few windows alone, so that many a step has no token that counts."""
    mask = nothing(600)
    mask[40:70] = 1
    return mask


def test_a_step_without_a_token_that_counts_is_left_out(mypt: Mypt) -> None:
    dataset("d", sparse(), every(400))
    many = [*TRAIN, "--eval-iters", "40", "--max-iters", "12"]
    told = mypt("train", "a", "--dataset-dir", "d", *many).output
    loader = GPTDataLoader(
        GPTConfig(batch_size=2, block_size=T, vocab_size=FILE.vocab_size), Tokenizer(FILE), dataset_dir="d"
    )
    empty = [step + 1 for step in range(12) if not (loader.batch(step)[1] >= 0).any()]
    assert 3 < len(empty) < 12
    logged = events_of("a")
    skipped = [e for e in logged if e["event"] == "batch_skipped"]
    assert [e["iter"] for e in skipped] == empty and all(e["loss"] is None for e in skipped)
    steps = {e["iter"]: e["loss"] for e in logged if e["event"] == "step"}
    assert sorted({*steps, *empty}) == [*range(1, 13)] and not {*steps} & {*empty}
    assert all(isinstance(loss, float) and loss > 0.5 for loss in steps.values())
    assert told.count("has no token that counts by the loss mask; its batches are left out") == 1
    assert f"{len(empty)} times a batch of which no token counts" in flat(mypt("logs", "summarize", "a").output)
    assert mypt("reproduce", "a").output.splitlines()[-1].startswith("identical: all 12 steps and the weights")
    mypt("train", "b", "--dataset-dir", "d", *many, "--max-iters", str(empty[0]))
    mypt("resume", "b", "--max-iters", "12")
    ends = [torch.load(f"checkpoints/{n}/model.pt", weights_only=True) for n in ("a", "b")]
    assert all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0])


@pytest.mark.usefixtures("folder")
def test_such_a_step_moves_nothing_and_stays_in_order_where_steps_run_ahead() -> None:
    config = GPTConfig(
        batch_size=2, block_size=T, vocab_size=FILE.vocab_size, n_layer=1, n_head=2, n_embd=8, dropout=0.0, device="cpu"
    )
    loader = GPTDataLoader(config, Tokenizer(FILE), dataset_dir=dataset("d", sparse(), every(400)))
    training = TrainingConfig(use_amp=False, max_iters=12, weight_decay=0.5, warmup_iters=0, eval_iters=40)
    state = TrainingState(step=0, training_config=training)
    stepper = assemble(GPT(config), RunData(loader), state, Observer()).stepper
    stepper.check = AsyncCheck()
    results = []
    for step in range(12):
        before = [p.detach().clone() for p in stepper.model.parameters()]
        empty = not (loader.batch(step)[1] >= 0).any()
        results += stepper.step(step)
        moved = not all(torch.equal(a, b) for a, b in zip(before, stepper.model.parameters(), strict=True))
        assert moved == (not empty)
    results += stepper.catch_up()
    assert [r.step for r in results] == [*range(12)]
    assert all(math.isnan(r.loss) == r.empty and r.finite == (not r.empty) for r in results)


PLANS: dict[str, tuple[list[str], bool, str]] = {
    "by default": ([], True, r"used, 33\.\d% of the training tokens count"),
    "asked for": (["--use-loss-mask"], True, r"used, 33\.\d% of the training tokens count"),
    "not wanted": (["--no-use-loss-mask"], False, "not used although the data have one"),
}


@pytest.mark.parametrize("name", PLANS)
def test_masks_are_used_unless_told_otherwise_and_the_plan_says_which(mypt: Mypt, name: str) -> None:
    flags, used, said = PLANS[name]
    dataset("d", every(600), every(400)), dataset("e", every(600), every(400)), dataset("plain", None, None)
    told = flat(
        mypt("train", "a", "--dataset-dir", "d", "--eval-set", "e=e", "--eval-set", "p=plain", *flags, *TRAIN).output
    )
    assert re.search(f"loss mask {said}", told)
    state = json.loads(Path("checkpoints/a/training_state.json").read_text(encoding="utf-8"))
    assert state["data"]["masked"] == used
    assert [state["eval_sets"][n]["masked"] for n in ("e", "p")] == [used, False]
    mypt("resume", "a", "--max-iters", "9", "--eval-set", "more=e")
    state = json.loads(Path("checkpoints/a/training_state.json").read_text(encoding="utf-8"))
    assert state["data"]["masked"] == used and state["eval_sets"]["more"]["masked"] == used
    other = "--no-use-loss-mask" if used else "--use-loss-mask"
    assert "use_loss_mask" in mypt("train", "a", other, "--max-iters", "12", ok=False).stderr
    assert mypt("reproduce", "a").output.splitlines()[-1].startswith("identical: all 9 steps and the weights")


def test_data_without_masks_are_told_nothing_and_phases_each_their_own(mypt: Mypt) -> None:
    dataset("d", every(600), every(400)), dataset("plain", None, None)
    assert "loss mask" not in mypt("train", "a", "--dataset-dir", "plain", *TRAIN).output
    told = flat(mypt("train", "b", "--config-file", curriculum("plain", "d"), *TRAIN).output)
    assert re.search(r"loss mask p_plain: none; p_d: used, 33\.\d% of the training tokens count", told)
    state = json.loads(Path("checkpoints/b/training_state.json").read_text(encoding="utf-8"))
    assert [p["data"]["masked"] for p in state["curriculum"]] == [False, True]
    assert mypt("reproduce", "b").output.splitlines()[-1].startswith("identical: all 6 steps and the weights")
    for name, notices in (("a", 1), ("b", 0)):  # answers of any phase were learned alone
        assert flat(mypt("chat", name, stdin="a\n").stderr).count("not trained on the answers") == notices
    failed = mypt("train", "c", "--config-file", curriculum("plain", "d"), *TRAIN, "--use-loss-mask", ok=False)
    assert failed.exit_code == 2 and "plain has no loss masks" in flat(failed.stderr)


@pytest.mark.parametrize("windows", [1, 2, 3])
def test_windows_that_a_mask_leaves_nothing_of_are_no_samples(mypt: Mypt, windows: int) -> None:
    """By one that counts nothing is known of the others, so that there is no standard error rather than one of 0."""
    val = nothing(400)
    for window in range(windows):
        val[window * 5 * T + 2 : window * 5 * T + 5 + window] = 1
    dataset("d", every(600), val)
    mypt("train", "a", "--dataset-dir", "d", *TRAIN, "--eval-iters", "40")
    model, tokenizer = GPT.load("a"), Tokenizer(FILE)
    loader = GPTDataLoader(model.config, tokenizer, dataset_dir="d", eval_only=True)
    config = TrainingConfig(use_amp=False)
    sums: list[float] = []
    counts: list[int] = []
    for x, y in loader.eval_batches("val", 40):
        losses = losses_of(model, x, y, config, Precision.of(config, "cpu"))
        sums, counts = [*sums, *losses.sum(1).tolist()], [*counts, *(y >= 0).sum(1).tolist()]
    kept = [(total, n) for total, n in zip(sums, counts, strict=True) if n]
    mean = sum(total for total, _ in kept) / sum(n for _, n in kept)
    spread = sum((total - mean * n) ** 2 for total, n in kept)
    expected = math.sqrt(windows / (windows - 1) * spread) / sum(n for _, n in kept) if windows > 1 else None
    last = [event for event in events_of("a") if event["event"] == "eval"][-1]
    assert len(kept) == windows and last["val_loss"] == pytest.approx(mean, abs=1e-5)
    assert last["val_se"] == (None if expected is None else pytest.approx(expected, rel=1e-2, abs=2e-6))


def test_masks_are_those_of_the_record_when_a_run_goes_on(mypt: Mypt) -> None:
    dataset("d", every(600), every(400))
    Path("t.txt").write_text("abcdefgh" * 200)
    for name, data, recorded in (("a", ["--dataset-dir", "d", "--no-use-loss-mask"], False), ("b", [], False)):
        mypt("train", name, *(data or ["--input-file", "t.txt", "--tokenization", "char"]), *TRAIN)
        failed = mypt("resume", name, "--max-iters", "9", "--use-loss-mask", ok=False)
        assert failed.exit_code == 2 and f"use_loss_mask: recorded {recorded}, given True" in flat(failed.stderr)
        mypt("resume", name, "--max-iters", "9", "--no-use-loss-mask")
    failed = mypt("train", "c", "--input-file", "t.txt", "--use-loss-mask", *TRAIN, ok=False)
    assert failed.exit_code == 2 and "a text has no loss masks" in flat(failed.stderr)


def test_losses_with_and_without_a_mask_do_not_compare(mypt: Mypt) -> None:
    dataset("d", every(600), every(400))
    mypt("train", "a", "--dataset-dir", "d", *TRAIN)
    mypt("train", "b", "--dataset-dir", "d", "--no-use-loss-mask", *TRAIN)
    assert "A loss mask leaves out tokens in one and not in the other" in flat(mypt("compare", "a", "b").output)


@pytest.mark.parametrize("described", [True, False])
def test_conversations_that_no_window_holds_are_named(mypt: Mypt, described: bool) -> None:
    dataset("long", every(600), every(400), described=described, length=20)
    dataset("short", every(600), every(400), described=described, length=T)
    told = flat(mypt("train", "a", "--dataset-dir", "long", *TRAIN, "--dry-run").output)
    assert "30 of 30 conversations are longer than the window of 8 tokens" in told and "the longest has 19" in told
    assert "conversations are longer" not in mypt("train", "a", "--dataset-dir", "short", *TRAIN, "--dry-run").output


def lengths(parts: Sequence[Sequence[int]]) -> list[int]:
    whole = [token for part in parts for token in part]
    ends = [i for i, token in enumerate(whole) if token == SEPARATOR]
    return [b - a - 1 for a, b in zip([-1, *ends], ends, strict=False)]


@pytest.mark.parametrize("scan", [1, 3, 7, 1000])
def test_figures_of_masks_are_the_same_however_they_are_read(monkeypatch: pytest.MonkeyPatch, scan: int) -> None:
    rng = np.random.default_rng(scan)
    ids = [rng.choice([1, 2, SEPARATOR], size, p=[0.4, 0.4, 0.2]).astype(np.uint16) for size in (5, 1, 17, 30)]
    mask = [rng.integers(0, 2, len(part)).astype(np.uint8) for part in ids]
    monkeypatch.setattr(masks, "SCAN_TOKENS", scan)
    monkeypatch.setattr("mypt.data.tokens.SCAN_TOKENS", scan)
    tokens = Tokens([Part("p", i, m) for i, m in zip(ids, mask, strict=True)])
    assert tokens.counted == int(np.concatenate(mask)[1:].sum())
    found = np.concatenate(list(masks._document_lengths(tokens, SEPARATOR))).tolist()
    assert found == lengths([part.tolist() for part in ids])


def test_a_train_loss_of_0_is_told_as_what_it_is() -> None:
    decision = decide_gold(GoldState(), 1, Losses(0.5, 0.0, {}), TrainingConfig())
    assert decision.reason == "overfit: the train loss is 0, threshold=5.0x"
