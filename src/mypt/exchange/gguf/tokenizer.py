"""A tokenizer as llama.cpp reads it: tokens, their types, and the merges of byte pairs."""

from collections.abc import Iterable
from typing import Any

from mypt.data.byte_pairs import letters_of, merges_of
from mypt.data.hf_encoding import HfEncoding
from mypt.data.tokenizer import Tokenizer
from mypt.exchange.gguf import verbatim
from mypt.exchange.gguf.verbatim import CONTROL, NORMAL, UNUSED
from mypt.schema.files.chat import ChatTemplate
from mypt.schema.files.tokenizer import END_OF_TEXT, TokenizerFile
from mypt.schema.hf_vocabulary import hf_vocabulary

_NO_MERGE = "\u0100 \u0100"
"""llama.cpp refuses a vocabulary without merges; this one, of two zero bytes, makes no token."""
RENAMED = {"<|call|>": "<|tool_call|>"}
"""Special tokens that llama.cpp takes for ends of an answer by their names, and the names that they get instead."""
_RARE = "\x00\x7f^`~|\\@#{}$%&+=<>_[]*/"
"""Characters that few texts have, the rarest first."""


def fields(tokenizer: TokenizerFile, rows: int) -> dict[str, Any]:
    """The fields of a GGUF file that describe a tokenizer.

    Args:
        tokenizer: the vocabulary.
        rows: of the embedding table; each beyond the vocabulary gets a token that is never used.
    """
    if tokenizer.token_kind == "ids":
        return {"tokenizer.ggml.model": "none"}
    found = verbatim.fields(tokenizer) if tokenizer.token_kind == "hf" else _own(tokenizer)
    for name in tokenizer.special_ids.keys() & RENAMED.keys():
        found["tokenizer.ggml.tokens"][tokenizer.special_ids[name]] = RENAMED[name]
    unused = rows - tokenizer.vocab_size
    found["tokenizer.ggml.tokens"] += [f"[PAD{i}]" for i in range(unused)]
    found["tokenizer.ggml.token_type"] += [UNUSED] * unused
    return {**found, **_ends(tokenizer, rows)}


def notes(tokenizer: TokenizerFile, rows: int) -> tuple[str, ...]:
    """A sentence on each thing that llama.cpp makes of a tokenizer otherwise than mypt."""
    found, end = [], end_token(tokenizer, rows)
    if tokenizer.chars is not None and end is not None and end < len(tokenizer.chars):
        found.append(
            f"llama.cpp ends each text at a token, and the vocabulary has none to spare, so here it is the character "
            f"{tokenizer.chars[end]!r}; a model that is trained with --vocab-size {rows + 1} has one."
        )
    for name in tokenizer.special_ids.keys() & RENAMED.keys():
        found.append(f"{name} is {RENAMED[name]} in the file, as by its own name llama.cpp ends an answer there.")
    return tuple(found)


def chat_template(tokenizer: TokenizerFile) -> ChatTemplate | None:
    """The chat template by the names that the special tokens have in the file."""
    template = tokenizer.template
    if template is None or template.call is None:
        return template
    return template.model_copy(update={"call": RENAMED.get(template.call, template.call)})


def _own(tokenizer: TokenizerFile) -> dict[str, Any]:
    single, special = Tokenizer(tokenizer).token_bytes, {i: name for name, i in tokenizer.special_ids.items()}
    ids = range(tokenizer.vocab_size)
    ordinary = [single(i) for i in ids if i not in special]
    merges = _merges_of_characters(ordinary) if tokenizer.token_kind == "char" else merges_of(ordinary)
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": [special.get(i) or letters_of(single(i)) for i in ids],
        "tokenizer.ggml.token_type": [CONTROL if i in special else NORMAL for i in ids],
        "tokenizer.ggml.merges": [f"{letters_of(a)} {letters_of(b)}" for a, b in merges] or [_NO_MERGE],
    }


def _merges_of_characters(characters: Iterable[bytes]) -> list[tuple[bytes, bytes]]:
    """The merges that make each character of its bytes, one after the other."""
    return list(dict.fromkeys((c[:cut], c[cut : cut + 1]) for c in characters for cut in range(1, len(c))))


def end_token(tokenizer: TokenizerFile, rows: int) -> int | None:
    """The token that ends a text; where the vocabulary has none, one that no text needs; None without a vocabulary.

    llama.cpp stops at token 11 where a file names none, so each file names one: a row beyond the vocabulary, for bpe a
    byte that UTF-8 never has, and for char, which may have neither, the character that texts are the least to have.
    """
    if tokenizer.token_kind == "ids":
        return None
    if (end := tokenizer.special_ids.get(END_OF_TEXT)) is not None:
        return end
    if rows > tokenizer.vocab_size:
        return tokenizer.vocab_size
    if tokenizer.tokens is not None:
        return tokenizer.tokens.index("ff")
    if tokenizer.hf is not None:
        own = hf_vocabulary(tokenizer.hf)
        return next(iter(own.special.values()), own.tokens.get(letters_of(b"\xff")))
    chars = tokenizer.chars or ()
    return max(range(len(chars)), key=lambda i: (-_RARE.find(chars[i]) if chars[i] in _RARE else -len(_RARE), chars[i]))


def _ends(tokenizer: TokenizerFile, rows: int) -> dict[str, Any]:
    begin = [] if tokenizer.hf is None else HfEncoding(tokenizer.hf).beginning
    end = end_token(tokenizer, rows)
    found: dict[str, Any] = {"tokenizer.ggml.add_bos_token": bool(begin)}
    if end is not None:
        found["tokenizer.ggml.bos_token_id"] = begin[0] if begin else end
        found["tokenizer.ggml.eos_token_id"] = end
    if tokenizer.template is not None:
        found["tokenizer.ggml.eot_token_id"] = tokenizer.special_ids[tokenizer.template.end]
    return found
