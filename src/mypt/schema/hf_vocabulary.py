"""What mypt has to know of a Hugging Face tokenizer.json without the package that runs it."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from pydantic import ConfigDict, ValidationError

from mypt.schema.base import Model

LARGEST_ID = 1 << 24
"""Many times as many ids as the largest vocabularies have."""
_TOO_DEEP = 40


class AddedToken(Model):
    """A token beside those of the model."""

    model_config = ConfigDict(strict=True)

    id: int
    content: str
    special: bool


class HfTokenizer(Model):
    """What is read of a tokenizer.json; the rest is for the package that runs it."""

    model_config = ConfigDict(strict=True, protected_namespaces=())

    model: dict[str, Any]
    added_tokens: list[AddedToken] | None = None
    normalizer: dict[str, Any] | None = None
    pre_tokenizer: dict[str, Any] | None = None
    decoder: dict[str, Any] | None = None


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
        content = HfTokenizer.model_validate_json(text)
    except ValidationError as error:
        raise ValueError("it is no tokenizer.json of the package tokenizers") from error
    model, extra = content.model, content.added_tokens or []
    added = {token.id: token.content for token in extra}
    special = {token.content: token.id for token in extra if token.special}
    tokens, kind = model.get("vocab"), model.get("type") or ("BPE" if "merges" in model else None)
    parts = set(_types(content.decoder))
    if kind != "BPE" or not isinstance(tokens, dict):
        raise ValueError(f"its model is {kind}, and mypt turns the tokens of BPE alone back into text")
    ids = [*tokens.values(), *added]
    if not ids or not all(type(i) is int and 0 <= i < LARGEST_ID for i in ids):
        raise ValueError("its ids are no numbers from 0 on")
    if not all(added.values()):
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
        within = decoder.get("decoders")
        for part in within if isinstance(within, list) else ():
            yield from _types(part, depth + 1)
