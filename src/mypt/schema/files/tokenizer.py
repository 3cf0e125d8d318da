"""tokenizer.json: a tokenizer with its vocabulary; see docs/files.md."""

from typing import Literal, Self

from pydantic import model_validator

from mypt.schema.base import Record
from mypt.schema.settings.data import Tokenization

GPT2_TOKENS = 50257
END_OF_TEXT = "<|endoftext|>"
"""Separates documents; the last token of GPT-2's vocabulary."""
CHAT_TOKENS = ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
"""Start of a message of each role, and end of a message."""


class TokenizerFile(Record):
    """The tokenizer of a bundle or dataset, in field order.

    Attributes:
        token_kind: gpt2, char or bpe.
        vocab_size: number of token ids, including special tokens.
        chars: for char, the characters; a character's index is its id.
        pattern: for bpe, the regular expression that splits text into words before merging.
        tokens: for bpe, the bytes of each token in hexadecimal; a token's index is its id and merge rank.
        special: special tokens such as `<|user|>`, which `encode` never produces; their ids follow all others.
    """

    token_kind: Tokenization
    vocab_size: int
    chars: tuple[str, ...] | None = None
    pattern: str | None = None
    tokens: tuple[str, ...] | None = None
    special: tuple[str, ...] | None = None

    @model_validator(mode="after")
    def _check_vocabulary(self) -> Self:
        vocabulary = {"gpt2": None, "char": self.chars, "bpe": self.tokens}[self.token_kind]
        if self.token_kind != "gpt2" and vocabulary is None:
            raise ValueError(f"a {self.token_kind} tokenizer needs its vocabulary")
        if self.ordinary + len(self.special or ()) != self.vocab_size:
            raise ValueError(f"vocab_size {self.vocab_size} does not match the entries of the vocabulary")
        if self.token_kind == "bpe" and not self.pattern:
            raise ValueError("a bpe tokenizer needs its pattern")
        return self

    @property
    def ordinary(self) -> int:
        """Number of ids before the special tokens."""
        if self.token_kind == "gpt2":
            return GPT2_TOKENS
        return len((self.chars if self.token_kind == "char" else self.tokens) or ())

    @property
    def dtype(self) -> Literal["uint16", "uint32"]:
        """The smallest dtype of ids: uint16 if the vocabulary allows it."""
        return "uint16" if self.vocab_size <= 2**16 else "uint32"

    @property
    def special_ids(self) -> dict[str, int]:
        """The id of each special token, including GPT-2's end-of-text token."""
        ids = {name: self.ordinary + i for i, name in enumerate(self.special or ())}
        return {END_OF_TEXT: GPT2_TOKENS - 1, **ids} if self.token_kind == "gpt2" else ids

    def with_special(self) -> Self:
        """The same vocabulary with all special tokens of a dataset: end of text and chat roles."""
        special = CHAT_TOKENS if self.token_kind == "gpt2" else (END_OF_TEXT, *CHAT_TOKENS)
        return self.model_copy(update={"special": special, "vocab_size": self.ordinary + len(special)})

    def extends(self, other: "TokenizerFile") -> bool:
        """True if every id of `other` means the same here; this one may have more special tokens."""
        own, others = self.special or (), other.special or ()
        exclude = {"vocab_size", "special"}
        return self.model_dump(exclude=exclude) == other.model_dump(exclude=exclude) and own[: len(others)] == others
