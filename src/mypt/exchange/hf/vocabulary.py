"""The tokenizer in a folder of Hugging Face: GPT-2's own is mypt's, another one is kept as it came."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mypt.data.byte_pairs import token_of
from mypt.data.hf_encoding import HfEncoding
from mypt.data.tokenizer import Tokenizer, gpt2_letters
from mypt.errors import BundleError, UsageError
from mypt.exchange.hf.tokenizer import chat_jinja, tokenizer_json
from mypt.schema.base import explain_validation
from mypt.schema.files.chat import ChatTemplate
from mypt.schema.files.tokenizer import END_OF_TEXT, GPT2_PATTERN, GPT2_TOKENS, TokenizerFile
from mypt.schema.hf_vocabulary import HfTokenizer, hf_vocabulary
from mypt.schema.json_files import read_bounded
from mypt.schema.settings.config import GPTConfig

TOKENIZER, SETTINGS = "tokenizer.json", "tokenizer_config.json"
_LARGEST = 1 << 25
"""Bytes of a tokenizer.json, which takes up to twice as many as text within another JSON file."""
_NO_TEMPLATE = "Its chat template is not kept: mypt writes conversations with a special token for each role."
_ENDS = (END_OF_TEXT, "</s>", "<|end_of_text|>", "<|eos|>")


@dataclass(frozen=True)
class Vocabulary:
    """What was found.

    Attributes:
        file: the tokenizer; None if there is a reason that it cannot be one.
        reasons: why it cannot be imported.
        notes: what of it was not kept.
    """

    file: TokenizerFile | None
    reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def read_vocabulary(json: Callable[[str], dict[str, Any] | None], folder: Path, config: GPTConfig | None) -> Vocabulary:
    """The tokenizer of a folder.

    Args:
        json: reads a JSON file of the folder.
        folder: the folder.
        config: the architecture, whose rows have to be enough.
    """
    content = json(TOKENIZER)
    if content is None:
        what = f"There is no {TOKENIZER} that says what its ids mean; name another tokenizer by --tokenizer."
        return Vocabulary(None, (what,))
    settings = json(SETTINGS) or {}
    try:
        HfTokenizer.model_validate(content)
        text = read_bounded(folder / TOKENIZER, _LARGEST).decode("utf-8")
        file = gpt2_of(content) or _own(content) or _kept(text, settings)
    except ValidationError as error:
        return Vocabulary(None, tuple(f"{TOKENIZER}: {line}" for line in explain_validation(error)))
    except ValueError as error:
        return Vocabulary(None, (f"{TOKENIZER}: {error}.",))
    reasons = _unusable(file)
    if config is not None and file.vocab_size > config.vocab_size:
        reasons.append(f"{TOKENIZER} has {file.vocab_size:,} ids, and the model {config.vocab_size:,} rows.")
    told = settings.get("chat_template") or (folder / "chat_template.jinja").is_file()
    file, kept = _with_template(file, settings)
    notes = () if kept or not told else (_NO_TEMPLATE,)
    return Vocabulary(file, tuple(reasons), notes)


def _unusable(file: TokenizerFile) -> list[str]:
    """Why the package that runs a kept tokenizer cannot; nothing is known of that where it is not installed."""
    with suppress(UsageError):
        try:
            if file.hf is not None:
                HfEncoding(file.hf).encode("a text")
        except BundleError as error:
            return [f"{TOKENIZER}: {error.what}"]
    return []


def gpt2_of(content: dict[str, Any]) -> TokenizerFile | None:
    """GPT-2's vocabulary, perhaps with special tokens after it; None if a tokenizer.json has another one."""
    before = content.get("pre_tokenizer") or {}
    vocabulary = {token: i for token, i in _words(content).items() if i < GPT2_TOKENS}
    plain = before.get("type") == "ByteLevel" and not before.get("add_prefix_space", True)
    if not plain or content.get("normalizer") or not before.get("use_regex", True):
        return None
    if len(vocabulary) != GPT2_TOKENS or vocabulary != {**gpt2_letters(), END_OF_TEXT: GPT2_TOKENS - 1}:
        return None
    added = {entry["id"]: entry for entry in content.get("added_tokens") or ()}
    further = sorted(set(added) - {GPT2_TOKENS - 1})
    if not all(added[i].get("special") for i in added) or further != [GPT2_TOKENS + n for n in range(len(further))]:
        return None
    special = tuple(added[i]["content"] for i in further)
    return TokenizerFile(token_kind="gpt2", vocab_size=GPT2_TOKENS + len(special), special=special or None)


def _words(content: dict[str, Any]) -> dict[str, int]:
    """The tokens of the model; none where it is of a kind that has no ids of its own."""
    words = content["model"].get("vocab")
    return words if isinstance(words, dict) and all(type(i) is int for i in words.values()) else {}


def _own(content: dict[str, Any]) -> TokenizerFile | None:
    """A vocabulary of mypt's, of characters or byte pairs, if a tokenizer.json is what mypt writes of one."""
    model, added = content.get("model", {}), content.get("added_tokens") or ()
    words, special = tuple(_words(content)), tuple(entry.get("content") for entry in added) or None
    size = len(words) + len(added)
    try:
        if model.get("type") == "WordLevel":
            file = TokenizerFile(token_kind="char", vocab_size=size, chars=words, special=special)
        else:
            tokens = tuple(token_of(word).hex() for word in words)
            file = TokenizerFile(
                token_kind="bpe", vocab_size=size, pattern=GPT2_PATTERN, tokens=tokens, special=special
            )
        return file if tokenizer_json(Tokenizer(file)) == content else None
    except ValidationError:
        return None


def _with_template(file: TokenizerFile, settings: dict[str, Any]) -> tuple[TokenizerFile, bool]:
    """The tokenizer with its chat template, and whether it has one: that of mypt, which alone is of special tokens."""
    try:
        template = ChatTemplate.of_tokens(file.special_ids)
        if settings.get("chat_template") != chat_jinja(template):
            return file, False
        return TokenizerFile.model_validate(dict(file) | {"chat_template": template}), True
    except ValidationError:
        return file, False


def _kept(text: str, settings: dict[str, Any]) -> TokenizerFile:
    """The tokenizer as it came, with the token that ends a text."""
    vocabulary = hf_vocabulary(text)
    stated = settings.get("eos_token")
    stated = stated.get("content") if isinstance(stated, dict) else stated
    ends = next((name for name in (str(stated), *_ENDS) if name in vocabulary.special), None)
    return TokenizerFile(token_kind="hf", vocab_size=vocabulary.size, hf=text, end_of_text=ends)
