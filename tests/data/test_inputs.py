"""What goes in is what was meant: every form, packed in every way, named in every way, gives the same documents."""

import bz2
import csv
import gzip
import io
import json
import lzma
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
import torch
import zstandard
from hypothesis import assume, given
from hypothesis import strategies as st

import mypt.run.data.new as new_data
from mypt import GPTConfig, GPTDataLoader
from mypt.checkpoint.manager import CheckpointManager
from mypt.data import streams, text
from mypt.data.inputs import rows
from mypt.data.inputs.rows import read_rows
from mypt.data.prepare.pipeline import prepare
from mypt.data.shards import read_dataset_tokenizer
from mypt.data.text import Text, decode, read_text
from mypt.data.tokenizer import Tokenizer
from mypt.errors import InputError
from mypt.log.reader import SkippedLines, read_events
from mypt.schema.files.prepare_plan import Form
from mypt.schema.files.tokenizer import END_OF_TEXT
from mypt.schema.settings.prepare import PrepareConfig
from tests.conftest import TINY, Mypt, flat, stopping_at, tiny_text

STORIES = [
    'He said: "Nel mezzo, del cammin",\nand went.',
    "Zwei Zeilen,\r\n\tmit Umlauten: äöü", "日本語 €", "  blanks  ", "one",
    *(f"Story {i} of a {word}." for i, word in enumerate(tiny_text().split()[:60])),
]  # fmt: skip


def _table(delimiter: str) -> bytes:
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter).writerows([("id", "body"), *enumerate(STORIES)])
    return out.getvalue().encode()


def _parquet() -> bytes:
    out = io.BytesIO()
    parquet.write_table(pa.table({"id": range(len(STORIES)), "body": STORIES}), out)
    return out.getvalue()


ROWS = [{"id": i, "body": story} for i, story in enumerate(STORIES)]
FORMS: dict[str, bytes] = {
    ".txt": "".join(f"{s}\n{END_OF_TEXT}\n" for s in STORIES).encode(),
    ".jsonl": "".join(json.dumps(r) + "\n" for r in ROWS).encode(),
    ".ndjson": "\n\n".join(json.dumps(r, ensure_ascii=False) for r in ROWS).encode("utf-8-sig"),
    ".json": "".join(json.dumps(r) + "\n" for r in ROWS).encode(),
    "_list.json": json.dumps(ROWS).encode(),
    "_pretty.json": json.dumps(ROWS, indent=2, ensure_ascii=False).encode("utf-8-sig"),
    "_objects.json": "\n".join(json.dumps(r, indent=1) for r in ROWS).encode(),
    ".csv": _table(","),
    ".tsv": _table("\t"),
    ".parquet": _parquet(),
}
PACKED: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.ZstdCompressor().compress,
}
NAMELESS = (".txt", ".jsonl", ".ndjson", "_list.json", "_pretty.json", ".parquet")
"""Forms that the content tells where the name says nothing."""


def named(form: str, packing: str, naming: str) -> str:
    """A file's name: as it should be, in capitals, without the packing, or with no suffix at all."""
    whole = {"lower": f"stories{form}{packing}", "UPPER": f"STORIES{form}{packing}".upper()}
    return whole.get(naming) or (f"stories{form}" if naming == "unpacked" else "stories")


CASES = [
    (form, packing, naming)
    for form in FORMS
    for packing in PACKED
    for naming in ("lower", "UPPER", "unpacked", "nameless")
    if (naming != "nameless" or form in NAMELESS) and (naming != "unpacked" or packing)
]


@pytest.mark.parametrize(("form", "packing", "naming"), CASES)
def test_a_text_is_read_as_what_it_is(form: str, packing: str, naming: str, tmp_path: Path) -> None:
    path = tmp_path / named(form, packing, naming)
    path.write_bytes(PACKED[packing](FORMS[form]))
    found = read_text([str(path)], "body")
    assert found.content.split(END_OF_TEXT) == [*STORIES, ""]
    assert found.documents == len(STORIES) and found.characters == sum(map(len, STORIES))


@pytest.mark.parametrize(("form", "packing", "naming"), CASES)
def test_it_is_prepared_as_what_it_is(form: str, packing: str, naming: str, tmp_path: Path) -> None:
    path, out = tmp_path / named(form, packing, naming), tmp_path / "d"
    path.write_bytes(PACKED[packing](FORMS[form]))
    config = PrepareConfig(text_field="body", tokenization="char", workers=1, val_share=0)
    metadata = prepare([str(path)], out, config, lambda *_: None, lambda _: None)
    tokenizer = Tokenizer(read_dataset_tokenizer(out))
    ids = np.concatenate([np.fromfile(out / shard.file, "<u2") for shard in metadata.train.shards])
    assert tokenizer.decode(ids) == "".join(story + END_OF_TEXT for story in STORIES)
    assert metadata.train.documents == len(STORIES) == int((ids == metadata.separator).sum())


def test_standard_input_is_told_apart_like_a_file(mypt: Mypt) -> None:
    content = "".join(json.dumps({"text": s}) + "\n" for s in STORIES)
    mypt("train", "m", "--input-file", "-", *TINY, "--max-iters", "2", stdin=content)
    data = json.loads(Path("checkpoints/m/training_state.json").read_text())["data"]
    assert data["documents"] == len(STORIES) and data["characters"] == sum(map(len, STORIES))


OTHERS = {
    "UTF-16LE": "\ufefftext".encode("utf-16-le"),
    "UTF-16BE": "\ufefftext".encode("utf-16-be"),
    "UTF-32LE": "\ufefftext".encode("utf-32-le"),
    "UTF-16LE without a mark": tiny_text().encode("utf-16-le"),
    "UTF-16BE without a mark": tiny_text().encode("utf-16-be"),
    "UTF-32LE without a mark": tiny_text().encode("utf-32-le"),
    "UTF-32BE without a mark": tiny_text().encode("utf-32-be"),
    "WINDOWS-1252": "it’s über".encode("cp1252"),
    "LATIN1": "über".encode("latin1"),
    "a PDF document": b"%PDF-1.7 text",
    "a PNG image": b"\x89PNG\r\n\x1a\n text",
    "an SQLite database": b"SQLite format 3\x00 text",
    "binary": np.arange(4000, dtype="<u2").tobytes(),
}
with zipfile.ZipFile(held := io.BytesIO(), "w") as made:
    made.writestr("a.txt", tiny_text())
OTHERS["a zip archive"] = held.getvalue()
with tarfile.open(fileobj=(held := io.BytesIO()), mode="w") as tar:
    tar.addfile(tarfile.TarInfo("a.txt"), io.BytesIO(tiny_text().encode()))
OTHERS["a tar archive"] = held.getvalue()
np.save(held := io.BytesIO(), np.arange(400))
OTHERS["an array of NumPy"] = held.getvalue()


@pytest.mark.parametrize("packing", PACKED)
@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_text_is_refused_by_its_name(name: str, packing: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.txt{packing}"
    path.write_bytes(PACKED[packing](OTHERS[name]))
    with pytest.raises(InputError) as told:
        read_text([str(path)])
    said = f"{told.value.what} {told.value.todo}"
    assert name.removesuffix(" without a mark") in said and str(path) in said
    if name[:3] in ("UTF", "WIN", "LAT"):
        assert f"iconv -f {name.split()[0]} -t UTF-8" in said


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_the_advice_on_an_encoding_works(encoding: str, tmp_path: Path) -> None:
    """As a call of a shell, whatever the name; and what is read from standard input has none."""
    path, text = tmp_path / "it's a text.txt", "perché così è\n" * 9
    path.write_bytes(text.encode(encoding))
    with pytest.raises(InputError) as told:
        read_text([str(path)])
    command = "iconv" + told.value.todo.partition("iconv")[2]
    subprocess.run(command, shell=True, check=True, cwd=tmp_path)
    assert (tmp_path / "utf8.txt").read_text(encoding="utf-8").removeprefix("\ufeff") == text
    with pytest.raises(InputError, match=r"^Standard input is not UTF-8") as piped:
        decode("-", text.encode("latin-1"))
    assert piped.value.todo.endswith("Pipe it through iconv -f LATIN1 -t UTF-8")


@pytest.mark.parametrize("packing", [p for p in PACKED if p])
def test_what_is_packed_badly_is_told(packing: str, tmp_path: Path) -> None:
    plain, half, two = (tmp_path / f"{n}.txt{packing}" for n in ("plain", "half", "two"))
    plain.write_text("just text", encoding="utf-8")
    packed = PACKED[packing](tiny_text().encode())
    half.write_bytes(packed[: len(packed) // 2])
    two.write_bytes(packed + packed)  # several members are one text, as the tools have it
    with pytest.raises(InputError, match="and is none: it begins with 'just tex"):
        read_text([str(plain)])
    with pytest.raises(InputError, match="cannot be unpacked as a whole"):
        read_text([str(half)])
    assert read_text([str(two)]).content == tiny_text() * 2


def test_a_zst_file_without_its_library_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt.zst").write_bytes(PACKED[".zst"](b"text"))
    monkeypatch.setattr(streams, "find_spec", lambda _: None)
    with pytest.raises(InputError) as told:
        read_text([str(tmp_path / "a.txt.zst")])
    assert "mypt[zstd]" in told.value.todo


BAD_ROWS: dict[str, tuple[str, bytes, str]] = {
    "no JSON": (".jsonl", b'{"text": "a"}\n{"text": \n', "line 2: this is not JSON"),
    "no field": (".jsonl", b'{"body": "a"}\n', "line 1: there is no text in a field 'text'; its fields are 'body'"),
    "no text": (".jsonl", b'\n\n{"text": 3}\n', "line 3: there is no text"),
    "twice": (".jsonl", b'{"text": "a", "text": "b"}\n', "line 1: text is given more than once"),
    "half": (".jsonl", b'{"text": "\\ud800"}\n', "line 1: a \\u escape stands for half of a character"),
    "bytes": (".jsonl", b'{"text": "a"}\n{"text": "\xff"}\n', "line 2: this is not UTF-8: byte 0xff"),
    "a list": (".jsonl", b'["text"]\n', "line 1: it is no JSON object"),
    "deep": (".jsonl", b'{"text": ' + b"[" * 100_000 + b"\n", "line 1: "),
    "chat": (".jsonl", b'{"messages": []}\n', "line 1: there is no text"),
    "list breaks off": (".json", b'[{"text": "a"}, {"text": "b"}', "item 3: the list breaks off"),
    "item breaks off": (".json", b'[{"text": "a"}, {"text": "b', "item 2: this is not JSON"),
    "no comma": (".json", b'[{"text": "a"} {"text": "b"}]', "item 2: there is no comma before it"),
    "more": (".json", b'[{"text": "a"}] x', "item 2: there is more after the end"),
    "item without": (".json", b'[{"text": "a"}, 3]', "item 2: it is no JSON object"),
    "number": (".json", b"123456", "item 1: it is no JSON object"),
    "few fields": (".csv", b"id,text\n1,a\n2\n", "line 3: it has 1 fields and the first line names 2"),
    "no column": (".csv", b"id,body\n1,a\n", "line 2: there is no text in a field 'text'; its fields are 'id', 'body'"),
    "two columns": (".csv", b"text,text\n1,a\n", "line 2: text is given more than once"),
    "open quote": (".csv", b'id,text\n1,"a\n', "line 2: this is not a row of a table"),
    "bytes in a table": (".tsv", b"id\ttext\n1\ta\n2\t\xff\n", "line 3: this is not UTF-8: byte 0xff"),
    "header alone": (".csv", b"id,text\n", "There is no text in"),
    "no rows": (".json", b"[]", "There is no text in"),
    "no parquet": (".parquet", b"PAR1 this is none", "cannot be read as Parquet"),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_a_row_that_is_none_is_named_with_its_place(case: str, tmp_path: Path) -> None:
    suffix, content, said = BAD_ROWS[case]
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    with pytest.raises(InputError) as told:
        read_text([str(path)])
    assert said in told.value.what and str(path) in told.value.what
    if case == "chat":
        assert "prepare --chat" in told.value.todo


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(
    items=st.lists(st.dictionaries(st.text(max_size=3), VALUES, max_size=4), max_size=8),
    indent=st.sampled_from([None, 0, 2]),
    listed=st.booleans(),
    block=st.integers(1, 40),
)
def test_json_is_read_value_by_value_wherever_its_blocks_end(
    items: list[dict[str, object]], indent: int | None, listed: bool, block: int
) -> None:
    assume(listed or indent is None or (items and items[0]))  # an object on the first line says: one on each
    content = json.dumps(items, indent=indent) if listed else "\n".join(json.dumps(i, indent=indent) for i in items)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "BLOCK_BYTES", block)
        found = list(read_rows(io.BytesIO(content.encode()), "json", "a.json"))
    assert [row.fault for row in found] == [None] * len(items)
    assert [row.value for row in found] == items


def test_a_long_list_takes_no_more_memory_than_its_items(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "BLOCK_BYTES", 1 << 12)
    held = 0

    class Watched(rows._Decoded):
        def _more(self, size: int) -> bool:
            nonlocal held
            more = super()._more(size)
            held = max(held, len(self._text))
            return more

    monkeypatch.setattr(rows, "_Decoded", Watched)
    content = json.dumps([{"text": "x" * 1000}] * 2000, indent=1).encode()
    assert sum(1 for _ in read_rows(io.BytesIO(content), "json", "a.json")) == 2000 and held < 1 << 14


@pytest.mark.parametrize("kind", ["gpt2", "char", "bpe"])
def test_a_border_is_one_token_and_never_a_piece_of_text(kind: str) -> None:
    content = "".join(story + END_OF_TEXT for story in STORIES)
    made = {"char": Tokenizer.char(content), "bpe": Tokenizer.train_bpe(content, 300)}
    tokenizer = made.get(kind, Tokenizer.gpt2())
    border = tokenizer.file.special_ids[END_OF_TEXT]
    ids = tokenizer.encode_text(content).tolist()
    wanted = [i for story in STORIES for i in [*tokenizer.encode(story).tolist(), border]]
    assert ids == wanted and tokenizer.decode(ids) == content
    if kind != "char":
        assert border not in tokenizer.encode(END_OF_TEXT)


def test_borders_without_a_token_for_them_are_refused(mypt: Mypt, folder: Path) -> None:
    (folder / "two.txt").write_text(f"nel{END_OF_TEXT}mezzo del cammin di nostra vita", encoding="utf-8")
    told = mypt("train", "m", "--input-file", "input.txt", "--eval-set", "x=two.txt", *TINY, ok=False)
    assert told.exit_code == 2 and "2 borders of documents, and the vocabulary has no token" in flat(told.stderr)


def test_files_are_documents_and_the_plan_counts_their_borders(mypt: Mypt, folder: Path) -> None:
    for name, content in (("a.txt", f"{tiny_text()}\n"), ("b.txt", f"uno{END_OF_TEXT}\n\ndue\n")):
        (folder / name).write_text(content, encoding="utf-8")
    one = mypt("train", "m", "--input-file", "input.txt", *TINY, "--dry-run").output
    assert "0 document borders" in flat(one)
    three = mypt("train", "m", "--input-file", "a.txt", "--input-file", "b.txt", *TINY, "--dry-run").output
    assert "3 document borders" in flat(three)
    found = read_text(["a.txt", "b.txt"])
    assert found.content == f"{tiny_text()}{END_OF_TEXT}uno{END_OF_TEXT}due{END_OF_TEXT}"


@given(lengths=st.lists(st.integers(1, 300), min_size=1, max_size=40))
def test_a_text_is_cut_where_a_document_ends_if_one_does_near_the_cut(lengths: list[int]) -> None:
    content = "".join("a" * n + END_OF_TEXT for n in lengths)
    config = GPTConfig(block_size=1, n_embd=8, n_head=1, n_layer=1, vocab_size=2, batch_size=1)
    assume(len(lengths) + sum(lengths) > 20)
    record = GPTDataLoader(config, Tokenizer.char(content), text=content).record
    total, ends = sum(lengths) + len(lengths), np.cumsum([n + 1 for n in lengths])
    near = [int(end) for end in ends if int(total * 0.8) < end <= int(total * 0.95)]
    nearest = min((abs(end - int(total * 0.9)) for end in near), default=0)
    assert abs(record.train_tokens - int(total * 0.9)) == nearest and (not near or record.train_tokens in near)


def test_the_same_stories_measure_the_same_however_they_come(mypt: Mypt, folder: Path) -> None:
    for suffix, packing in ((".txt", ""), (".jsonl", ".zst"), (".json", ".gz"), (".csv", ""), (".parquet", "")):
        (folder / f"s{suffix}{packing}").write_bytes(PACKED[packing](FORMS[suffix]))
    (folder / "train.jsonl").write_bytes(FORMS[".jsonl"] * 20)
    base = ["--text-field", "body", *TINY, "--max-iters", "4", "--eval-interval", "4", "--eval-iters", "8"]
    mypt("train", "m", "--input-file", "train.jsonl", *base)
    shards = ["--tokenizer-of", "m", "--text-field", "body", "--val-share", "1"]
    mypt("prepare", "s.txt", "--out", "shards", *shards)
    mypt("prepare", "s.jsonl.zst", "--out", "others", *shards)
    sets = ["s.txt", "s.jsonl.zst", "s.json.gz", "s.csv", "s.parquet", "shards", "others"]
    names = [f"--eval-set=set{i}={path}" for i, path in enumerate(sets)]
    mypt("train", "n", "--input-file", "train.jsonl", *base, *names)
    last = [e for e in read_events(Path("logs/train/n_eval.jsonl"), SkippedLines()) if e["event"] == "eval"][-1]
    losses = [last[f"eval_set{i}"] for i in range(len(sets))]
    state = json.loads(Path("checkpoints/n/training_state.json").read_text())
    assert len({(r["val_tokens"], r["documents"]) for r in state["eval_sets"].values()}) == 1
    assert max(losses) - min(losses) <= 1e-6 and losses[0] > 0.1
    refused = mypt("resume", "n", "--max-iters", "8", "--text-field", "text", ok=False)
    assert refused.exit_code == 2 and "text_field: recorded body, given text" in flat(refused.stderr)
    mypt("resume", "n", "--max-iters", "8", "--eval-set", "more=s.csv")
    last = [e for e in read_events(Path("logs/train/n_eval.jsonl"), SkippedLines()) if e["event"] == "eval"][-1]
    assert abs(last["eval_more"] - last["eval_set0"]) <= 1e-6


def test_a_text_that_an_earlier_version_recorded_is_read_as_it_was(mypt: Mypt, folder: Path) -> None:
    """Markers were characters, and files were joined by newlines."""
    (folder / "b.txt").write_text(f"uno{END_OF_TEXT}\n\ndue\n" * 40, encoding="utf-8")
    words = ["--input-file", "input.txt", "--input-file", "b.txt", *TINY, "--tokenization", "gpt2"]
    words += ["--n-embd", "4", "--max-iters", "6", "--eval-interval", "2"]

    def as_before(paths: list[str], _: str) -> Text:
        return text.text_of(text.read_sources(paths), None)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(new_data, "read_text", as_before)
        mypt("train", "whole", *words)
        with stopping_at(3):
            mypt("train", "parts", *words)
    for name in ("parts", "whole"):
        record = json.loads(Path(f"checkpoints/{name}/training_state.json").read_text())["data"]
        assert record["documents"] is None and record["characters"] > 10 * 40
    mypt("resume", "parts")
    whole, parts = (CheckpointManager(n).load("cpu").model.state_dict() for n in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    mypt("verify", "parts")
    assert "identical" in mypt("reproduce", "parts").output


def test_every_form_of_the_plan_is_in_the_table() -> None:
    from typing import get_args

    from mypt.data.inputs.forms import FORMS as KNOWN
    from mypt.data.inputs.forms import PACKINGS
    from mypt.schema.files.prepare_plan import Packing

    assert set(KNOWN.values()) == set(get_args(Form)) and set(PACKINGS.values()) == set(get_args(Packing))
    assert {f".{p}" for p in get_args(Packing)} == {p for p in PACKED if p}


@pytest.mark.parametrize(
    ("content", "said"), [(f"a{END_OF_TEXT}b", "borders of documents"), ("\u2603", "no '\u2603'"), ("", "empty")]
)
def test_an_eval_set_that_cannot_be_measured_is_named(content: str, said: str, mypt: Mypt, folder: Path) -> None:
    (folder / "other.txt").write_text(content, encoding="utf-8")
    call = ["train", "m", "--input-file", "input.txt", "--eval-set", "snow=other.txt", *TINY, "--max-iters", "1"]
    told = mypt(*call, ok=False)
    assert told.exit_code == 2 and "The eval set snow (other.txt): " in flat(told.stderr) and said in flat(told.stderr)
