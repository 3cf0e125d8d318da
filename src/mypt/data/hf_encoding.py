"""Runs a tokenizer.json of Hugging Face, kept as it came, by the package tokenizers."""

import re
from functools import cached_property
from typing import Any

from mypt.data.byte_pairs import token_of
from mypt.errors import BundleError, UsageError
from mypt.schema.hf_vocabulary import hf_vocabulary

SPACE = "\u2581"
"""Stands for a space in the tokens of Llama."""
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


class HfEncoding:
    """Text to ids and back.

    Args:
        text: the tokenizer.json.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.vocabulary = hf_vocabulary(text)

    def encode(self, text: str) -> list[int]:
        """The ids of a text, in which the spelling of a special token is text like any other.

        Raises:
            UsageError: the package tokenizers is not installed.
            BundleError: it cannot run this tokenizer.
        """
        return self._run(text, add_special_tokens=False)

    @cached_property
    def beginning(self) -> list[int]:
        """The special tokens that every text begins with, such as Llama's `<s>`; none for most."""
        special, ids = set(self.vocabulary.special.values()), self._run("a")
        ordinary = next((place for place, token in enumerate(ids) if token not in special), 0)
        return list(ids[:ordinary])

    def token_bytes(self, token: int) -> bytes | None:
        """The bytes of a token; None for an id that none has."""
        if (added := self.vocabulary.added.get(token)) is not None:
            return added.encode("utf-8")
        return self._bytes.get(token)

    @cached_property
    def _bytes(self) -> dict[int, bytes]:
        spelled = token_of if self.vocabulary.spelling == "letters" else _marks
        return {token: spelled(name) for name, token in self.vocabulary.tokens.items()}

    def _run(self, text: str, **how: Any) -> list[int]:
        engine = self._engine
        try:
            ids: list[int] = engine.encode(text, **how).ids
        except Exception as error:  # the package raises no class of its own
            raise BundleError(
                f"The package tokenizers cannot encode a text with the model's tokenizer: {error}.",
                "Import the model again with a tokenizer.json that works.",
            ) from error
        return ids

    @cached_property
    def _engine(self) -> Any:
        try:
            from tokenizers import Tokenizer
        except ImportError as error:
            raise UsageError(
                "The model's tokenizer is one of Hugging Face, which the package tokenizers runs.",
                "Install it: pip install 'mypt[hf]'",
            ) from error
        try:
            engine = Tokenizer.from_str(self.text)
        except Exception as error:  # the package raises no class of its own
            raise BundleError(
                f"The package tokenizers cannot read the model's tokenizer: {error}.",
                "Install its newest version: pip install -U tokenizers",
            ) from error
        engine.no_truncation()
        engine.no_padding()
        engine.encode_special_tokens = True
        if getattr(engine.model, "dropout", None):  # which is for training: a text has the same ids each time
            engine.model.dropout = None
        return engine


def _marks(token: str) -> bytes:
    single = _BYTE.fullmatch(token)
    return bytes.fromhex(single[1]) if single else token.replace(SPACE, " ").encode("utf-8")
