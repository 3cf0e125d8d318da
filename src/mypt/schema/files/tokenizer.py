"""tokenizer.json: a tokenizer with its vocabulary; see docs/files.md."""

from typing import Any, Literal, Self

from pydantic import field_validator, model_validator

from mypt.schema.base import Record
from mypt.schema.files.chat import CHAT_TOKENS, TOOL_TOKENS, ChatTemplate
from mypt.schema.hf_vocabulary import hf_vocabulary
from mypt.schema.settings.data import TokenKind

GPT2_TOKENS = 50257
END_OF_TEXT = "<|endoftext|>"
"""Separates documents; the last token of GPT-2's vocabulary."""
GPT2_PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""
"""GPT-2's pattern for splitting text into words, with possessive quantifiers as in tiktoken."""
PATTERNS = (GPT2_PATTERN,)
"""Every pattern that mypt has written. Another one could match nothing, or take for ever, on some text."""
LONGEST_TOKEN = 1 << 12
"""Bytes of a token of bpe; a text of a single repeated character would make ever longer ones."""

LARGEST_UNKNOWN = 1 << 24
"""Ids of which no vocabulary is known; many times as many as the largest vocabularies have."""

_Entries = tuple[str, ...] | None
_LONGEST_NAME = 200
_HEXADECIMAL = set("0123456789abcdef")


class TokenizerFile(Record):
    """The tokenizer of a bundle or dataset, in field order.

    Attributes:
        token_kind: gpt2, char or bpe; ids where the vocabulary is not known; hf for one that came with a model.
        vocab_size: number of token ids, including special tokens.
        chars: for char, the characters; a character's index is its id.
        pattern: for bpe, the regular expression that splits text into words before merging; one of `PATTERNS`.
        tokens: for bpe, the bytes of each token in hexadecimal; a token's index is its id and merge rank. Each single
            byte is among them, so that every text can be encoded.
        hf: for hf, the text of the tokenizer.json that the package tokenizers runs, as it came.
        end_of_text: for hf, its special token that ends a document; None if it has none.
        special: special tokens such as `<|user|>`, which `encode` never produces; their ids follow all others.
        chat_template: how conversations are written, where the ids are of some; see `template`.
    """

    token_kind: TokenKind
    vocab_size: int
    chars: tuple[str, ...] | None = None
    pattern: str | None = None
    tokens: tuple[str, ...] | None = None
    hf: str | None = None
    end_of_text: str | None = None
    special: tuple[str, ...] | None = None
    chat_template: ChatTemplate | None = None

    @field_validator("chars", "tokens", "special", mode="before")
    @classmethod
    def _check_entries(cls, entries: Any) -> Any:
        """Of a list with a million faults tell the first, before each of them is described."""
        if isinstance(entries, list | tuple) and not all(isinstance(entry, str) for entry in entries):
            raise ValueError("an entry is no text")
        return entries

    @model_validator(mode="after")
    def _check_vocabulary(self) -> Self:
        vocabularies = {"char": self.chars, "bpe": self.tokens, "hf": self.hf}
        if self.token_kind in vocabularies and vocabularies[self.token_kind] is None:
            raise ValueError(f"a {self.token_kind} tokenizer needs its vocabulary")
        if (self.hf, self.end_of_text) != (None, None) and self.token_kind != "hf":
            raise ValueError(f"a {self.token_kind} tokenizer has no tokenizer of Hugging Face")
        if self.hf is not None and self.end_of_text not in (None, *hf_vocabulary(self.hf).special):
            raise ValueError(f"{self.end_of_text} is no special token, and can end no document")
        if self.token_kind == "ids" and (self.special or not 0 < self.vocab_size <= LARGEST_UNKNOWN):
            raise ValueError(f"ids without a vocabulary have no special tokens, and are 1 to {LARGEST_UNKNOWN}")
        if self.ordinary + len(self.special or ()) != self.vocab_size:
            raise ValueError(f"vocab_size {self.vocab_size} does not match the entries of the vocabulary")
        if self.token_kind == "bpe" and self.pattern not in PATTERNS:
            raise ValueError("the pattern of a bpe tokenizer is not one that mypt writes")
        if fault := _fault(self.chars, self.tokens, self.special):
            raise ValueError(fault)
        if self.chat_template and (lost := [m for m in self.chat_template.markers if m not in self.special_ids]):
            raise ValueError(f"{lost[0]} of the chat template is no special token")
        return self

    @property
    def ordinary(self) -> int:
        """Number of ids before the special tokens."""
        if self.token_kind == "gpt2":
            return GPT2_TOKENS
        if self.token_kind == "ids":
            return self.vocab_size
        if self.hf is not None:
            return hf_vocabulary(self.hf).size
        return len((self.chars if self.token_kind == "char" else self.tokens) or ())

    @property
    def dtype(self) -> Literal["uint16", "uint32"]:
        """The smallest dtype of ids: uint16 if the vocabulary allows it."""
        return "uint16" if self.vocab_size <= 2**16 else "uint32"

    @property
    def special_ids(self) -> dict[str, int]:
        """The id of each special token, with that which ends a document under the name of GPT-2's."""
        ids = {name: self.ordinary + i for i, name in enumerate(self.special or ())}
        if self.hf is not None:
            own = hf_vocabulary(self.hf).special
            ends = {} if self.end_of_text is None else {END_OF_TEXT: own[self.end_of_text]}
            return {**own, **ends, **ids}
        return {END_OF_TEXT: GPT2_TOKENS - 1, **ids} if self.token_kind == "gpt2" else ids

    @property
    def template(self) -> ChatTemplate | None:
        """How to talk: the stored template, or the one of earlier versions, which stored none; else None."""
        if self.chat_template is not None:
            return self.chat_template
        own = self.special_ids
        return ChatTemplate.of_tokens(own) if own.keys() >= {*CHAT_TOKENS} and not own.keys() & {*TOOL_TOKENS} else None

    def with_special(self) -> Self:
        """The same vocabulary with all special tokens of a dataset; one that can talk already gets no more of them."""
        own = self.special_ids
        talks = own.keys() >= {"<|assistant|>", "<|end|>"}
        wanted = (END_OF_TEXT,) if talks else (END_OF_TEXT, *CHAT_TOKENS, *TOOL_TOKENS)
        special = (*(self.special or ()), *(token for token in wanted if token not in own))
        return self.model_copy(update={"special": special, "vocab_size": self.ordinary + len(special)})

    def with_template(self, template: ChatTemplate | None = None) -> Self:
        """The same tokenizer that knows how to talk: as before, else by `template`, else as its markers allow."""
        known = self.chat_template or template or ChatTemplate.of_tokens(self.special_ids)
        return self.model_copy(update={"chat_template": known})

    def meaning(self) -> dict[str, Any]:
        """What decides on the text of each id, which the template does not; of recorded datasets it stays as it was."""
        later = {"hf", "end_of_text"} if self.hf is None else set()
        return self.model_dump(exclude={"chat_template", *later})

    def extends(self, other: "TokenizerFile") -> bool:
        """True if every id of `other` means the same here; this one may have more special tokens."""
        if self.ordinary != other.ordinary:
            return False
        own, others = self.special or (), other.special or ()
        exclude = {"vocab_size", "special", "chat_template"}
        return self.model_dump(exclude=exclude) == other.model_dump(exclude=exclude) and own[: len(others)] == others


def _fault(chars: _Entries, tokens: _Entries, special: _Entries) -> str | None:
    """Why a vocabulary could not encode and decode each text; None if it can."""
    for entries, name in ((chars, "chars"), (tokens, "tokens"), (special, "special")):
        if entries is not None and len(set(entries)) < len(entries):
            return f"an entry of {name} is there twice"
    if any(len(char) != 1 for char in chars or ()):
        return "an entry of chars is not one character"
    if not _is_text("".join((*(chars or ()), *(special or ())))):
        return "an entry of chars or special is no text"
    if any(len(name) > _LONGEST_NAME or not name for name in special or ()):
        return f"a special token has no name, or one of more than {_LONGEST_NAME} characters"
    if (tokens is not None and not all(map(_is_size, map(len, tokens)))) or set("".join(tokens or ())) - _HEXADECIMAL:
        return f"an entry of tokens is not 1 to {LONGEST_TOKEN} bytes in hexadecimal"
    if tokens is not None and not {f"{byte:02x}" for byte in range(256)}.issubset(tokens):
        return "the tokens of some bytes are missing"
    return None


def _is_size(digits: int) -> bool:
    return digits % 2 == 0 and 0 < digits <= 2 * LONGEST_TOKEN


def _is_text(value: str) -> bool:
    """Whether a value can be written as UTF-8, which half of a character cannot."""
    return not any("\ud800" <= char <= "\udfff" for char in value)
