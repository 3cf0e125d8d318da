"""`mypt train` and `mypt prepare` make the same tokens of the same texts, whatever stands around their borders."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mypt.data.prepare import cuts, inputs
from mypt.data.text import read_text, text_from
from mypt.data.tokenizer import Tokenizer
from mypt.errors import InputError
from mypt.schema.files.tokenizer import END_OF_TEXT
from tests.data.test_prepare import make, read, tokenizer_of

SNIPPETS = st.sampled_from(
    ["a", "word ", "don't", "è€日", "7", "\n", "\n\n", "\r\n", "\r", " ", "\t", "\x00", "\x1c", "\x85", "\u2028",
     "\ufeff", END_OF_TEXT, f"\n\n{END_OF_TEXT}", f"{END_OF_TEXT}\r\n", f" {END_OF_TEXT} ", "<|end", "oftext|>",
     "x" * 40]
)  # fmt: skip
TEXTS = st.lists(SNIPPETS, max_size=30).map("".join)
Inputs = list[tuple[str, list[str]]]
"""Files by their form, text or rows, each with its texts: one, or one for each row."""
FILES = st.lists(
    st.one_of(
        st.tuples(st.just(".txt"), st.lists(TEXTS, min_size=1, max_size=1)),
        st.tuples(st.just(".jsonl"), st.lists(TEXTS, min_size=1, max_size=4)),
    ),
    min_size=1,
    max_size=3,
)


def written(folder: Path, files: Inputs) -> list[Path]:
    """The files, with names in their order; those that neither verb takes, as they hold nothing, are left out."""
    for old in folder.glob("[0-9].*"):
        old.unlink()
    paths = []
    for number, (form, texts) in enumerate(files):
        content = texts[0] if form == ".txt" else "".join(json.dumps({"text": text}) + "\n" for text in texts)
        if content.strip():
            paths.append(folder / f"{number}{form}")
            paths[-1].write_bytes(content.encode("utf-8"))
    return paths


@pytest.mark.parametrize("kind", ["gpt2", "char"])
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files=FILES)
@example(files=[(".jsonl", ["", "a", "\n", END_OF_TEXT])])
@example(files=[(".txt", [f"\n\n{END_OF_TEXT}\n{END_OF_TEXT}"]), (".txt", ["\n\na\n"])])
def test_a_text_has_the_same_tokens_in_training_and_prepared(
    kind: str, files: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "UNIT_BYTES", 50)
    sizes = {"SIGHT_BYTES": 64, "PIECE_BYTES": 16, "LOOKAHEAD_BYTES": 32, "LONGEST_BYTES": 1000, "BLOCK_BYTES": 64}
    for name, size in sizes.items():
        monkeypatch.setattr(cuts, name, size)
    paths = written(tmp_path, files)
    out = tmp_path / "d"
    try:
        text = read_text([str(path) for path in paths]) if paths else text_from("")
    except InputError:
        text = text_from("")
    if not text.content.strip("\r\n"):
        with pytest.raises(InputError):
            make(out, *paths, tokenization=kind, val_share=0)
        return
    metadata = make(out, *paths, tokenization=kind, val_share=0)
    tokenizer, ids = tokenizer_of(out), read(out, metadata.train)
    for file in (*out.rglob("*.bin"), *out.glob("*.json")):
        file.unlink()
    if text.documents == 0:  # a single text, which is trained on as it is
        text = text_from(text.content.rstrip("\r\n") + END_OF_TEXT)
    assert ids == tokenizer.encode_text(text.content).tolist()
    assert metadata.train.documents == text.documents == ids.count(metadata.separator)
    if kind == "char":
        assert tokenizer.file.chars == Tokenizer.char(text.content).file.chars
    else:
        assert np.array_equal(ids, Tokenizer.gpt2().encode_text(text.content))
