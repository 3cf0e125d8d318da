"""Bundles in parts, as several processes save them: whole again however they were cut, and nothing else is loaded."""

import json
import shutil
import struct
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from mypt.api import GPT
from mypt.checkpoint.files import read_config, read_state
from mypt.checkpoint.layout import MODEL_PARTS, OPTIMIZER_PARTS
from mypt.checkpoint.manager import CheckpointManager, Described
from mypt.checkpoint.stored import load_moments, load_weights, moment_name
from mypt.errors import BundleError
from mypt.run.verify import verify_bundle
from mypt.schema.settings.training import TrainingConfig
from mypt.train import keeper
from mypt.train.device.async_save import AsyncSaver
from mypt.train.keeper import Keeper
from mypt.train.observer import Observer
from mypt.train.parallel.disk import Parts
from mypt.train.session import optimizer_of
from tests.conftest import Mypt, Once, flat, reseal
from tests.train.test_training import config_of, loader_of, stepper_of

RUN = [
    "--input-file", "input.txt", "--tokenization", "char", "--n-layer", "1", "--n-head", "2", "--n-embd", "8",
    "--block-size", "8", "--batch-size", "2", "--eval-iters", "1", "--max-iters", "4", "--eval-interval", "2",
    "--tie-weights", "--optimizer", "muon", "--muon-dtype", "fp32", "--no-use-amp",
]  # fmt: skip
BUNDLE = Path("checkpoints/m")
Cut = Callable[[int], list[int]]
"""Where the rows of a tensor are cut, by how many there are."""


def evenly(processes: int) -> Cut:
    """As torch cuts them: the last processes may have no rows."""
    return lambda rows: [min(n * -(-rows // processes), rows) for n in range(1, processes)]


def anywhere(places: list[int], rows: int) -> list[int]:
    """Cuts between rows; where two fall together, the last processes have no row instead."""
    cuts = sorted({1 + place % rows for place in places})
    return cuts + [rows] * (len(places) - len(cuts))


def pieces(tensors: dict[str, Tensor], cut: Cut) -> Iterator[tuple[int, str, int, Tensor]]:
    """Process, name, first row and rows of each tensor; a number is saved by the last process."""
    for name, tensor in tensors.items():
        places = [0, *cut(tensor.size(0)), tensor.size(0)] if tensor.dim() else []
        if not places:
            yield len(cut(1)), name, 0, tensor
        for process, (start, stop) in enumerate(pairwise(places)):
            yield process, name, start, tensor[start:stop]


def save(tensors: dict[str, Tensor], folder: Path, cut: Cut) -> None:
    folder.mkdir(parents=True)
    parts: dict[int, dict[str, tuple[int, Tensor]]] = {}
    for process, name, start, rows in pieces(tensors, cut):
        parts.setdefault(process, {})[name] = start, rows.contiguous().clone()
    for process, content in parts.items():
        offsets = {n: {"saved_offsets": [start, *[0] * (t.dim() - 1)][: t.dim()]} for n, (start, t) in content.items()}
        path = folder / f"shard-{process + 1:05d}-model-00001-of-00001.safetensors"
        save_file({n: t for n, (_, t) in content.items()}, path, {"DCP_SHARDING_INFO": json.dumps(offsets)})


def laid_in_parts(source: Path, target: Path, cut: Cut) -> None:
    """A bundle with what another one holds, in parts."""
    config, loaded = read_config(source), CheckpointManager.at(source).load()
    weights, moments = load_weights(source, config), load_moments(source, config)["optimizer"]["state"]
    manager = CheckpointManager.at(target)
    with manager.replaced() as folder:
        save({n: w for n, w in weights.items() if n != "lm_head.weight"}, folder / MODEL_PARTS, cut)
        named = {moment_name(i, n): m for i, of_weight in moments.items() for n, m in of_weight.items()}
        save(named, folder / OPTIMIZER_PARTS, cut)
        manager.complete(folder, Described(config, loaded.tokenizer.file, loaded.state), {})


@pytest.fixture
def whole(once: Once) -> Path:
    """The bundle of a run, in one file each."""
    once("train", "m", *RUN)
    return BUNDLE


def same(left: dict[Any, Any], right: dict[Any, Any]) -> bool:
    assert left.keys() == right.keys()
    return all(same(left[n], right[n]) if isinstance(left[n], dict) else torch.equal(left[n], right[n]) for n in left)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_however_they_are_cut_they_are_whole_again(whole: Path, data: st.DataObject) -> None:
    """By any number of processes, some of which may have no row of a tensor."""
    processes, config = data.draw(st.integers(1, 5)), read_config(whole)
    places = st.integers(0, 1 << 30)
    cuts = data.draw(st.lists(places, min_size=processes - 1, max_size=processes - 1))
    shutil.rmtree("checkpoints/parts", ignore_errors=True)
    laid_in_parts(whole, Path("checkpoints/parts"), lambda rows: anywhere(cuts, rows))
    parts = Path("checkpoints/parts")
    assert same(load_weights(parts, config), load_weights(whole, config))
    assert same(load_moments(parts, config)["optimizer"]["state"], load_moments(whole, config)["optimizer"]["state"])
    assert [c.found for c in verify_bundle(parts) if c.ok is False] == []


def test_every_command_takes_it_for_what_it_is(whole: Path, mypt: Mypt) -> None:
    """Also for the run itself: one process goes on with it to the bit, and saves it whole."""
    said = {verb: flat(mypt(verb, "m", *more).output) for verb, more in VERBS.items()}
    shutil.copytree("checkpoints", "kept")
    laid_in_parts(whole, whole, evenly(3))
    assert read_state(whole).optimizer_file == "optimizer" and not (whole / "model.pt").exists()
    for verb, more in VERBS.items():
        assert flat(mypt(verb, "m", *more).output) == said[verb], verb
    assert "0 faults" in mypt("verify").output and "can be loaded" in mypt("verify", "m", "--untrusted").output
    shown = flat(mypt("inspect", "m").output)
    assert "model/ 3 files" in shown and "optimizer/ 3 files" in shown and "shard-" not in shown
    described = json.loads(mypt("inspect", "m", "--json").output)
    names = [f["name"] for f in described["files"]]
    assert names[0] == "model/shard-00001-model-00001-of-00001.safetensors" and len(names) == 3 + 3 + 4
    assert "Tensors of model/shard-00002" in flat(mypt("inspect", "m", "--tensors").output)
    mypt("train", "again", "--init-from-model", "m", *RUN[:4], "--max-iters", "1", "--eval-iters", "1")
    mypt("export", "m", "--format", "hf", "--out", "for_others")
    mypt("export-fp16", "m")
    mypt("evaluate", "m", "--input-file", "input.txt")
    assert json.loads(mypt("inspect", "m", "--json").output)["evaluations"]
    mypt("resume", "m", "--max-iters", "6")
    assert (whole / "model.pt").is_file() and read_state(whole).optimizer_file == "optimizer.pt"
    mypt("resume", "m", "--max-iters", "6", "--out-dir", "kept", "--log-file", "other.jsonl")
    config = read_config(whole)
    assert same(load_weights(whole, config), load_weights(Path("kept/m"), config))


VERBS = {"generate": ("--max-new-tokens", "20", "--seed", "1"), "reproduce": ()}


def test_how_long_a_save_takes_is_told_by_one_that_wrote(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gold and the last step are written once, and the time limit reckons with what that took."""
    config = config_of()
    stepper = stepper_of(GPT(config), loader_of(config), TrainingConfig(use_amp=False))
    kept = Keeper(stepper, None, AsyncSaver(beside=False), Observer(), in_parts=True)
    clock = iter([0.0, 40.0, 50.0, 50.1])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(keeper, "save_parts", lambda _, __, state, ___: Parts(state.step, BUNDLE, {}))
    kept.save_gold(stepper.session)
    kept.save(stepper.session)
    assert kept.save_s == 40.0


def first(folder: str) -> Path:
    return sorted((BUNDLE / folder).iterdir())[0]


def rewritten(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the head of a part."""
    content = path.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    head = json.loads(content[8 : 8 + size])
    change(head)
    text = json.dumps(head).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + size :])


def shifted(by: int) -> Callable[[dict[str, Any]], None]:
    def change(head: dict[str, Any]) -> None:
        offsets = json.loads(head["__metadata__"]["DCP_SHARDING_INFO"])
        offsets["norm.weight"]["saved_offsets"][0] += by
        head["__metadata__"]["DCP_SHARDING_INFO"] = json.dumps(offsets)

    return change


def without_offsets(head: dict[str, Any]) -> None:
    head["__metadata__"] = {"format": "pt"}


def by_columns(head: dict[str, Any]) -> None:
    head["__metadata__"]["DCP_SHARDING_INFO"] = head["__metadata__"]["DCP_SHARDING_INFO"].replace("[0, 0]", "[0, 1]")


def of_words(head: dict[str, Any]) -> None:
    head["__metadata__"]["DCP_SHARDING_INFO"] = head["__metadata__"]["DCP_SHARDING_INFO"].replace("[0", '["0"')


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(bytes(content))


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-4])


def foreign(folder: str, name: str, values: int = 2) -> None:
    """Add a part with a tensor that no process has saved."""
    offsets = {"DCP_SHARDING_INFO": json.dumps({name: {"saved_offsets": [0]}})}
    save_file({name: torch.zeros(values)}, BUNDLE / folder / "shard-9.safetensors", offsets)


TAMPERED: dict[str, tuple[Callable[[], object], str]] = {
    "a byte": (lambda: flipped(first("model")), "its SHA-256 does not match"),
    "a byte of the moments": (lambda: flipped(first("optimizer")), "its SHA-256 does not match"),
    "a part is gone": (lambda: first("model").unlink(), "is missing"),
    "all are gone": (lambda: shutil.rmtree(BUNDLE / "model"), "cannot be read"),
    "one is shorter": (lambda: truncated(first("optimizer")), "is damaged: it has"),
    "one too many": (
        lambda: shutil.copy(first("model"), BUNDLE / "model/shard-9.safetensors"), "did not come with|not one of",
    ),
    "something else": (lambda: (BUNDLE / "model/notes.txt").write_text("x"), "did not come with|not one of"),
}  # fmt: skip
FORGED: dict[str, tuple[Callable[[], object], str]] = {
    "a gap": (lambda: rewritten(first("model"), shifted(1)), "do not make up norm.weight"),
    "rows twice": (lambda: shutil.copy(first("model"), BUNDLE / "model/shard-9.safetensors"), "do not make up"),
    "rows that are missing": (lambda: first("model").unlink(), "do not make up"),
    "moments that are missing": (lambda: first("optimizer").unlink(), "do not make up|does not fit"),
    "no rows told": (lambda: rewritten(first("model"), without_offsets), "is damaged"),
    "cut by columns": (lambda: rewritten(first("model"), by_columns), "cut otherwise than by rows"),
    "words for numbers": (lambda: rewritten(first("model"), of_words), "is damaged|cut otherwise"),
    "not safetensors": (lambda: first("optimizer").write_bytes(b"\x80\x02}q." * 40), "is damaged"),
    "a longer head than file": (lambda: first("model").write_bytes(struct.pack("<Q", 1 << 40) + b"{}"), "is damaged"),
    "empty": (lambda: first("model").write_bytes(b""), "is damaged"),
    "a weight more": (lambda: foreign("model", "more"), "more is not part of this model"),
    "a moment more": (lambda: foreign("optimizer", "optimizer.state.99.exp_avg"), "states for"),
    "no moment": (lambda: foreign("optimizer", "optimizer.groups"), "optimizer.groups is no moment"),
    "more than any model has": (lambda: foreign("optimizer", "optimizer.state.99.exp_avg", 3 << 20), "has at most"),
}
"""What somebody has made, hashes and all."""


@pytest.mark.parametrize("what", [*TAMPERED, *FORGED])
def test_what_was_changed_is_found_and_not_loaded(what: str, whole: Path) -> None:
    laid_in_parts(whole, whole, evenly(2))
    change, message = {**TAMPERED, **FORGED}[what]
    change()
    if what in FORGED:
        reseal(whole, json.loads((whole / "training_state.json").read_text(encoding="utf-8"))["step"])
    faults = " ".join(c.found for c in verify_bundle(whole, alone=True) if c.ok is False)
    assert any(part in faults for part in message.split("|")), faults
    manager = CheckpointManager.at(whole)
    with pytest.raises(BundleError) as error:
        loaded = manager.load()
        manager.load_optimizer(optimizer_of(loaded.model, loaded.state))
    assert error.value.todo
