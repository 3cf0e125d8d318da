"""Tokenizers for Hugging Face: the same ids for every text, and the same conversations."""

import json
import random
from collections.abc import Callable
from typing import Any

import pytest

from mypt.data.chat import Call, Message, prompt_ids
from mypt.data.tokenizer import Tokenizer
from mypt.errors import UsageError
from mypt.exchange.hf.tokenizer import chat_jinja, tokenizer_config, tokenizer_json
from mypt.schema.files.tokenizer import TokenizerFile

tokenizers: Any = pytest.importorskip("tokenizers")
BORDERS = (
    "<|endoftext|>",
    "<|user|>",
    "<|end|>",
    "<|call|>",
    "'s 'LL don't",
    "  \n\n \t x",
    "\r\n",
    " " * 300,
    "0123456",
)


def texts() -> list[str]:
    """Every code point below U+32000 that is a character, alone or between others, and mixtures."""
    rng = random.Random(5)
    points = [chr(c) for c in range(0x32000) if not 0xD800 <= c < 0xE000]
    rows = ["".join(points[i : i + 12]) for i in range(0, len(points), 12)]
    while len(rows) < 21_000:
        rows.append("".join(rng.choice((rng.choice(points), rng.choice(BORDERS), "ab c", " ")) for _ in range(6)))
    return [*rows, *BORDERS, ""]


TEXTS = texts()
CHAR_TEXTS = [row[:3] for row in TEXTS[:21_000:70]] + [*BORDERS, "\n\u2028\r\0", ""]
SAMPLE = "the cat's hat sat on the mat, don't it? \u00e4\u00f6\u00fc \u4f60\u597d 123 123\n\n  the cat " * 40


def theirs(tokenizer: Tokenizer) -> Any:
    made = tokenizers.Tokenizer.from_str(json.dumps(tokenizer_json(tokenizer)))
    made.encode_special_tokens = True  # a marker within a text is text, as it is for mypt
    return made


def with_special(tokenizer: Tokenizer) -> Tokenizer:
    return Tokenizer(tokenizer.file.with_special().with_template())


@pytest.mark.parametrize("kind", ["gpt2", "bpe", "char"])
def test_every_text_has_the_same_ids(kind: str) -> None:
    makers: dict[str, Callable[[], Tokenizer]] = {
        "gpt2": Tokenizer.gpt2, "bpe": lambda: Tokenizer.train_bpe(SAMPLE, 400),
        "char": lambda: Tokenizer.char("".join(sorted(set("".join(CHAR_TEXTS))))),
    }  # fmt: skip
    tokenizer = with_special(makers[kind]())
    other, asked = (
        theirs(tokenizer),
        ["".join(random.Random(i).sample(CHAR_TEXTS, 3)) for i in range(20_000)] if kind == "char" else TEXTS,
    )
    for text, encoded in zip(asked, other.encode_batch(asked, add_special_tokens=False), strict=True):
        assert encoded.ids == tokenizer.encode(text).tolist(), repr(text)
    assert other.get_vocab_size() == tokenizer.vocab_size
    other.encode_special_tokens = False
    for name, token in tokenizer.file.special_ids.items():
        assert other.encode(name).ids == [token] and other.decode([token], skip_special_tokens=False) == name


def test_a_character_that_is_not_in_the_vocabulary_is_an_error() -> None:
    with pytest.raises(Exception, match="WordLevel"):
        theirs(Tokenizer.char("abc")).encode("abd")


def test_conversations_are_rendered_the_same() -> None:
    jinja2 = pytest.importorskip("jinja2")
    tokenizer = with_special(Tokenizer.gpt2())
    template = tokenizer.file.template
    assert template is not None and "chat_template" in tokenizer_config(tokenizer, 64)
    environment = jinja2.Environment()
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)  # as transformers has it
    call = Call("weather", '{"city": "K\u00f6ln"}')
    own = [Message("system", "Be \"brief\"."), Message("user", " hi\n"), Message("assistant", "", (call, call)),
           Message("tool", "rain"), Message("assistant", "Rain \u2602.")]  # fmt: skip
    asked = [
        {"role": m.role, "content": m.content,
         "tool_calls": [{"function": {"name": c.name, "arguments": json.loads(c.arguments)}} for c in m.calls]}
        for m in own
    ]  # fmt: skip
    text = environment.from_string(chat_jinja(template)).render(messages=asked, add_generation_prompt=True)
    other = theirs(tokenizer)
    other.encode_special_tokens = False
    assert other.encode(text).ids == prompt_ids(own, tokenizer)


def test_ids_without_a_vocabulary_have_no_tokenizer() -> None:
    with pytest.raises(UsageError, match="kind ids"):
        tokenizer_json(Tokenizer(TokenizerFile(token_kind="ids", vocab_size=9)))
