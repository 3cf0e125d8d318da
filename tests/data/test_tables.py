"""Tables as they are found: with any delimiter, first line and line end; and what a row lacks is told as it is."""

import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from mypt.data.text import read_text
from mypt.errors import InputError
from mypt.schema.files.tokenizer import END_OF_TEXT
from tests.data.test_prepare import make, split_texts

TEXTS = ["hello", "you; and, me | too", "a\tb", 'she said "no"', "two\nlines"]


def table(delimiter: str, end: str = "\n", first: str = "") -> bytes:
    rows = [["id", "text", ""], *([str(i), text, ""] for i, text in enumerate(TEXTS))]
    quoted = [[f'"{f.replace(chr(34), chr(34) * 2)}"' if set(f) & set('",;|\t\n') else f for f in row] for row in rows]
    return (first + "".join(delimiter.join(row) + end for row in quoted)).encode()


@pytest.mark.parametrize("first", ["", "\ufeff", "\n\n", "sep={}\n"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_of_a_table_is_told_by_its_first_line(
    delimiter: str, end: str, first: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(table(delimiter, end, first.format(delimiter)))
    assert read_text([str(path)]).content.split(END_OF_TEXT) == [*TEXTS, ""]
    assert split_texts(tmp_path / "d", make(tmp_path / "d", path, val_share=0).train) == TEXTS


@pytest.mark.parametrize(
    ("first", "name"),
    [("text,a|b|c", "text"), ("text;a,b,c,d", "text"), ('"a; b; c",text', "text"), ('"a\nb",text', "text"),
     ("text", "text"), ("a,b;c;d,text", "text"), ("id;the, body", "the, body")],
)  # fmt: skip
def test_the_delimiter_is_the_one_by_which_the_wanted_column_is_there(first: str, name: str, tmp_path: Path) -> None:
    delimiter = ";" if first.startswith(("text;", "id;")) else ","
    before, _, after = first.replace('"a; b; c"', "a").replace('"a\nb"', "a").partition(name)
    row = "x" * bool(before) + delimiter * before.count(delimiter) + "found" + delimiter * after.count(delimiter)
    (tmp_path / "a.csv").write_text(f"{first}\n{row}\n", encoding="utf-8")
    assert read_text([str(tmp_path / "a.csv")], name).content == f"found{END_OF_TEXT}"


def _parquet(**columns: object) -> bytes:
    out = io.BytesIO()
    parquet.write_table(pa.table(columns), out)
    return out.getvalue()


def _repeated() -> bytes:
    out = io.BytesIO()
    parquet.write_table(pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["text", "text"]), out)
    return out.getvalue()


FAULTS: dict[str, tuple[str, bytes, str, str]] = {
    "carriage returns": (".csv", b"text,n\rhello,1\r", "first line names no columns: a line ends by a", "newline"),
    "one of them": (".csv", b"text,n\nhel\rlo,1\n", "line 2: this is not a row of a table: a line ends", "Mend it"),
    "first line": (".csv", b'"te"xt,n\nhello,1\nyou,2\n', "the first line names no columns", "names its columns"),
    "place of long rows": (".csv", b'text,n\n"a\nb",1\n"c\nd"e,2\n', "line 4: ", "Mend it"),
    "latin": (".csv", b"text,n\nh\xe9llo,1\n", "line 2: this is not UTF-8", "iconv"),
    "latin rows": (".jsonl", b'{"text": "h\xe9llo"}\n', "line 1: this is not UTF-8", "iconv"),
    "null": (".jsonl", b'{"text": null}\n', "no text in a field 'text', but null", "Mend it"),
    "a list": (".jsonl", b'{"text": ["a"]}\n', "no text in a field 'text', but a list", "Mend it"),
    "an object": (".jsonl", b'{"text": {}}\n', "no text in a field 'text', but an object", "Mend it"),
    "a truth": (".jsonl", b'{"text": true}\n', "no text in a field 'text', but true or false", "Mend it"),
    "a number": (".jsonl", b'{"text": 1.5}\n', "no text in a field 'text', but a number", "Mend it"),
    "bytes": (".parquet", _parquet(text=[b"a"]), "row 1: there is no text in a field 'text', but bytes", "Mend it"),
    "lists": (".parquet", _parquet(text=[["a"]]), "row 1: there is no text in a field 'text', but a list", "Mend it"),
    "null row": (".parquet", _parquet(text=["a", None]), "row 2: there is no text in a field 'text', but ", "Mend it"),
    "two columns": (".parquet", _repeated(), "row 1: text is given more than once", "Mend it"),
    "rows within": (".json", b'{"data": [{"text": "a"}]}', "its fields are 'data'", "jq -c '.data[]'"),
    "other field": (".jsonl", b'{"body": "a"}\n', "its fields are 'body'", "--text-field"),
    "conversations": (".jsonl", b'{"conversations": []}\n', "its fields are 'conversations'", "--chat"),
}  # fmt: skip


@pytest.mark.parametrize("case", FAULTS)
def test_what_a_row_lacks_is_told_with_what_mends_it(case: str, tmp_path: Path) -> None:
    suffix, content, said, todo = FAULTS[case]
    (tmp_path / f"a{suffix}").write_bytes(content)
    with pytest.raises(InputError) as trained:
        read_text([str(tmp_path / f"a{suffix}")])
    with pytest.raises(InputError) as prepared:
        make(tmp_path / "d", tmp_path / f"a{suffix}")
    for told in (trained.value, prepared.value):
        assert said in told.what and todo in told.todo
