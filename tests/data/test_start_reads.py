"""What a process reads as a run starts: it has to be little, because every process of a large run reads it."""

from pathlib import Path

import numpy as np
import pytest

from mypt.data.formats.widths import PROBE_BYTES
from mypt.data.loader import GPTDataLoader
from mypt.run.data.new import open_data
from mypt.run.data.places import Places
from mypt.run.data.recorded import recorded_data
from mypt.schema.files.state import TrainingState
from mypt.schema.resolve import resolve_settings
from mypt.schema.settings.training import TrainingConfig
from mypt.train.observer import Observer
from tests.conftest import Mypt
from tests.data.reads import Reads, counted_reads

GLANCE = 3 * PROBE_BYTES
"""Bytes of the beginning, the middle and the end of a shard."""
HEADS = 4 * PROBE_BYTES
"""Bytes that tell a header from ids, and how wide ids are."""
TOKENS = 2 * GLANCE
"""Of a shard; twice as many bytes."""


def opened(**data: object) -> tuple[GPTDataLoader, Reads]:
    """The data of a new run, and what was read to open them."""
    settings = resolve_settings({"block_size": 8, "n_embd": 4, "n_head": 1, "n_layer": 1, "batch_size": 2, **data})
    with counted_reads() as reads:
        run_data, _ = open_data(settings, settings.model, None, Observer())
    return run_data.primary, reads


def joined(loader: GPTDataLoader) -> Reads:
    """What another process of the run reads, which opens what the first has recorded."""
    state = TrainingState(step=0, training_config=TrainingConfig(), data=loader.record)
    with counted_reads() as reads:
        recorded_data(state, loader.config, loader.tokenizer, Places(), Observer())
    return reads


def headerless(folder: Path) -> Path:
    """nanoGPT's files."""
    folder.mkdir()
    for name in ("train", "val"):
        (np.arange(TOKENS, dtype="<u2") % 50_000).tofile(folder / f"{name}.bin")
    return folder


def test_of_prepared_shards_a_glance_is_taken_once_and_no_more_is_read(
    mypt: Mypt, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    for name in ("train", "val"):
        letters = rng.integers(97, 105, TOKENS).astype("u1").tobytes().decode("ascii")
        Path(f"{name}.txt").write_text(letters, encoding="ascii")
    mypt("prepare", "train.txt", "--val-input", "val.txt", "--tokenization", "char", "--out", "data", "--workers", "1")
    monkeypatch.setattr("mypt.data.tokens.LOOK_TOKENS", 1000)
    loader, reads = opened(dataset_dir="data")
    (shard,) = {p.name for p in Path("data").rglob("*.bin")}  # of both splits
    described = ("dataset_metadata.json", "tokenizer.json")
    assert reads.read.keys() == {shard, *described}
    assert reads.opened[shard] == 2 and reads.read[shard] == 2 * GLANCE
    assert all(reads.read[name] <= 3 * (Path("data") / name).stat().st_size for name in described)
    assert reads.mapped[shard] == 1000 * loader.splits["train"].parts[0].ids.itemsize
    others = joined(loader)
    assert (others.opened[shard], others.read[shard], others.mapped) == (2, 2 * GLANCE, reads.mapped)
    loader.batch(3)
    assert reads.mapped[shard] == (1000 + 2 * 9) * 2 and reads.read[shard] == 2 * GLANCE


def test_files_without_metadata_are_read_whole_for_their_ids_and_once_a_run_for_their_hash(folder: Path) -> None:
    loader, reads = opened(dataset_dir=str(headerless(folder / "data")), tokenization="gpt2")
    size = 2 * TOKENS
    assert loader.record.content_sha256
    assert all(reads.mapped[name] == size + looked for name, looked in (("train.bin", size), ("val.bin", 0)))
    beside = {name: reads.read[name] - size for name in ("train.bin", "val.bin")}
    assert all(0 < glances <= 3 * (GLANCE + HEADS) for glances in beside.values()), beside
    others = joined(loader)
    assert others.mapped == reads.mapped and max(others.read.values()) <= GLANCE + HEADS


def test_a_text_is_read_whole_once(folder: Path) -> None:
    loader, first = opened(input_file="input.txt", tokenization="char")
    for reads in first, joined(loader):
        assert reads.opened == {"input.txt": 1} and reads.read["input.txt"] == (folder / "input.txt").stat().st_size
