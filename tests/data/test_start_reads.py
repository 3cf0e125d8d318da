"""What a process reads as a run starts: it has to be little, because every process of a large run reads it."""

from pathlib import Path

import numpy as np
import pytest

from mypt.data.formats.widths import PROBE_BYTES
from mypt.data.loader import GPTDataLoader
from mypt.run.data.new import open_data
from mypt.schema.resolve import resolve_settings
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
    loader.batch(3)
    assert reads.mapped[shard] == (1000 + 2 * 9) * 2 and reads.read[shard] == 2 * GLANCE


def test_files_without_metadata_are_read_whole_twice_for_their_ids_and_their_hash(folder: Path) -> None:
    loader, reads = opened(dataset_dir=str(headerless(folder / "data")), tokenization="gpt2")
    size = 2 * TOKENS
    assert loader.record.content_sha256
    assert all(reads.mapped[name] == size + looked for name, looked in (("train.bin", size), ("val.bin", 0)))
    beside = {name: reads.read[name] - size for name in ("train.bin", "val.bin")}
    assert all(0 < glances <= 3 * (GLANCE + HEADS) for glances in beside.values()), beside


def test_a_text_is_read_whole_once(folder: Path) -> None:
    _, reads = opened(input_file="input.txt", tokenization="char")
    assert reads.opened == {"input.txt": 1} and reads.read["input.txt"] == (folder / "input.txt").stat().st_size
