"""A tokenizer that came with a model, as llama.cpp reads it."""

import json
from typing import Any

from mypt.errors import UsageError
from mypt.schema.files.tokenizer import TokenizerFile
from mypt.schema.hf_vocabulary import hf_vocabulary

NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5
"""Types of tokens in a GGUF file."""
LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_WORDS = {("ByteLevel",): "gpt-2", ("Digits", "ByteLevel"): "smollm", (LLAMA_3, "ByteLevel"): "llama-bpe"}
"""llama.cpp's name for each way to split a text into words."""


def fields(tokenizer: TokenizerFile) -> dict[str, Any]:
    """The fields of a GGUF file that describe the vocabulary of a tokenizer.json, but for where texts end.

    Raises:
        UsageError: llama.cpp has no such tokenizer.
    """
    content, own = json.loads(tokenizer.hf or "{}"), hf_vocabulary(tokenizer.hf or "{}")
    words = _words(content)
    if own.spelling != "letters" or words is None or content.get("normalizer") is not None:
        raise UsageError(
            "The tokenizer that came with the model splits text in a way that is not written as GGUF here.",
            "Export with --format hf, and convert that folder with llama.cpp's convert_hf_to_gguf.py.",
        )
    names = {token: name for name, token in own.tokens.items()} | own.added
    special = {*own.special.values()}
    extra = {own.size + i: name for i, name in enumerate(tokenizer.special or ())}
    ids = range(tokenizer.vocab_size)
    types = {i: CONTROL if i in special else USER_DEFINED for i in own.added} | dict.fromkeys(extra, CONTROL)
    names |= extra
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": words,
        "tokenizer.ggml.tokens": [names.get(i, f"[GAP{i}]") for i in ids],
        "tokenizer.ggml.token_type": [types.get(i, NORMAL if i in names else UNUSED) for i in ids],
        "tokenizer.ggml.merges": [m if isinstance(m, str) else " ".join(m) for m in content["model"]["merges"]],
    }


def _words(content: dict[str, Any]) -> str | None:
    """How the file splits a text into words, by llama.cpp's name; None if that is not known."""
    splitter = content.get("pre_tokenizer") or {}
    steps = splitter.get("pretokenizers", [splitter])
    kinds = tuple(_kind(step) for step in steps)
    regular = kinds[:1] != (LLAMA_3,)
    whole = all(step.get("use_regex", True) is regular for step in steps if step.get("type") == "ByteLevel")
    plain = not any(step.get("add_prefix_space") for step in steps)
    return _WORDS.get(kinds) if whole and plain else None


def _kind(step: dict[str, Any]) -> str:
    if step.get("type") == "Digits":
        return "Digits" if step.get("individual_digits") else "Numbers"
    if step.get("type") == "Split" and step.get("behavior") == "Isolated" and not step.get("invert"):
        return str((step.get("pattern") or {}).get("Regex"))
    return str(step.get("type"))
