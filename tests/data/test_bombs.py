"""Texts, vocabularies and metadata that are far more than they look like: refused in a sentence, in little memory."""

import gzip
import pickle
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mypt.data import streams
from mypt.data.inputs import rows
from mypt.data.shards import open_shards
from mypt.data.text import read_text
from mypt.errors import InputError
from tests.checkpoint.test_bombs import bounded
from tests.conftest import TINY, Mypt, flat

linux = pytest.mark.skipif(sys.platform != "linux", reason="bounds the memory of a forked process")
TRAIN = [*TINY, "--max-iters", "2", "--eval-interval", "2"]


def bomb(path: Path, megabytes: int, line: bytes = b"a" * (1 << 20)) -> None:
    """A gzip file of repetitions, in a thousandth of their bytes."""
    with gzip.open(path, "wb", compresslevel=9) as file:
        for _ in range(megabytes):
            file.write(line)


def refusal(work: Callable[[], object]) -> str:
    """What a bounded process says as it refuses."""
    told = bounded(work)
    assert isinstance(told, str) and told.startswith("InputError: "), told
    return told


@linux
def test_what_unpacks_to_far_more_than_text_can_is_refused_at_once(tmp_path: Path) -> None:
    bomb(tmp_path / "a.txt.gz", 200)
    assert "unpacks to more than 200 times" in refusal(lambda: read_text([str(tmp_path / "a.txt.gz")]))


@pytest.mark.parametrize("form", ["txt", "jsonl"])
def test_prepare_refuses_it_too(form: str, mypt: Mypt, folder: Path) -> None:
    bomb(folder / f"a.{form}.gz", 200)
    told = mypt("prepare", f"a.{form}.gz", "--out", "out", "--tokenization", "char", ok=False)
    assert told.exit_code == 2 and "200 times its size" in flat(told.stderr), told.stderr


def test_a_short_text_may_repeat_itself_as_often_as_it_likes(tmp_path: Path) -> None:
    bomb(tmp_path / "a.txt.gz", 4)
    assert len(read_text([str(tmp_path / "a.txt.gz")]).content) == 4 << 20


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
def test_a_text_that_memory_does_not_hold_is_told_to_be_prepared(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "free_memory", lambda: 4 << 20)
    bomb(tmp_path / "a.txt.gz", 3)
    (tmp_path / "a.txt").write_bytes(b"a" * (3 << 20))
    with pytest.raises(InputError, match=r"too large to be read as a whole.*1\.0 MB") as told:
        read_text([str(tmp_path / name)])
    assert "mypt prepare" in told.value.todo


@linux
@pytest.mark.parametrize("name", ["input.txt", "input.txt.gz"])
@pytest.mark.parametrize("verb", ["resume", "reproduce", "verify"])
def test_of_a_recorded_text_that_has_grown_no_more_is_read_than_was_recorded(
    name: str, verb: str, mypt: Mypt, folder: Path
) -> None:
    if name.endswith(".gz"):
        (folder / name).write_bytes(gzip.compress((folder / "input.txt").read_bytes()))
    mypt("train", "m", "--input-file", name, *TRAIN)
    if name.endswith(".gz"):
        bomb(folder / name, 200)
    else:
        with (folder / name).open("r+b") as file:
            file.truncate(1 << 40)
    words = ["--max-iters", "4"] if verb == "resume" else []

    def call() -> tuple[int, str]:
        result = mypt(verb, "m", *words, ok=False)
        return result.exit_code, flat(result.output + result.stderr)

    code, told = bounded(call)
    wanted = "was changed since" if verb == "verify" else "bytes that the text of this run can have"
    assert code == (1 if verb == "verify" else 2) and wanted in told, told


@pytest.mark.parametrize("gzipped", [False, True])
def test_a_line_without_end_is_refused_before_it_is_whole(
    gzipped: bool, mypt: Mypt, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "ROW_BYTES", 1 << 16)
    line = b'{"text": "' + b"ab" * (1 << 16)
    (folder / "a.jsonl").write_bytes(line)
    (folder / "b.jsonl.gz").write_bytes(gzip.compress(line))
    told = mypt("prepare", "b.jsonl.gz" if gzipped else "a.jsonl", "--out", "out", "--workers", "1", ok=False)
    assert told.exit_code == 2 and "line 1: it has 65,536 bytes or more" in flat(told.stderr), told.stderr


NESTED = b"\x80\x02)q\x00" + b"".join(b"h%ch%c\x86q%c" % (i, i, i + 1) for i in range(60)) + b"."
VOCABULARIES = {
    "nested tuples": (NESTED, "one container in several places"),
    "a memo of 4 billion": (b"\x80\x02}r\xf0\xff\xff\xff.", "itos"),
    "a byte array of 1 TB": (b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b".", "the instruction 0x96"),
    "a long text": (b"\x80\x04X\xff\xff\xff\x7fabc.", "cannot be read"),
    "more than a vocabulary": (pickle.dumps({"itos": {0: "a" * (5 << 20)}}), "more than the 4,194,304"),
    "words": (pickle.dumps({"itos": {0: "ab", 1: "c"}}), "not one character"),
    "one character twice": (pickle.dumps({"itos": {0: "a", 1: "a"}}), "there twice"),
    "no dictionary": (pickle.dumps([1]), "does not contain a character vocabulary"),
    "code": (b"cos\nsystem\n(X\x02\x00\x00\x00idtR.", "names os.system"),
}


@linux
@pytest.mark.parametrize("case", VOCABULARIES)
def test_a_vocabulary_that_is_none_is_refused(case: str, tmp_path: Path) -> None:
    for split in ("train", "val"):
        np.zeros(99, dtype="<u2").tofile(tmp_path / f"{split}.bin")
    content, said = VOCABULARIES[case]
    (tmp_path / "meta.pkl").write_bytes(content)
    assert said in refusal(lambda: open_shards(tmp_path))


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_a_vocabulary_of_any_protocol_is_read(protocol: int, tmp_path: Path) -> None:
    for split in ("train", "val"):
        np.zeros(99, dtype="<u2").tofile(tmp_path / f"{split}.bin")
    chars = [chr(code) for code in range(40, 70_000) if not 0xD800 <= code < 0xE000][:65_536]
    meta = {"vocab_size": len(chars), "itos": dict(enumerate(chars)), "stoi": {c: i for i, c in enumerate(chars)}}
    (tmp_path / "meta.pkl").write_bytes(pickle.dumps(meta, protocol))
    assert open_shards(tmp_path).tokenizer.chars == tuple(chars)


@linux
@pytest.mark.parametrize("name", ["dataset_metadata.json", "tokenizer.json"])
@pytest.mark.parametrize(
    ("content", "said"),
    [("[" * 100_000, "nested too deeply"), ('{"vocab_size": ' + "1" * 5000 + "}", "5,000 digits"), (None, "more than")],
    ids=["deep", "a long number", "a terabyte"],
)
def test_metadata_that_are_too_much_are_refused(
    name: str, content: str | None, said: str, mypt: Mypt, folder: Path
) -> None:
    (folder / "a.jsonl").write_text("".join(f'{{"text": "text {i}"}}\n' for i in range(40)), encoding="utf-8")
    mypt("prepare", "a.jsonl", "--out", "data", "--tokenization", "char", "--val-share", "0.5")
    path = folder / "data" / name
    if content is None:
        with path.open("r+b") as file:
            file.truncate(1 << 40)
    else:
        path.write_text(content, encoding="utf-8")
    assert said in refusal(lambda: open_shards(folder / "data"))
