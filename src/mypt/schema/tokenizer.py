"""tokenizer.json: all it takes to decode a model's tokens, years later and without a network."""

from typing import Self

from pydantic import BaseModel, ConfigDict, model_validator

from mypt.schema.run import Tokenization


class TokenizerFile(BaseModel):
    """The tokenizer of a bundle, in the order in which it is written.

    Attributes:
        token_kind: gpt2, char or bpe.
        vocab_size: number of token ids that the tokenizer can produce.
        chars: for char, the characters; a character's id is its place.
        pattern: for bpe, the regular expression that cuts text into words before merging.
        tokens: for bpe, every token's bytes in hexadecimal; a token's rank is its place.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    token_kind: Tokenization
    vocab_size: int
    chars: tuple[str, ...] | None = None
    pattern: str | None = None
    tokens: tuple[str, ...] | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        held = {"gpt2": None, "char": self.chars, "bpe": self.tokens}[self.token_kind]
        if self.token_kind != "gpt2" and (held is None or len(held) != self.vocab_size):
            raise ValueError(
                f"vocab_size {self.vocab_size} does not match the {len(held or ())} entries of the vocabulary"
            )
        if self.token_kind == "bpe" and not self.pattern:
            raise ValueError("a bpe tokenizer needs its pattern")
        return self
