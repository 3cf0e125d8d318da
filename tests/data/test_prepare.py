"""`mypt prepare`: what goes in comes out, nothing depends on luck, and every fault is told."""

import errno
import gzip
import hashlib
import io
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mypt.data.prepare import cuts, inputs, pipeline, shard_writer
from mypt.data.prepare.documents import Piece, read_pieces
from mypt.data.prepare.inputs import make_plan
from mypt.data.prepare.pipeline import prepare
from mypt.data.tokenizer import Tokenizer
from mypt.errors import BusyError, ConflictError, InputError, MyptError, StorageError
from mypt.schema.files.dataset import METADATA_FILE, DatasetMetadata, SplitRecord
from mypt.schema.files.tokenizer import END_OF_TEXT, TokenizerFile
from mypt.schema.settings.prepare import PrepareConfig
from tests.conftest import Mypt, flat, reseal, tiny_text

MARK = f"\n{END_OF_TEXT}\n"


def documents_of(count: int, words: int = 40) -> list[str]:
    return [f"Document {i}.\n\n" + " ".join(f"word{(i * j) % 97}" for j in range(words)) for i in range(count)]


def write_jsonl(path: Path, texts: list[str]) -> Path:
    path.write_text("".join(json.dumps({"text": t}) + "\n" for t in texts), encoding="utf-8")
    return path


def make(out: Path, *sources: Path | str, **values: object) -> DatasetMetadata:
    config = PrepareConfig(**{"workers": 1, "val_share": 0.3, **values})
    return prepare([str(s) for s in sources], out, config, lambda *_: None, print)


def read(out: Path, record: SplitRecord) -> list[int]:
    dtype = "<u2" if metadata_of(out).dtype == "uint16" else "<u4"
    return [int(i) for s in record.shards for i in np.fromfile(out / s.file, dtype=dtype)]


def metadata_of(out: Path) -> DatasetMetadata:
    return DatasetMetadata.model_validate_json((out / METADATA_FILE).read_bytes())


def tokenizer_of(out: Path) -> Tokenizer:
    return Tokenizer(TokenizerFile.model_validate_json((out / "tokenizer.json").read_bytes()))


def split_texts(out: Path, record: SplitRecord) -> list[str]:
    """What stands between the separators of a split."""
    tokenizer, separator = tokenizer_of(out), metadata_of(out).separator
    texts: list[str] = []
    current: list[int] = []
    for token in [*read(out, record)]:
        if token == separator:
            texts.append(tokenizer.decode(current))
            current = []
        else:
            current.append(token)
    return texts + ([tokenizer.decode(current)] if current else [])


def content(out: Path) -> dict[str, bytes]:
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranges, pieces and blocks so small that every border falls everywhere."""
    monkeypatch.setattr(inputs, "UNIT_BYTES", 50)
    sizes = {"SIGHT_BYTES": 64, "PIECE_BYTES": 16, "LOOKAHEAD_BYTES": 32, "LONGEST_BYTES": 1000, "BLOCK_BYTES": 64}
    for name, size in sizes.items():
        monkeypatch.setattr(cuts, name, size)


SNIPPETS = st.sampled_from(
    ["a", "word ", "don't", "è€日", "7", "\n", "\n\n", "\r\n", "\r\n\r\n", END_OF_TEXT, "<|end", "oftext|>", "日" * 20,
     " ", "\t", "\x1c", "\x85", "\xa0", "\u1680", "\u2003", "\u2028", "\u202f", "\u205f", "\u3000", "x" * 40]
)  # fmt: skip
TEXTS = st.lists(SNIPPETS, min_size=1, max_size=60).map("".join)


def document_pieces(paths: list[Path]) -> list[list[Piece]]:
    """The pieces of each document that the plan for some files yields."""
    plan = make_plan([str(path) for path in paths], PrepareConfig())
    found: list[list[Piece]] = [[]]
    for part in (part for unit in plan.units for part in unit.parts):
        for piece in read_pieces(plan, part):
            found[-1].append(piece)
            if piece.ends:
                found.append([])
    assert not found[-1]
    return found[:-1]


def documents_in(text: str) -> list[str]:
    """The documents of a text, one after the other, as docs/prepare.md tells it."""
    found = [part.rstrip("\r\n") for part in text.split(END_OF_TEXT)]
    return [d for d in (found[0], *(part.lstrip("\r\n") for part in found[1:])) if d]


@pytest.mark.usefixtures("small")
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(TEXTS, min_size=1, max_size=3))
def test_the_pieces_of_all_units_are_the_documents_of_the_texts(texts: list[str], tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.txt" for i in range(len(texts))]
    for path, text in zip(paths, texts, strict=True):
        path.write_bytes(text.encode("utf-8"))
    found = document_pieces(paths)
    whole = ["".join(piece.text for piece in pieces) for pieces in found]
    assert [t for t in whole if t] == [d for text in texts for d in documents_in(text)]
    for pieces, text in zip(found, whole, strict=True):
        if len(text.encode("utf-8")) <= 32 and len(texts) > 1:  # with the newlines around it, too
            assert len(pieces) == 1 or not text.strip("\r\n")


BPE = Tokenizer.train_bpe(tiny_text(), 400)
GPT2 = Tokenizer.gpt2()


@pytest.mark.usefixtures("small")
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=TEXTS)
def test_pieces_have_the_ids_of_the_whole(text: str, tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_bytes(text.encode("utf-8"))
    for pieces in document_pieces([tmp_path / "t.txt"]):
        texts = [piece.text for piece in pieces]
        for tokenizer in (GPT2, BPE):
            ids = [tokenizer.encode(t).tolist() for t in texts]
            for start in range(len(texts)):
                assert list(itertools.chain(*ids[start:])) == tokenizer.encode("".join(texts[start:])).tolist()


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("kind", ["gpt2", "char", "bpe"])
def test_shards_hold_the_ids_of_whole_documents(kind: str, tmp_path: Path) -> None:
    texts = [tiny_text()[i * 700 :][: 40 + i * 60] for i in range(12)] + ["\u3000日本\u2003\u2003x  y\t\tz " * 30]
    (tmp_path / "t.txt").write_text(MARK.join(texts), encoding="utf-8", newline="")
    out = tmp_path / "d"
    metadata = make(out, tmp_path / "t.txt", tokenization=kind, bpe_vocab_size=300, val_share=0.5)
    tokenizer = tokenizer_of(out)
    expected: dict[bool, list[int]] = {True: [], False: []}
    for pieces in document_pieces([tmp_path / "t.txt"]):
        runs = itertools.groupby((p for p in pieces if p.text), lambda p: shard_writer.in_val(p, 0.5))
        for in_val, run in runs:
            text = "".join(piece.text for piece in run)
            expected[in_val] += [*tokenizer.encode(text).tolist(), metadata.separator]
    separators = [read(out, split).count(metadata.separator) for split in (metadata.train, metadata.val)]
    assert min(separators) > 5 and len(metadata.train.shards) > 5
    for in_val, split in ((False, metadata.train), (True, metadata.val)):
        ids = [i for i in read(out, split) if i != metadata.separator]  # a separator that is missing at a unit's border
        assert ids == [i for i in expected[in_val] if i != metadata.separator]


def test_a_document_whose_end_is_in_sight_is_not_cut(tmp_path: Path) -> None:
    words = " ".join(f"word{i}" for i in range(3000))
    texts = [f"Book {i}.\n\n{words}\n" for i in range(100)]
    for i, text in enumerate(texts):
        (tmp_path / f"{i:03}.txt").write_text(text, encoding="utf-8")
    metadata = make(tmp_path / "d", tmp_path)
    found = [t for r in (metadata.train, metadata.val) for t in split_texts(tmp_path / "d", r)]
    assert len(words) > 20_000 and sorted(found) == sorted(text.rstrip() for text in texts)
    assert metadata.train.documents + metadata.val.documents == 100


def test_only_a_document_that_is_longer_than_one_can_see_is_cut(tmp_path: Path) -> None:
    line = "0123456789 " * 10 + "\n"
    sizes = [cuts.SIGHT_BYTES - 5000, cuts.SIGHT_BYTES + 5000]
    short, long = (line * (size // len(line)) for size in sizes)
    (tmp_path / "a.txt").write_text(f"{short}{MARK}{long}{MARK}{short}", encoding="utf-8")
    assert [len(pieces) > 1 for pieces in document_pieces([tmp_path / "a.txt"])] == [False, True, False]
    (tmp_path / "b.txt").write_text(short, encoding="utf-8")
    assert [len(pieces) > 1 for pieces in document_pieces([tmp_path / "b.txt"])] == [True]  # there is no other text
    both = document_pieces([tmp_path / "a.txt", tmp_path / "b.txt"])
    assert [len(pieces) > 1 for pieces in both] == [False, True, False, False]


def test_a_text_without_blanks_is_cut_after_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuts, "LONGEST_BYTES", 100_000)
    (tmp_path / "t.txt").write_text("日" * 100_000, encoding="utf-8")
    (pieces,) = document_pieces([tmp_path / "t.txt"])
    assert len(pieces) == 3 and "".join(piece.text for piece in pieces) == "日" * 100_000


@pytest.mark.usefixtures("small")
def test_a_text_without_marker_comes_out_whole_and_separated_where_it_breaks_off(tmp_path: Path) -> None:
    path, out = tmp_path / "t.txt", tmp_path / "d"
    path.write_text(tiny_text(), encoding="utf-8")
    metadata = make(out, path)
    parts = [t for r in (metadata.train, metadata.val) for t in split_texts(out, r)]
    assert sorted("".join(parts)) == sorted(tiny_text().rstrip("\n"))
    assert metadata.train.documents + metadata.val.documents == 1
    assert len(metadata.train.shards) > 5 and not (out / ".unfinished").exists()


def test_separators_follow_documents_and_the_newlines_around_markers_are_dropped(tmp_path: Path) -> None:
    texts = documents_of(40)
    (tmp_path / "t.txt").write_bytes(("\ufeff" + MARK.join(texts) + MARK).replace("\n", "\r\n").encode())
    metadata = make(tmp_path / "d", tmp_path / "t.txt")
    found = [t for r in (metadata.train, metadata.val) for t in split_texts(tmp_path / "d", r)]
    assert sorted(found) == sorted(t.replace("\n", "\r\n") for t in texts)
    assert metadata.train.documents + metadata.val.documents == 40
    for split in (metadata.train, metadata.val):
        assert read(tmp_path / "d", split)[-1] == metadata.separator == 50256


def test_json_lines_gz_folders_and_patterns_are_read_alike(tmp_path: Path) -> None:
    texts = [*documents_of(30), "<|end|> in a text is text"]
    folder = tmp_path / "in" / "deep"
    folder.mkdir(parents=True)
    lines = write_jsonl(folder / "a.jsonl", texts).read_bytes()
    (folder / "ignored.bin").write_bytes(b"\xff")
    whole = make(tmp_path / "d", tmp_path / "in")
    assert {t for r in (whole.train, whole.val) for t in split_texts(tmp_path / "d", r)} == set(texts)
    (folder / "a.jsonl").unlink()
    (folder / "a.jsonl.gz").write_bytes(gzip.compress(lines))
    zipped = make(tmp_path / "e", str(tmp_path / "in" / "**" / "*.gz"), tmp_path / "in")
    assert (zipped.train, zipped.val) == (whole.train, whole.val) and len(zipped.sources) == 1


@pytest.mark.usefixtures("small")
def test_json_lines_are_never_cut_whatever_the_units(tmp_path: Path) -> None:
    texts = documents_of(20)
    metadata = make(tmp_path / "d", write_jsonl(tmp_path / "a.jsonl", texts))
    assert sorted(t for r in (metadata.train, metadata.val) for t in split_texts(tmp_path / "d", r)) == sorted(texts)


def test_parquet_is_read_by_row(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    texts = documents_of(600, 3)
    parquet.write_table(pyarrow.table({"body": texts, "n": list(range(600))}), tmp_path / "t.parquet")
    metadata = make(tmp_path / "d", tmp_path / "t.parquet", text_field="body")
    assert sorted(t for r in (metadata.train, metadata.val) for t in split_texts(tmp_path / "d", r)) == sorted(texts)
    for bad in ("none", "n"):
        with pytest.raises(InputError, match=r"column|row 1"):
            make(tmp_path / "e", tmp_path / "t.parquet", text_field=bad)


def test_parquet_without_its_extra_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "t.parquet").write_bytes(b"PAR1")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(InputError, match=re.escape("pip install 'mypt[parquet]'")):
        make(tmp_path / "d", tmp_path / "t.parquet")


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("kind", ["gpt2", "char", "bpe"])
def test_the_metadata_is_true(kind: str, tmp_path: Path) -> None:
    path, out = tmp_path / "t.txt", tmp_path / "d"
    path.write_text(tiny_text(), encoding="utf-8")
    metadata = make(out, path, tokenization=kind, bpe_vocab_size=300)
    tokenizer = tokenizer_of(out)
    assert metadata.vocab_size == tokenizer.vocab_size and metadata.dtype == "uint16"
    assert tokenizer.file == tokenizer.file.with_special()
    assert metadata.separator == tokenizer.file.special_ids[END_OF_TEXT]
    assert metadata.sources[0].sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (metadata.sources[0].path, metadata.sources[0].bytes) == (str(path), path.stat().st_size)
    for split in (metadata.train, metadata.val):
        for shard in split.shards:
            ids = np.fromfile(out / shard.file, dtype="<u2")
            assert (shard.tokens, shard.max_id) == (len(ids), ids.max())
            assert shard.sha256 == hashlib.sha256((out / shard.file).read_bytes()).hexdigest()
        assert split.tokens == sum(s.tokens for s in split.shards)
    listed = {s.file for r in (metadata.train, metadata.val) for s in r.shards}
    assert {name for name in content(out) if name.endswith(".bin")} == listed


def test_a_large_vocabulary_takes_four_bytes(tmp_path: Path) -> None:
    chars = [chr(c) for c in range(0x20, 0x12000) if not 0xD800 <= c < 0xE000]
    (tmp_path / "t.txt").write_text("".join(chars), encoding="utf-8", newline="")
    metadata = make(tmp_path / "d", tmp_path / "t.txt", tokenization="char", val_share=0.5)
    assert metadata.dtype == "uint32" and metadata.vocab_size > 2**16
    parts = [t for r in (metadata.train, metadata.val) for t in split_texts(tmp_path / "d", r)]
    assert sorted("".join(parts)) == chars


def test_a_document_stays_in_its_split_whatever_is_added(tmp_path: Path) -> None:
    texts = documents_of(60)
    write_jsonl(tmp_path / "a.jsonl", texts)
    before = make(tmp_path / "d", tmp_path / "a.jsonl")
    write_jsonl(tmp_path / "0.jsonl", ["new " + t for t in texts] + texts[:10])
    after = make(tmp_path / "e", tmp_path / "a.jsonl", tmp_path / "0.jsonl")
    old, new = ({name: set(split_texts(out, getattr(m, name))) for name in ("train", "val")}
                for out, m in ((tmp_path / "d", before), (tmp_path / "e", after)))  # fmt: skip
    assert old["train"] <= new["train"] and old["val"] <= new["val"] and not new["train"] & new["val"]
    assert 5 < len(old["val"]) < 35


def test_the_tokenizer_of_a_dataset_or_bundle_gives_the_same_ids(mypt: Mypt, folder: Path) -> None:
    from mypt.checkpoint.files import read_tokenizer, write_json
    from mypt.checkpoint.layout import CONFIG_FILE

    bundle = folder / "checkpoints" / "m"
    bundle.mkdir(parents=True)
    (bundle / CONFIG_FILE).write_text("{}", encoding="utf-8")
    write_json(bundle / "tokenizer.json", Tokenizer.char(tiny_text()).file)
    reseal(bundle)
    write_jsonl(folder / "a.jsonl", [w * 3 for w in tiny_text().split()])
    call = ["prepare", "a.jsonl", "--val-share", "0.3", "--workers", "1", "--out"]
    for base in ("m", "checkpoints/m"):
        mypt(*call, f"of_{Path(base).parent.name}", "--tokenizer-of", base)
    mypt(*call, "again", "--tokenizer-of", "of_checkpoints")
    made = tokenizer_of(folder / "again").file
    assert made.extends(read_tokenizer(bundle)) and made.special
    assert content(folder / "of_") == content(folder / "of_checkpoints") == content(folder / "again")
    (folder / "b.jsonl").write_text('{"text": "Ж"}\n', encoding="utf-8")
    failed = mypt("prepare", "b.jsonl", "--out", "no", "--tokenizer-of", "again", ok=False)
    assert failed.exit_code == 2 and "b.jsonl" in failed.stderr and "'Ж'" in failed.stderr
    failed = mypt("prepare", "a.jsonl", "--out", "no", "--tokenizer-of", "m", "--tokenization", "gpt2", ok=False)
    assert failed.exit_code == 2 and "leave out tokenization" in failed.stderr
    assert mypt("prepare", "a.jsonl", "--out", "no", "--tokenizer-of", "nobody", ok=False).exit_code == 2
    assert not (folder / "no").exists()


def test_in_a_chat_only_what_the_assistant_says_counts(tmp_path: Path) -> None:
    turns = [("system", "Be kind."), ("user", "Hi!"), ("assistant", "Hello you."), ("user", "Bye"), ("assistant", "")]
    talks = [[(r, f"{t}{i}" if t else t) for r, t in turns] for i in range(20)]
    lines = [json.dumps({"messages": [{"role": r, "content": t} for r, t in talk]}) for talk in talks]
    (tmp_path / "a.jsonl").write_text("\n".join(lines), encoding="utf-8")
    out = tmp_path / "d"
    metadata = make(out, tmp_path / "a.jsonl", chat=True)
    tokenizer = tokenizer_of(out)
    special = tokenizer.file.special_ids
    expected = set()
    for talk in talks:
        ids: list[int] = []
        mask: list[int] = []
        for role, text in talk:
            said, counts = tokenizer.encode(text).tolist(), int(role == "assistant")
            ids += [special[f"<|{role}|>"], *said, special["<|end|>"]]
            mask += [0] + [counts] * (len(said) + 1)
        expected.add(((*ids, metadata.separator), (*mask, 0)))
    found = set()
    for split in (metadata.train, metadata.val):
        for shard in split.shards:
            ids = np.fromfile(out / shard.file, dtype="<u2").tolist()
            mask_file = out / shard.file.replace(".bin", "_mask.bin")
            mask = np.fromfile(mask_file, dtype=np.uint8).tolist()
            assert shard.mask_sha256 == hashlib.sha256(mask_file.read_bytes()).hexdigest() and len(mask) == len(ids)
            ends = [i + 1 for i, token in enumerate(ids) if token == metadata.separator]
            found |= {(tuple(ids[a:b]), tuple(mask[a:b])) for a, b in zip([0, *ends], ends, strict=False)}
    assert found == expected and metadata.masked and metadata.train.documents + metadata.val.documents == 20


def test_two_processes_make_what_one_makes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "t.txt").write_text(MARK.join(documents_of(300)), encoding="utf-8")
    write_jsonl(tmp_path / "u.jsonl", documents_of(100))
    monkeypatch.setattr(inputs, "UNIT_BYTES", 30_000)
    make(tmp_path / "one", tmp_path / "t.txt", tmp_path / "u.jsonl")
    make(tmp_path / "two", tmp_path / "t.txt", tmp_path / "u.jsonl", workers=2)
    assert content(tmp_path / "one") == content(tmp_path / "two")
    assert len(metadata_of(tmp_path / "one").train.shards) > 3


KILLABLE = """
import sys
from mypt.data.prepare import inputs
inputs.UNIT_BYTES = 200_000
sys.argv = ["mypt", "prepare", "t.txt", "--out", "d", "--workers", "2", "--val-share", "0.3"]
from mypt.cli.app import main
if __name__ == "__main__":
    main()
"""


@pytest.mark.skipif(os.name == "nt", reason="kills a process group")
def test_kills_leave_no_trace_in_the_result(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text(MARK.join(documents_of(8000)), encoding="utf-8")
    (tmp_path / "call.py").write_text(KILLABLE, encoding="utf-8")
    call = [sys.executable, "call.py"]
    out, kills = tmp_path / "d", 0
    kept: dict[Path, int] = {}
    for finished in (0, 2, 5, 9):
        process = subprocess.Popen(call, cwd=tmp_path, start_new_session=True, stdout=subprocess.DEVNULL)
        while process.poll() is None and len(list((out / ".unfinished").glob("0*.json"))) <= finished:
            time.sleep(0.002)
        time.sleep(0.01 * finished)
        kills += process.poll() is None
        os.killpg(process.pid, signal.SIGKILL) if process.poll() is None else None
        process.wait()
        done = {p.stem for p in (out / ".unfinished").glob("0*.json") if re.fullmatch(r"\d{5}", p.stem)}
        now = {p: p.stat().st_mtime_ns for p in out.glob("*/*.bin") if p.stem in done and p.parent.name[0] != "."}
        assert all(now[p] == mtime for p, mtime in kept.items() if p in now)
        kept |= now
    assert kills >= 3
    if not (out / METADATA_FILE).exists():
        subprocess.run(call, cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)
    assert kept and all(p.stat().st_mtime_ns == mtime for p, mtime in kept.items())
    broken = content(out)
    out.rename(tmp_path / "broken")
    subprocess.run(call, cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)
    assert content(out) == broken


@pytest.mark.skipif(os.name == "nt", reason="sends SIGINT")
def test_an_interrupt_ends_the_workers_and_says_how_to_go_on(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text(MARK.join(documents_of(12000)), encoding="utf-8")
    (tmp_path / "call.py").write_text(KILLABLE, encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, "-c", "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
         "import runpy; runpy.run_path('call.py', run_name='__main__')"],
        cwd=tmp_path, start_new_session=True, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while process.poll() is None and not list((tmp_path / "d" / ".unfinished").glob("0*.json")):
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=10)
    assert process.returncode == 130 and "the same call goes on" in said and "Traceback" not in said
    with pytest.raises(ProcessLookupError):
        for _ in range(200):
            os.killpg(process.pid, 0)
            time.sleep(0.01)


FAULTS: dict[str, tuple[bytes, list[str], str]] = {
    "missing.txt": (b"", [], "does not exist"),
    "empty.txt": (b"", [], "is empty"),
    "latin.txt": (b"caf\xe9 ol\xe9", [], "latin.txt is not UTF-8: byte 0xe9 at offset 3"),
    "half.txt.gz": (gzip.compress(b"abc" * 999)[:-9], [], "cannot be unpacked as a whole"),
    "broken.jsonl": (b'{"text": "a"}\n{"text": \n', [], "broken.jsonl, line 2: this is not JSON"),
    "field.jsonl": (b'{"text": "a"}\n\n{"body": "b"}\n', [], "line 3: there is no text in a field 'text'"),
    "twice.jsonl": (b'{"text": "a", "meta": 1, "text": "b"}\n', [], "line 1: text is given more than once"),
    "utf.jsonl": (b'{"text": "a\xff"}\n', [], "line 1: this is not UTF-8"),
    "pair.jsonl": (b'{"text": "\\ud800"}\n', [], "line 1: a \\u escape stands for half of a character"),
    "list.jsonl": (b"[1]\n", ["--chat"], "line 1: it is no JSON object"),
    "role.jsonl": (b'{"messages": [{"role": "bot", "content": "a"}]}', ["--chat"], "message 1 has the role 'bot'"),
    "again.jsonl": (
        b'{"messages": [{"role": "user", "content": "a", "content": "b"}]}',
        ["--chat"],
        "line 1: messages[0].content is given more than once",
    ),
    "said.jsonl": (b'{"messages": [{"role": "user"}]}', ["--chat"], "message 1 has no text"),
    "chat.txt": (b"hello", ["--chat"], "is plain text"),
    "short.txt": (b"hello", [], "leave no token for"),
    "share.txt": (b"hello", ["--val-share", "1.1"], "val_share 1.1: must be less than or equal to 1"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_told_with_their_place_and_leave_nothing(name: str, mypt: Mypt, folder: Path) -> None:
    data, options, said = FAULTS[name]
    if name != "missing.txt":
        (folder / name).write_bytes(data)
    failed = mypt("prepare", name, "--out", "d", "--workers", "1", *options, ok=False)
    assert failed.exit_code == 2 and said in flat(failed.stderr), failed.stderr
    assert "Traceback" not in failed.stderr and not (folder / "d").exists()


def test_all_unusable_inputs_are_listed(mypt: Mypt, folder: Path) -> None:
    (folder / "empty.txt").touch()
    (folder / "nothing").mkdir()
    said = flat(mypt("prepare", "no.txt", "*.nix", "empty.txt", "nothing", "--out", "d", ok=False).stderr)
    assert "4 inputs cannot be used" in said and "no.txt" in said and "*.nix" in said and "nothing is a folder" in said


def test_a_fault_in_a_worker_process_is_told_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "UNIT_BYTES", 1000)
    (tmp_path / "t.txt").write_bytes(MARK.join(documents_of(20)).encode() + b"\n\n\xff")
    with pytest.raises(InputError) as caught:
        make(tmp_path / "d", tmp_path / "t.txt", workers=2)
    assert f"byte 0xff at offset {(tmp_path / 't.txt').stat().st_size - 1}" in caught.value.what
    assert not (tmp_path / "d" / METADATA_FILE).exists()


def test_a_folder_that_holds_something_else_is_refused(mypt: Mypt, folder: Path) -> None:
    write_jsonl(folder / "a.jsonl", documents_of(30))
    (folder / "full").mkdir()
    (folder / "full" / "letter.txt").write_text("dear", encoding="utf-8")
    call = ["prepare", "a.jsonl", "--val-share", "0.3", "--workers", "1", "--out"]
    said = mypt(*call, "full", ok=False)
    assert said.exit_code == 2 and "not empty" in said.stderr
    done = mypt(*call, "d").output
    assert "documents" in done and "mypt train NAME --dataset-dir d" in done
    before = content(folder / "d")
    said = mypt(*call, "d", ok=False)
    assert said.exit_code == 2 and "complete dataset" in said.stderr and content(folder / "d") == before


@pytest.mark.parametrize("place", ["", "train", ".unfinished", "own/deep"])
def test_what_someone_laid_into_the_folder_stays(place: str, mypt: Mypt, folder: Path) -> None:
    """Before the first call it is in the way; beside an unfinished dataset it outlives a call that fails."""
    write_jsonl(folder / "a.jsonl", documents_of(2))
    call = ["prepare", "a.jsonl", "--val-share", "0.5", "--workers", "1", "--out", "d"]
    note = folder / "d" / place / "letter.txt"
    note.parent.mkdir(parents=True)
    note.write_text("dear", encoding="utf-8")
    said = mypt(*call, ok=False)
    assert said.exit_code == 2 and "not empty" in said.stderr and list(content(folder / "d").values()) == [b"dear"]
    shutil.rmtree(folder / "d")

    def lay(*_: object) -> None:
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text("dear", encoding="utf-8")
        raise InputError("The inputs are wrong.", "Give others.")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "run_jobs", lay)
        assert mypt(*call, ok=False).exit_code == 2
    if place != ".unfinished":  # whose every file is a call's own
        assert list(content(folder / "d").values()) == [b"dear"]


def test_a_full_disk_loses_nothing_that_was_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", documents_of(60))
    monkeypatch.setattr(inputs, "UNIT_BYTES", 2000)
    make(tmp_path / "whole", path)
    real, writes = shard_writer._UnfinishedFile.write, iter(range(100))

    def write(file: shard_writer._UnfinishedFile, content: shard_writer.Ids) -> None:
        if next(writes) == 5:
            raise OSError(errno.ENOSPC, "no space")
        real(file, content)

    with monkeypatch.context() as patched, pytest.raises(StorageError, match="the disk is full"):
        patched.setattr(shard_writer._UnfinishedFile, "write", write)
        make(tmp_path / "d", path)
    finished = {p.stem for p in (tmp_path / "d/.unfinished").glob("0*.json")}
    kept = {p: p.stat().st_mtime_ns for p in (tmp_path / "d").glob("*/*.bin") if p.stem in finished}
    assert kept and not (tmp_path / "d" / METADATA_FILE).exists()
    make(tmp_path / "d", path)
    assert content(tmp_path / "d") == content(tmp_path / "whole")
    assert all(p.stat().st_mtime_ns == mtime for p, mtime in kept.items())


def test_an_unfinished_dataset_of_another_plan_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", documents_of(30))
    monkeypatch.setattr(inputs, "UNIT_BYTES", 2000)
    real = shard_writer.write_unit

    def stops(context: shard_writer.WorkerContext, number: int) -> object:
        if number == 2:
            raise KeyboardInterrupt
        return real(context, number)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("mypt.data.prepare.workers.write_unit", stops)
        make(tmp_path / "d", path)
    begun = content(tmp_path / "d")
    write_jsonl(tmp_path / "b.jsonl", ["b"])
    with pytest.raises(ConflictError, match=r"val_share was 0.3 and is 0.4 now.\n.*b.jsonl is an input now"):
        make(tmp_path / "d", path, tmp_path / "b.jsonl", val_share=0.4)
    assert content(tmp_path / "d") == begun


def test_two_calls_cannot_write_one_folder(tmp_path: Path) -> None:
    from mypt.checkpoint.lock import locked

    path = write_jsonl(tmp_path / "a.jsonl", documents_of(5))
    with locked(tmp_path / "d", print), pytest.raises(BusyError):
        make(tmp_path / "d", path)


def test_the_verb_and_its_workers_load_no_torch(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", documents_of(30))
    code = (
        "import sys; sys.argv = 'mypt prepare a.jsonl --out d --val-share 0.3 --workers 1'.split()\n"
        "from mypt.cli.app import main\n"
        "try: main()\nexcept SystemExit as leave: assert not leave.code\n"
        "print('torch' in sys.modules, 'mypt.data.prepare.workers' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False True"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(("kind", "border"), [("gpt2", MARK), ("char", "\n\n")])
def test_memory_does_not_grow_with_the_input(kind: str, border: str, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from mypt.data.prepare.pipeline import prepare\n"
        "from mypt.schema.settings.prepare import PrepareConfig\n"
        "config = PrepareConfig(workers=1, val_share=.3, tokenization=sys.argv[2])\n"
        "prepare([sys.argv[1]], Path(sys.argv[1] + '_d'), config, min, print)\n"
        "status = Path('/proc/self/status').read_text()\n"
        "print(int(status.split('VmHWM:')[1].split()[0]) / 1024)"
    )
    text = border.join(documents_of(2000)) + border
    peaks = []
    for megabytes in (4, 40):
        path = tmp_path / f"{megabytes}.txt"
        path.write_text(text * int(megabytes * 1e6 / len(text)), encoding="utf-8")
        done = subprocess.run([sys.executable, "-c", code, path, kind], capture_output=True, text=True, check=True)
        peaks.append(float(done.stdout.splitlines()[-1]))
    assert peaks[1] < 1.1 * peaks[0]


def test_errors_pass_whole_between_processes() -> None:
    import pickle

    error = pickle.loads(pickle.dumps(InputError("What.", "Do.", ["a", "b"])))
    assert isinstance(error, MyptError) and (error.what, error.todo, error.details) == ("What.", "Do.", ("a", "b"))


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("one two\nthree\n\nfour", "one two\nthree"),
        ("one two\r\n\r\nfour", "one two"),
        ("one two \n\nthree\nfour five", "one two \n\nthree"),
        ("one two\nthree four", "one two"),
        ("one two three", "one two"),
        ("one\u3000two\u2003 " + "x" * 40, "one\u3000two"),
        ("one\x85 two\xa0\nthree four", "one\x85 two\xa0\nthree"),
        ("日日日日日日", "日日日日日日"),
        ("one\x1c\ntwo", "one\x1c"),
        ("one", "one"),
    ],
)
def test_a_cut_is_the_best_that_changes_no_token(text: str, first: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuts, "PIECE_BYTES", 3)
    monkeypatch.setattr(cuts, "LOOKAHEAD_BYTES", 20)
    data = text.encode("utf-8")
    chunks = cuts.cut(io.BytesIO(data), len(data), midway=True, to_the_end=True, cut_all=False)
    assert next(chunks).data.decode("utf-8") == first
