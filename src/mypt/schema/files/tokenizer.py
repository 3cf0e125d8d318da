"""tokenizer.json: all it takes to decode a model's tokens, years later and without a network."""

from typing import Literal, Self

from pydantic import model_validator

from mypt.schema.base import Record

Tokenization = Literal["gpt2", "char", "bpe"]
GPT2_TOKENS = 50257
END_OF_TEXT = "<|endoftext|>"
"""Stands between documents; GPT-2's own vocabulary has it as its last token."""
CHAT_TOKENS = ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
"""Open a message of each role, and close it."""


class TokenizerFile(Record):
    """The tokenizer of a bundle, in the order in which it is written.

    Attributes:
        token_kind: gpt2, char or bpe.
        vocab_size: number of token ids that the tokenizer can produce.
        chars: for char, the characters; a character's id is its place.
        pattern: for bpe, the regular expression that cuts text into words before merging.
        tokens: for bpe, every token's bytes in hexadecimal; a token's rank is its place.
        special: tokens that no text is encoded to, such as `<|user|>`; their ids follow all others.
    """

    token_kind: Tokenization
    vocab_size: int
    chars: tuple[str, ...] | None = None
    pattern: str | None = None
    tokens: tuple[str, ...] | None = None
    special: tuple[str, ...] | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        held = {"gpt2": None, "char": self.chars, "bpe": self.tokens}[self.token_kind]
        if self.token_kind != "gpt2" and held is None:
            raise ValueError(f"a {self.token_kind} tokenizer needs its vocabulary")
        if self.ordinary + len(self.special or ()) != self.vocab_size:
            raise ValueError(f"vocab_size {self.vocab_size} does not match the entries of the vocabulary")
        if self.token_kind == "bpe" and not self.pattern:
            raise ValueError("a bpe tokenizer needs its pattern")
        return self

    @property
    def ordinary(self) -> int:
        """Number of ids before the special ones."""
        if self.token_kind == "gpt2":
            return GPT2_TOKENS
        return len((self.chars if self.token_kind == "char" else self.tokens) or ())

    @property
    def special_ids(self) -> dict[str, int]:
        """The id of each special token, the end of a text included where there is one."""
        ids = {name: self.ordinary + i for i, name in enumerate(self.special or ())}
        return {END_OF_TEXT: GPT2_TOKENS - 1, **ids} if self.token_kind == "gpt2" else ids

    def with_special(self) -> Self:
        """The same vocabulary with every special token that a dataset may hold: end of text, and those of a chat."""
        special = CHAT_TOKENS if self.token_kind == "gpt2" else (END_OF_TEXT, *CHAT_TOKENS)
        return self.model_copy(update={"special": special, "vocab_size": self.ordinary + len(special)})

    def extends(self, other: "TokenizerFile") -> bool:
        """Whether every id of `other` means the same here; this one may have further special tokens."""
        mine, theirs = self.special or (), other.special or ()
        apart = {"vocab_size", "special"}
        return self.model_dump(exclude=apart) == other.model_dump(exclude=apart) and mine[: len(theirs)] == theirs
