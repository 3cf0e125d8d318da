"""Packed texts as they are found: in several streams, padded, with other bytes behind; and what seems packed."""

import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from mypt.data import streams
from mypt.data.text import read_text
from mypt.errors import InputError

PACKED: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress,
    "zst": zstandard.ZstdCompressor(write_checksum=True).compress,
}  # fmt: skip
PASSED_OVER = b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd"
TEXT = bytes(range(32, 127)) * 3000


@pytest.mark.parametrize("step", [1, 7, 1 << 13])
@pytest.mark.parametrize("packing", PACKED)
def test_streams_that_follow_one_another_are_one_text(
    packing: str, step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "PACKED_BYTES", step)
    monkeypatch.setattr(streams, "BLOCK_BYTES", 1000)
    pack, padding = PACKED[packing], b"" if packing == "zst" else b"\0" * 8
    whole = pack(TEXT) + padding + pack(b"") + pack(b"more ") + pack(b"text") + padding
    (tmp_path / "a").write_bytes(PASSED_OVER + whole + PASSED_OVER if packing == "zst" else whole)
    assert read_text([str(tmp_path / "a")]).content == TEXT.decode() + "more text"


@pytest.mark.parametrize("fault", ["behind", "cut", "damaged"])
@pytest.mark.parametrize("packing", PACKED)
def test_what_is_not_whole_is_refused(packing: str, fault: str, tmp_path: Path) -> None:
    whole = PACKED[packing](TEXT)
    at = len(whole) - 5 if packing != "bz2" else len(whole) // 2
    damaged = whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :]
    faulty = {"behind": whole + b"other bytes", "cut": whole[:-9], "damaged": damaged}[fault]
    (tmp_path / f"a.txt.{packing}").write_bytes(faulty)
    with pytest.raises(InputError, match=f"a.txt.{packing} cannot be unpacked as a whole") as told:
        read_text([str(tmp_path / f"a.txt.{packing}")])
    assert told.value.todo == "Copy or download it again."


@pytest.mark.parametrize("outer", PACKED)
@pytest.mark.parametrize("inner", PACKED)
def test_what_is_packed_twice_is_named(inner: str, outer: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt.gz").write_bytes(PACKED[outer](PACKED[inner](TEXT)))
    with pytest.raises(InputError, match=f"packed twice, by {inner} within"):
        read_text([str(tmp_path / "a.txt.gz")])


@pytest.mark.parametrize(
    ("start", "what"),
    [(b"\x1f\x9d\x90", "compress"), (b"\x04\x22\x4d\x18", "lz4"), (b"LZIP\x01", "lzip"), (b"\x89LZO\0", "lzop"),
     (b"\xff\x06\x00\x00sNaPpY", "snappy"), (b"\x5d\x00\x00\x80", "lzma"), (b"PK\x05\x06", "zip")],
)  # fmt: skip
def test_other_packings_are_named(start: bytes, what: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(start + b"abc" * 20)
    with pytest.raises(InputError, match=f"is no text but .*{what}"):
        read_text([str(tmp_path / "a.txt")])


@pytest.mark.parametrize(
    "text", ["BZhang wrote this.", "%PDF is a format.", "GIF8 is none.", "Rar! said the bear.", "ARROW1 hits.", "PK"]
)
def test_a_text_that_begins_like_another_format_is_a_text(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    assert read_text([str(tmp_path / "a.txt")]).content == text


@pytest.mark.parametrize(
    ("text", "encoding", "told"),
    [("caffè, perché no", "latin-1", "LATIN1"), ("it’s “so” — né", "cp1252", "WINDOWS-1252"),
     ("日本語です。", "shift_jis", None), ("Привет, мир", "cp1251", None), ("中文 text 的", "gb18030", None),
     ("한국어", "euc_kr", None), ("Ελλάδα", "cp1253", None)],
)  # fmt: skip
def test_an_encoding_is_named_only_if_the_bytes_tell(
    text: str, encoding: str, told: str | None, tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_bytes(text.encode(encoding))
    with pytest.raises(InputError, match="not UTF-8") as error:
        read_text([str(tmp_path / "a.txt")])
    assert f"iconv -f {told or 'ENCODING'} " in error.value.todo
