"""Rows that cannot be used are named, or left out and counted; what was mended is read anew, and nothing else."""

import bz2
import csv
import gzip
import io
import json
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest

from mypt.data.prepare import inputs
from mypt.errors import ConflictError, InputError
from tests.conftest import Mypt, flat
from tests.data.test_prepare import content, documents_of, make, metadata_of, split_texts

TEXTS = documents_of(30)


def _table(delimiter: str) -> bytes:
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter).writerows([["text", "n"], *([text, "1"] for text in TEXTS)])
    return out.getvalue().encode()


def _parquet() -> bytes:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    out = io.BytesIO()
    parquet.write_table(pyarrow.table({"text": TEXTS}), out)
    return out.getvalue()


FORMS: dict[str, Callable[[], bytes]] = {
    ".txt": lambda: "\n<|endoftext|>\n".join(TEXTS).encode(),
    ".jsonl": lambda: "".join(json.dumps({"text": text}) + "\n" for text in TEXTS).encode(),
    ".NDJSON": lambda: "".join(json.dumps({"text": text}) + "\n" for text in TEXTS).encode(),
    ".json": lambda: json.dumps([{"text": text} for text in TEXTS], indent=1).encode(),
    ".csv": lambda: _table(","),
    ".tsv": lambda: _table("\t"),
    ".parquet": _parquet,
}
PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes, ".gz": gzip.compress, ".BZ2": bz2.compress, ".xz": lzma.compress,
    ".zst": lambda data: pytest.importorskip("zstandard").compress(data),
}  # fmt: skip


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_documents(form: str, packing: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / f"a{form}{packing}").write_bytes(PACKINGS[packing](FORMS[form]()))
    metadata = make(tmp_path / "d", tmp_path / "in")
    (tmp_path / "plain.jsonl").write_bytes(FORMS[".jsonl"]())
    expected = make(tmp_path / "e", tmp_path / "plain.jsonl")
    assert (metadata.train, metadata.val) == (expected.train, expected.val)


@pytest.mark.parametrize("form", [form for form in FORMS if form != ".txt"])
def test_a_marker_in_a_row_is_a_border(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.TEXTS", ["a\n<|endoftext|>\r\nb", "c<|endoftext|>", "d\n"])
    (tmp_path / f"a{form}").write_bytes(FORMS[form]())
    metadata = make(tmp_path / "d", tmp_path / f"a{form}", val_share=0)
    assert split_texts(tmp_path / "d", metadata.train) == ["a", "b", "c", "d"]


BAD = {
    "no JSON": b'{"text": ',
    "no object": b"[1]",
    "no field": b'{"body": "a"}',
    "no text": b'{"text": 7}',
    "null": b'{"text": null}',
    "half a character": b'{"text": "\\ud800"}',
    "no UTF-8": b'{"text": "\xff"}',
    "two values": b'{"text": "a", "text": "b"}',
    "too deep": b"[" * 200_000,
}
CHAT_BAD = {
    "no role": b'{"messages": [{"content": "a"}]}',
    "no messages": b'{"messages": []}',
    "a number": b'{"messages": [{"role": "user", "content": 7}]}',
}
TALK = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}


@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize("name", [*BAD, *CHAT_BAD])
def test_a_bad_row_is_named_and_can_be_left_out(name: str, chat: bool, mypt: Mypt, folder: Path) -> None:
    bad = CHAT_BAD[name] if name in CHAT_BAD else BAD[name]
    if chat and name == "two values":
        bad = b'{"messages": [{"role": "user", "content": "a", "content": "b"}]}'
    rows = [json.dumps(TALK if chat else {"text": f"text {i}"}).encode() for i in range(9)]
    (folder / "a.jsonl").write_bytes(b"\n".join([*rows[:4], b"", bad, *rows[4:], bad, b""]))
    call = ["prepare", "a.jsonl", "--out", "d", "--workers", "1", "--val-share", "0", *(["--chat"] if chat else [])]
    failed = mypt(*call, ok=False)
    assert failed.exit_code == 2 and "a.jsonl, line 6: " in flat(failed.stderr) and "--skip-bad-rows" in failed.stderr
    said = flat(mypt(*call, "--skip-bad-rows").output)
    metadata = metadata_of(folder / "d")
    assert metadata.train.documents == 9 and metadata.skipped_rows == 2
    assert "2 rows were left out by --skip-bad-rows, such as" in said and "line 6: " in said and "line 12: " in said


def test_lines_are_counted_from_the_beginning_in_every_unit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "UNIT_BYTES", 300)
    lines = [json.dumps({"text": "a" * (i % 50)}) for i in range(100)]
    for bad in (0, 1, 7, 50, 99):
        (tmp_path / "a.jsonl").write_text("\n".join("{" if i == bad else line for i, line in enumerate(lines)))
        with pytest.raises(InputError, match=rf"a\.jsonl, line {bad + 1}: "):
            make(tmp_path / f"d{bad}", tmp_path / "a.jsonl")


def _begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **values: object) -> tuple[Path, list[Path]]:
    """A call that a bad row has ended after units were finished; its folder and its inputs."""
    monkeypatch.setattr(inputs, "UNIT_BYTES", 2000)
    paths = [tmp_path / f"{name}.jsonl" for name in "abc"]
    for path in paths:
        path.write_text("".join(json.dumps({"text": f"{path.name} {text}"}) + "\n" for text in TEXTS), encoding="utf-8")
    paths[1].write_text(paths[1].read_text(encoding="utf-8") + "{\n", encoding="utf-8")
    with pytest.raises(InputError, match="line 31"):
        make(tmp_path / "d", *paths, **values)
    assert list((tmp_path / "d" / ".unfinished").glob("0*.json"))
    return tmp_path / "d", paths


@pytest.mark.parametrize("kind", ["gpt2", "char", "bpe"])
def test_after_a_row_was_mended_the_same_call_goes_on(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if kind != "gpt2":  # whose texts are read for the vocabulary, before any unit is finished
        monkeypatch.setattr("mypt.data.prepare.pipeline._texts", lambda _: iter(["".join(map(chr, range(10, 127)))]))
    values = {"tokenization": kind, "bpe_vocab_size": 300}
    out, paths = _begun(tmp_path, monkeypatch, **values)
    kept = {p: p.stat().st_mtime_ns for p in out.glob("*/*.bin")}
    text = (
        paths[1]
        .read_text(encoding="utf-8")
        .replace("{\n", json.dumps({"text": "mended, and longer than before"}) + "\n")
    )
    paths[1].write_text(text, encoding="utf-8")
    make(out, *paths, **values)
    assert f"Changed since, and read anew: {paths[1]}." in capsys.readouterr().out
    make(tmp_path / "anew", *paths, **values)
    assert content(out) == content(tmp_path / "anew")
    stayed = [p for p, mtime in kept.items() if p.exists() and p.stat().st_mtime_ns == mtime]
    assert bool(stayed) == (kind == "gpt2")


def test_a_call_goes_on_without_its_bad_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, paths = _begun(tmp_path, monkeypatch)
    kept = {p: p.stat().st_mtime_ns for p in out.glob("*/*.bin")}
    assert make(out, *paths, skip_bad_rows=True).skipped_rows == 1
    assert kept and all(p.stat().st_mtime_ns == mtime for p, mtime in kept.items())
    make(tmp_path / "anew", *paths, skip_bad_rows=True)
    assert content(out) == content(tmp_path / "anew")


def test_an_input_that_is_gone_or_new_is_refused_whatever_was_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, paths = _begun(tmp_path, monkeypatch)
    begun = content(out)
    paths[1].write_text("", encoding="utf-8")
    paths[1].write_text(json.dumps({"text": "mended"}), encoding="utf-8")
    for words, values in ((paths[:2], {}), (paths, {"val_share": 0.5})):
        with pytest.raises(ConflictError, match=r"b\.jsonl has been changed since"):
            make(out, *words, **values)
    assert content(out) == begun


@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".jsonl.gz"])
def test_a_row_that_the_vocabulary_cannot_write_can_be_left_out(chat: bool, suffix: str, tmp_path: Path) -> None:
    def row(text: str) -> dict[str, object]:
        said = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": text}]
        return {"messages": said} if chat else {"text": text}

    def write(path: Path, texts: list[str]) -> Path:
        rows = [row(text) for text in texts]
        content = json.dumps(rows) if suffix == ".json" else "".join(json.dumps(row) + "\n" for row in rows)
        path.write_bytes(gzip.compress(content.encode()) if suffix.endswith("gz") else content.encode())
        return path

    known = write(tmp_path / f"known{suffix}", ["abc", "cab"])
    make(tmp_path / "v", known, chat=chat, tokenization="char", val_share=0)
    more = write(tmp_path / f"more{suffix}", ["abc", "xyz", "cab", "yzx"])
    values = {"chat": chat, "tokenizer_of": str(tmp_path / "v"), "val_share": 0}
    place = "item 2" if suffix == ".json" else "line 2"
    with pytest.raises(InputError, match=f"{place}: The vocabulary has no 'x', 'y', 'z'") as told:
        make(tmp_path / "d", more, **values)
    assert "--skip-bad-rows" in told.value.todo
    metadata = make(tmp_path / "d", more, skip_bad_rows=True, **values)
    assert metadata.skipped_rows == 2 and metadata.train.documents == 2
    expected = make(tmp_path / "e", known, **values)
    assert metadata.train.shards[0].sha256 == expected.train.shards[0].sha256


NOTHING: dict[str, bytes] = {
    "a.txt": b"\n<|endoftext|>\n<|endoftext|>", "a.csv": b"text,n\n", "a.json": b"[]", "a.jsonl": b'{"text": ""}\n',
    "b.jsonl": b"{\n", "a.txt.gz": gzip.compress(b""), "bom.txt": b"\xef\xbb\xbf",
}  # fmt: skip


@pytest.mark.parametrize("share", [0, 0.05, 1])
@pytest.mark.parametrize("name", NOTHING)
def test_inputs_without_any_text_are_told_as_that(name: str, share: float, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(NOTHING[name])
    with pytest.raises(InputError, match="There is no text in the inputs") as told:
        make(tmp_path / "d", tmp_path / name, val_share=share, skip_bad_rows=True, tokenization="char")
    assert "--val-share" not in told.value.todo and bool(told.value.details) == (name == "b.jsonl")
    assert not (tmp_path / "d").exists()
