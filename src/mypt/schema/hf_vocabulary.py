"""What mypt has to know of a Hugging Face tokenizer.json without the package that runs it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

LARGEST_ID = 1 << 24
"""Many times as many ids as the largest vocabularies have."""
_TOO_DEEP = 40


@dataclass(frozen=True)
class HfVocabulary:
    """The ids of a tokenizer.json.

    Attributes:
        size: number of ids, with those that no token has.
        tokens: the id of each token as it is spelled in the file.
        added: the text of each token that was added to them, such as the special ones, by its id.
        special: the id of each special token, by its text.
        spelling: how a token spells its bytes: each by a letter (GPT-2), or as text with a mark for spaces (Llama).
    """

    size: int
    tokens: dict[str, int]
    added: dict[int, str]
    special: dict[str, int]
    spelling: Literal["letters", "marks"]


@lru_cache(maxsize=4)
def hf_vocabulary(text: str) -> HfVocabulary:
    """Read a tokenizer.json.

    Raises:
        ValueError: it is none, or one of a kind that mypt cannot turn back into text.
    """
    try:
        content = json.loads(text)
        model = content["model"]
        tokens, extra = model["vocab"], content.get("added_tokens") or []
        added = {entry["id"]: entry["content"] for entry in extra}
        special = {entry["content"]: entry["id"] for entry in extra if entry["special"]}
        kind = model.get("type") or ("BPE" if "merges" in model else None)
        parts = set(_types(content.get("decoder")))
    except (KeyError, TypeError, AttributeError, RecursionError, ValueError) as error:
        raise ValueError("it is no tokenizer.json of the package tokenizers") from error
    if kind != "BPE" or not isinstance(tokens, dict):
        raise ValueError(f"its model is {kind}, and mypt turns the tokens of BPE alone back into text")
    ids = [*tokens.values(), *added]
    if not ids or not all(type(i) is int and 0 <= i < LARGEST_ID for i in ids):
        raise ValueError("its ids are no numbers from 0 on")
    if not all(isinstance(name, str) and name for name in added.values()):
        raise ValueError("an added token has no text")
    if "ByteLevel" in parts:
        return HfVocabulary(max(ids) + 1, tokens, added, special, "letters")
    if parts & {"ByteFallback", "Metaspace"}:
        return HfVocabulary(max(ids) + 1, tokens, added, special, "marks")
    raise ValueError("its decoder is none that mypt knows: ByteLevel, ByteFallback or Metaspace")


def _types(decoder: Any, depth: int = 0) -> Iterator[str]:
    """The kinds of a decoder and of those that it is a sequence of."""
    if isinstance(decoder, dict) and depth < _TOO_DEEP:
        yield str(decoder.get("type"))
        for part in decoder.get("decoders") or ():
            yield from _types(part, depth + 1)
