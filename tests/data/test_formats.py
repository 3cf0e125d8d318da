"""Files of token ids without metadata: what each holds is known or refused, whatever its width, header or name."""

import bz2
import gzip
import io
import itertools
import json
import lzma
import os
import pickle
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mypt import Tokenizer
from mypt.checkpoint.files import read_state
from mypt.data.describe import check_shards, describe
from mypt.data.formats.headers import layout_by_header
from mypt.data.formats.layouts import layouts_of
from mypt.data.formats.signatures import other_format
from mypt.data.formats.widths import PROBE_BYTES, misread
from mypt.data.shards import open_shards
from mypt.errors import InputError
from mypt.schema.files.tokenizer import TokenizerFile
from tests.conftest import Mypt, flat

GPT2_TOKENS = 50257
MODEL = ["--n-layer", "1", "--n-head", "1", "--n-embd", "8", "--block-size", "8", "--batch-size", "2"]
RUN = [*MODEL, "--eval-iters", "2", "--eval-interval", "2", "--max-iters", "4", "--no-use-amp"]


def header(magic: int, version: int, tokens: int) -> bytes:
    head = np.zeros(256, "<i4")
    head[:3] = magic, version, tokens
    return head.tobytes()


def llama3(folder: Path, train: int = 400, val: int = 100) -> Path:
    """Shards as llm.c's scripts write them for Llama 3: uint32 behind a header."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(3)
    for name, count in (("train", train), ("val", val)):
        ids = rng.integers(0, 128_256, count).astype("<u4")
        (folder / f"x_{name}_000000.bin").write_bytes(header(20240801, 7, count) + ids.tobytes())
    return folder


# headers


MAGIC = [20240520, 20240801, 20240522, 20240326, 20250101, 20311231, 777, 65539]
KNOWN = {(20240520, 1, 2): ("uint16", "gpt2", 50257), (20240801, 7, 4): ("uint32", "ids", 128256)}


@pytest.mark.parametrize("version", [0, 1, 2, 7])
@pytest.mark.parametrize("magic", MAGIC)
def test_a_header_is_known_or_refused(magic: int, version: int, tmp_path: Path) -> None:
    """Of every magic number, version, width and size, two make shards and all others are refused."""
    for width, off in itertools.product((1, 2, 4, 8), (0, -1, 1)):
        content = header(magic, version, 60) + np.arange(1, 61, dtype=f"<u{width}").tobytes()
        for name in ("train", "val"):
            (tmp_path / f"{name}.bin").write_bytes(content[: len(content) + min(off, 0)] + b"\0" * max(off, 0))
        if kind := not off and KNOWN.get((magic, version, width)):
            told = describe(open_shards(tmp_path))
            assert (told["dtype"], told["tokenization"], told["vocab_size"]) == kind
            assert not check_shards(open_shards(tmp_path))
        elif not off or magic not in (777, 65539):  # of which nothing looks like a header if the count fits nothing
            named = rf"train\.bin (is not whole|has a header .*\({magic}\) of version {version}|is no shard of)"
            with pytest.raises(InputError, match=named):
                open_shards(tmp_path)


def test_the_command_that_looks_at_data_refuses_as_training_does(mypt: Mypt) -> None:
    Path("data").mkdir()
    for name in ("train", "val"):
        Path(f"data/{name}.bin").write_bytes(header(20250101, 3, 60) + bytes(120))
    for words in (["data", "inspect", "data", "--check"], ["train", "x", "--dataset-dir", "data", *RUN]):
        result = mypt(*words, ok=False)
        assert result.exit_code == 2 and "a format with the magic number 20250101, version 3" in flat(result.stderr)


def test_a_header_in_the_other_byte_order_is_named() -> None:
    head = np.frombuffer(header(20240520, 1, 8), "<i4").byteswap().tobytes()
    with pytest.raises(InputError, match=r"big-endian order \(20240520\)"):
        layout_by_header(Path("x.bin"), head, 1040)


def test_shards_of_two_vocabularies_are_refused(tmp_path: Path) -> None:
    folder = llama3(tmp_path)
    np.arange(90, dtype="<u2").tofile(folder / "train_more.bin")
    with pytest.raises(InputError, match=r"two vocabularies: .*x_val_000000\.bin has Llama 3's, and .*train_more\.bin"):
        open_shards(folder)
    (folder / "train_more.bin").unlink()
    (folder / "meta.pkl").write_bytes(pickle.dumps({"itos": {0: "a"}}))
    with pytest.raises(InputError, match=r"two vocabularies: .*meta\.pkl says otherwise"):
        open_shards(folder)


# widths


def ids_of(kind: str, count: int) -> Any:
    rng = np.random.default_rng(count)
    if kind == "text":
        text = "".join(topics.values())[: 12 * count + 1000]
        return np.resize(Tokenizer.gpt2().encode(text).astype(np.int64), count)
    if kind == "Llama 3's":
        return np.where(rng.random(count) < 0.6, rng.zipf(1.3, count) % 128_256, rng.integers(0, 128_256, count))
    return rng.integers(0, {"characters": 65, "ten letters": 10}[kind], count)


@pytest.mark.parametrize("count", [100, 1001, 3 * PROBE_BYTES])
@pytest.mark.parametrize("dtype", ["<u2", ">u2", "<u4", ">u4", "<i4", "<i8", ">i8"])
@pytest.mark.parametrize("kind", ["text", "characters", "ten letters", "Llama 3's"])
def test_ids_of_another_width_are_told_and_their_command_converts_them(
    kind: str, dtype: str, count: int, tmp_path: Path
) -> None:
    if kind == "Llama 3's" and "2" in dtype:
        return
    ids = ids_of(kind, count)
    path = tmp_path / "train.bin"
    ids.astype(dtype).tofile(path)
    size = path.stat().st_size
    found = misread(path, size, GPT2_TOKENS)
    if dtype == "<u2":
        assert found is None
        return
    if kind != "characters" and dtype == ">u2" and count == 100:  # too few to tell of a hundred by chance
        assert found is None or found.dtype == ">u2"
        return
    assert found is not None
    assert found.dtype == dtype.replace("i", "u") or (found.dtype[0] + "u4", size % 8) == (dtype.replace("i", "u"), 0)
    with pytest.raises(InputError, match=r"have to be uint16, and train\.bin .* look otherwise") as error:
        layouts_of(tmp_path, [path], GPT2_TOKENS)
    if count == 1001:
        subprocess.run(error.value.details[0].replace("python", sys.executable, 1), shell=True, check=True)
        layout = layouts_of(tmp_path, [path], GPT2_TOKENS)[path]
        assert np.array_equal(np.fromfile(path, layout.dtype, offset=layout.header), ids)
        assert (layout.vocabulary is not None) == (kind == "Llama 3's") and path.with_name("train.bin.bak").is_file()


@st.composite
def honest_ids(draw: st.DrawFn) -> Any:
    """Streams of uint16 ids: of large and small vocabularies, of few ids, of one, and pieces of them in a row."""
    count = draw(st.integers(0, 3000))
    kind = draw(st.sampled_from(["any", "skewed", "characters", "few", "one", "pieces"]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    top = draw(st.integers(2, GPT2_TOKENS))
    if kind == "any":
        return rng.integers(0, top, count)
    if kind == "skewed":
        return rng.zipf(draw(st.floats(1.1, 3.0)), count) % top
    if kind == "characters":
        return rng.integers(0, draw(st.integers(2, 99)), count)
    if kind == "few":
        return rng.choice(np.array(draw(st.lists(st.integers(0, GPT2_TOKENS - 1), min_size=2, max_size=9))), count)
    if kind == "one":
        return np.full(count, draw(st.integers(0, GPT2_TOKENS - 1)))
    return np.concatenate([draw(honest_ids()), draw(honest_ids())])


@given(honest_ids())
@settings(max_examples=400)
def test_honest_ids_are_never_taken_for_anything_else(tmp_path_factory: pytest.TempPathFactory, ids: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "train.bin"
    ids.astype("<u2").tofile(path)
    layout = layouts_of(path.parent, [path], GPT2_TOKENS)[path]
    assert (layout.dtype, layout.header, layout.tokens) == (np.dtype("<u2"), 0, len(ids))


@given(arrays(np.dtype("<u2"), st.integers(0, 40)))
def test_short_files_are_never_taken_for_anything_else(ids: Any) -> None:
    assert layout_by_header(Path("x"), ids.tobytes(), ids.nbytes) is None
    assert other_format(ids.tobytes(), ids.nbytes) is None or ids.nbytes > 16


@pytest.mark.parametrize("tokenization", ["gpt2", "char"])
def test_ids_of_a_text_are_never_taken_for_anything_else(tokenization: str, tmp_path: Path) -> None:
    """From every place of a text, at which another token begins the file."""
    text = "".join(topics.values())[:60_000]
    ids = (Tokenizer.gpt2() if tokenization == "gpt2" else Tokenizer.char(text)).encode(text)
    path = tmp_path / "train.bin"
    for start in range(300):
        ids[start:].astype("<u2").tofile(path)
        assert layouts_of(tmp_path, [path], GPT2_TOKENS)[path].header == 0


def test_a_sequence_that_alternates_with_0_needs_a_header(tmp_path: Path) -> None:
    """The hard case: `5 0 7 0` is two ids as uint32 and four as uint16, and nothing in the file says which."""
    ids = np.zeros(2000, "<u2")
    ids[::2] = np.arange(1000) % 60 + 1
    for name in ("train", "val"):
        ids.tofile(tmp_path / f"{name}.bin")
    with pytest.raises(
        InputError, match=r"(?s)train.bin \(32-bit .*val.bin \(32-bit .* a header says that they are uint16"
    ):
        open_shards(tmp_path)
    for name in ("train", "val"):  # as docs/data.md has it
        (tmp_path / f"{name}.bin").write_bytes(header(20240520, 1, len(ids)) + ids.tobytes())
    assert len(open_shards(tmp_path).splits["val"]) == 2000
    ids[1001] = 9  # one exception is enough
    ids.tofile(tmp_path / "val.bin")
    assert misread(tmp_path / "val.bin", 4000, GPT2_TOKENS) is None


# files of other formats


def other_files() -> dict[str, bytes]:
    text = ("To be, or not to be: that is the question, whether it is nobler.\n" * 90).encode()
    npy, npz, tensors, tar = io.BytesIO(), io.BytesIO(), io.BytesIO(), io.BytesIO()
    np.save(npy, np.arange(900, dtype=np.uint16))
    np.savez(npz, a=np.arange(900))
    torch.save({"a": torch.zeros(900)}, tensors)
    with tarfile.open(fileobj=tar, mode="w") as archive:
        info = tarfile.TarInfo("a.txt")
        info.size = len(text)
        archive.addfile(info, io.BytesIO(text))
    name = json.dumps({"a": {"dtype": "U16", "shape": [4], "data_offsets": [0, 8]}}).encode()
    return {
        "a NumPy array": npy.getvalue(),
        "a ZIP file": npz.getvalue(),
        "a ZIP file (": tensors.getvalue(),
        "packed by gzip": gzip.compress(np.arange(9000, dtype="<u2").tobytes()),
        "packed by bzip2": bz2.compress(text),
        "packed by xz": lzma.compress(text),
        "packed by zstd": b"\x28\xb5\x2f\xfd" + bytes(range(200)),
        "a tar file": tar.getvalue(),
        "the index of Megatron's data": b"MMIDIDX\x00\x00" + bytes(range(200)),
        "a safetensors file": len(name).to_bytes(8, "little") + name + bytes(8),
        "a text": text,
        "a text in UTF-16": text.decode().encode("utf-16"),
        "a text, of Greek": (
            "μῆνιν ἄειδε θεὰ Πηληϊάδεω Ἀχιλῆος οὐλομένην, ἣ μυρί' Ἀχαιοῖς ἄλγε' ἔθηκε\n" * 99
        ).encode(),
        "a parquet file": b"PAR1" + bytes(range(200)),
        **{f"a Python pickle, {v}": pickle.dumps(list(range(2000)), protocol=v) for v in range(2, 6)},
        "a Python pickle, short": pickle.dumps([1], protocol=2),
    }


@pytest.mark.parametrize("name", other_files())
def test_a_file_of_another_format_is_named(name: str, mypt: Mypt) -> None:
    Path("data").mkdir()
    np.arange(90, dtype="<u2").tofile("data/val.bin")
    Path("data/train.bin").write_bytes(other_files()[name])
    for words in (["data", "inspect", "data", "--check"], ["train", "x", "--dataset-dir", "data", *RUN]):
        result = mypt(*words, ok=False)
        assert result.exit_code == 2 and name.split(",")[0] in flat(result.stderr), result.stderr
        assert "data/train.bin holds no token ids" in flat(result.stderr)
    assert zipfile.is_zipfile(io.BytesIO(other_files()["a ZIP file"]))


# ids whose vocabulary is not known


def test_ids_without_a_vocabulary_are_trained_on(mypt: Mypt) -> None:
    llama3(Path("data"))
    text = flat(mypt("data", "inspect", "data", "--check").output)
    assert "ids, 128,256 tokens" in text and "uint32" in text and "<|" in text and "0 faults" in text
    mypt("train", "a", "--dataset-dir", "data", *RUN)
    state = read_state(Path("checkpoints/a"))
    assert state.data is not None and state.data.tokenization == "ids" and state.data.train_tokens == 400
    assert state.progress.last_val_loss is not None and state.progress.last_val_bpb is None
    assert json.loads(Path("checkpoints/a/config.json").read_text())["vocab_size"] == 128_256
    mypt("resume", "a", "--max-iters", "6")
    for verb in (["verify", "a"], ["verify", "a_fp16"], ["verify", "a_gold"], ["inspect", "a"], ["reproduce", "a"]):
        mypt(*verb)
    assert mypt("generate", "a", "--max-new-tokens", "5").output.count("<|") >= 5
    result = mypt("generate", "a", "--prompt", "To be", ok=False)
    assert result.exit_code == 2 and "the vocabulary of the training data is not known" in flat(result.stderr)
    result = mypt("train", "b", "--dataset-dir", "data", "--eval-set", "more=input.txt", *RUN, ok=False)
    assert result.exit_code == 2 and "the vocabulary of the training data is not known" in flat(result.stderr)
    result = mypt("train", "b", "--dataset-dir", "data", "--tokenization", "gpt2", *RUN, ok=False)
    assert result.exit_code == 2 and "data was made with ids." in flat(result.stderr)
    mypt("train", "b", "--dataset-dir", "data", "--init-from-model", "a", "--eval-set", "more=data", *RUN)


def test_only_equal_numbers_of_ids_can_mean_the_same() -> None:
    few, many = (TokenizerFile(token_kind="ids", vocab_size=size) for size in (100, 200))
    assert few.extends(few) and not many.extends(few) and not few.extends(many)
    for size, special in ((0, None), (1 << 30, None), (9, ("<|end|>",))):
        with pytest.raises(ValueError, match="ids without a vocabulary"):
            TokenizerFile(token_kind="ids", vocab_size=size, special=special)


# names


def touch(folder: Path, *names: str) -> None:
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        (np.arange(50 + number, dtype="<u2") * 7 + number).tofile(path)


def found(folder: Path) -> dict[str, list[str]]:
    return {
        split: [Path(p.name).relative_to(folder).as_posix() for p in tokens.parts]
        for split, tokens in open_shards(folder).splits.items()
    }


TRAIN = ["train.bin", "x_train_000001.bin", "retrieval_train_1.bin", "train/0.bin", "Training/a.BIN",
         "evaltrain-train.bin", "my-TRAIN.bin", "train1.bin", "approval/train.bin", "caval_train.bin"]  # fmt: skip
VAL = ["val.bin", "x_val_000000.bin", "validation/0.bin", "valid.bin", "dev.bin", "x.dev.1.bin", "constrained_val.bin",
       "retrain/val.bin", "VAL.bin"]  # fmt: skip
NEITHER = ["test.bin", "eval.bin", "trainer.bin", "strain.bin", "develop.bin", "data.bin"]
NEVER = [".train.bin", "._train.bin", ".ipynb_checkpoints/train.bin", "__MACOSX/train.bin", "train.bin~",
         "train.bin.bak", "train copy.bin", "train copy 2.bin", "train (1).bin", "Copy of train.bin",
         "backup/train.bin", "train.bin.gz",
         "train_backup.bin", "train - Kopie.bin", "train_mask.bin", "train.npy"]  # fmt: skip


@pytest.mark.parametrize("name", [*TRAIN, *VAL, *NEITHER, *NEVER])
def test_the_split_of_a_file_is_told_by_whole_words(name: str, tmp_path: Path) -> None:
    (tmp_path / "nested").mkdir()
    touch(tmp_path, "a_train.bin", "a_val.bin", name)
    splits = {"train": ["a_train.bin"], "val": ["a_val.bin"]}
    for split, names in (("train", TRAIN), ("val", VAL)):
        splits[split] += [name] if name in names else []
    assert {s: sorted(names) for s, names in found(tmp_path).items()} == {s: sorted(n) for s, n in splits.items()}
    left_out = open_shards(tmp_path).left_out
    assert len(left_out) == (name not in (*TRAIN, *VAL))
    if left_out:
        shown = left_out[0].path.relative_to(tmp_path).as_posix()
        assert name.startswith(shown)
        assert (left_out[0].reason == "its path says neither train nor val") == (name in NEITHER)


@pytest.mark.parametrize("name", ["train_val.bin", "train/val.bin", "dev/training_1.bin", "Train.VALID.bin"])
def test_a_path_of_both_splits_is_refused(name: str, tmp_path: Path) -> None:
    touch(tmp_path, "a_train.bin", "a_val.bin", name)
    with pytest.raises(InputError, match="says both train and val"):
        open_shards(tmp_path)


@pytest.mark.parametrize("link", [os.link, os.symlink])
def test_a_file_of_two_names_is_read_once_and_in_one_split(link: Any, tmp_path: Path) -> None:
    touch(tmp_path, "train.bin", "val.bin")
    link(tmp_path / "train.bin", tmp_path / "train_again.bin")
    assert found(tmp_path) == {"train": ["train.bin"], "val": ["val.bin"]}
    assert "the same file as train.bin" in open_shards(tmp_path).left_out[0].reason
    link(tmp_path / "train.bin", tmp_path / "val_again.bin")
    with pytest.raises(InputError, match="are one file"):
        open_shards(tmp_path)


def test_links_to_folders_are_followed_once(tmp_path: Path) -> None:
    touch(tmp_path, "data/val.bin", "data/real_train/0.bin", "elsewhere/1.bin", "elsewhere/deep/2.bin")
    (tmp_path / "data/train").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data/train_twice").symlink_to(tmp_path / "data/real_train")
    (tmp_path / "elsewhere/round").symlink_to(tmp_path / "data")
    names = ["real_train/0.bin", "train/1.bin", "train/deep/2.bin"]
    assert found(tmp_path / "data") == {"train": names, "val": ["val.bin"]}


def test_what_is_left_out_is_told(mypt: Mypt) -> None:
    touch(Path("data"), "train.bin", "val.bin", "train (1).bin", ".ipynb_checkpoints/val.bin", "readme.md", "input.txt")
    line = f"Left out of {Path('data').absolute()}: .ipynb_checkpoints (hidden), train (1).bin (a backup or a copy)."
    assert line in flat(mypt("data", "inspect", "data").output)
    told = json.loads(mypt("data", "inspect", "data", "--json").output)["left_out"]
    assert [item["file"] for item in told] == [".ipynb_checkpoints", "train (1).bin"]
    for verb in (["train", "a", "--dataset-dir", "data", *RUN], ["resume", "a", "--max-iters", "6"]):
        result = mypt(*verb)
        assert flat(result.output + result.stderr).count(line) == 1
    Path("data/val.bin").unlink()
    assert line in flat(mypt("train", "b", "--dataset-dir", "data", *RUN, ok=False).stderr)


@pytest.mark.parametrize("command", [["data", "inspect"], ["train", "x", *RUN, "--dataset-dir"]])
def test_a_folder_of_several_datasets_is_refused_with_their_names(command: list[str], mypt: Mypt) -> None:
    touch(Path("data"), "a/train.bin", "a/val.bin", "b/x_train_0.bin", "b/x_val_0.bin", "c/train/0.bin", "c/val/0.bin")
    result = mypt(*command, "data", ok=False)
    said = flat(result.stderr)
    assert result.exit_code == 2 and "is no dataset but holds several: a, b, c." in said
    assert f"such as {Path('data').absolute()}/a." in said
    mypt(*command, "data/a")


def test_a_dataset_of_its_own_in_a_folder_is_never_read_as_a_part(mypt: Mypt) -> None:
    Path("texts.txt").write_text("<|endoftext|>".join(f"text number {i}" for i in range(60)), encoding="utf-8")
    mypt("prepare", "texts.txt", "--out", "data/own", "--tokenization", "char", "--val-share", "0.5")
    with pytest.raises(InputError, match="holds one: own"):
        open_shards("data")
    touch(Path("data"), "train.bin", "val.bin")
    with pytest.raises(InputError, match=r"holds one: own|holds several: files of its own, own"):
        open_shards("data")
    Path("data/own/dataset_metadata.json").unlink()
    with pytest.raises(InputError, match=r"has a tokenizer\.json but no dataset_metadata\.json"):
        open_shards("data/own")
    Path("data/own/.unfinished").mkdir()
    with pytest.raises(InputError, match="is not finished"):
        open_shards("data/own")
    touch(Path("chars"), "sub/train.bin", "sub/val.bin")
    Path("chars/sub/meta.pkl").write_bytes(pickle.dumps({"itos": {i: chr(i + 32) for i in range(500)}}))
    with pytest.raises(InputError, match="holds one: sub"):
        open_shards("chars")


# empty splits


@pytest.mark.parametrize("missing", ["train", "val"])
@pytest.mark.parametrize("kind", ["plain", "llm.c"])
def test_a_dataset_with_one_split_can_be_looked_at(kind: str, missing: str, mypt: Mypt) -> None:
    there = "val" if missing == "train" else "train"
    ids = np.arange(90, dtype="<u2")
    Path("data").mkdir()
    Path(f"data/{there}.bin").write_bytes((header(20240520, 1, 90) if kind == "llm.c" else b"") + ids.tobytes())
    told = json.loads(mypt("data", "inspect", "data", "--check", "--json").output)
    assert told["splits"][there]["tokens"] == 90 and told["splits"][missing]["tokens"] == 0
    assert "90" in mypt("data", "inspect", "data").output
    result = mypt("train", "x", "--dataset-dir", "data", *RUN, ok=False)
    assert result.exit_code == 2 and f"has no tokens for {missing}." in flat(result.stderr)
    assert f"put files there such as {missing}.bin" in flat(result.stderr)
    touch(Path("whole"), "train.bin", "val.bin")
    result = mypt("train", "x", "--dataset-dir", "whole", "--eval-set", "more=data", *RUN, ok=False)
    assert result.exit_code == (0 if there == "val" else 2)


# earlier versions


def test_a_run_that_an_earlier_version_opened_by_substrings_is_the_same_or_refused(mypt: Mypt) -> None:
    touch(Path("data"), "train.bin", "val.bin")
    mypt("train", "a", "--dataset-dir", "data", *RUN)
    before = read_state(Path("checkpoints/a")).data
    touch(Path("data"), "test.bin", "trainer_notes.bin.txt")
    mypt("resume", "a", "--max-iters", "6")
    after = read_state(Path("checkpoints/a")).data
    assert before is not None and after is not None and before.fingerprint == after.fingerprint
    Path("data/val.bin").rename("data/eval.bin")
    touch(Path("data"), "dev.bin")
    result = mypt("resume", "a", "--max-iters", "8", ok=False)
    assert result.exit_code == 2 and "are not those of this run" in flat(result.stderr)
