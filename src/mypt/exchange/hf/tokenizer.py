"""tokenizer.json and tokenizer_config.json of Hugging Face, made of a bundle's tokenizer."""

import json
from collections.abc import Mapping
from typing import Any

from mypt.data.byte_pairs import letters_of, merges_of
from mypt.data.tokenizer import Tokenizer
from mypt.errors import UsageError
from mypt.schema.files.chat import ChatTemplate
from mypt.schema.files.tokenizer import END_OF_TEXT


def tokenizer_text(tokenizer: Tokenizer) -> str:
    """tokenizer.json as text; one that came with a model as it came, unless it has got further special tokens."""
    if tokenizer.file.hf is not None and not tokenizer.file.special:
        return tokenizer.file.hf
    return json.dumps(tokenizer_json(tokenizer), ensure_ascii=False, indent=2) + "\n"


def tokenizer_json(tokenizer: Tokenizer) -> dict[str, Any]:
    """tokenizer.json, which gives every text the ids that the bundle's tokenizer gives it.

    Raises:
        UsageError: the vocabulary is not known.
    """
    kind, file = tokenizer.kind, tokenizer.file
    if kind == "ids":
        raise UsageError(
            "A tokenizer of kind ids is not written for Hugging Face: its vocabulary is not known.",
            "Use the tokenizer.json that its ids came with.",
        )
    if file.hf is not None:
        content: dict[str, Any] = json.loads(file.hf)
        further = {name: file.ordinary + i for i, name in enumerate(file.special or ())}
        return {**content, "added_tokens": [*(content.get("added_tokens") or ()), *_added(further)]}
    common = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": _added(file.special_ids),
        "normalizer": None, "post_processor": None,
    }  # fmt: skip
    return {**common, **(_char(tokenizer) if kind == "char" else _bpe(tokenizer))}


def _added(special: Mapping[str, int]) -> list[dict[str, Any]]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return [{"id": i, "content": name, **flags} for name, i in sorted(special.items(), key=lambda pair: pair[1])]


def tokenizer_config(tokenizer: Tokenizer, block_size: int) -> dict[str, Any]:
    """tokenizer_config.json, with the chat template if there is one."""
    file = tokenizer.file
    end = file.end_of_text or (END_OF_TEXT if END_OF_TEXT in file.special_ids else None)
    template = file.template
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": block_size,
        "clean_up_tokenization_spaces": False,
        **({"bos_token": end, "eos_token": end} if end else {}),
        **({"chat_template": chat_jinja(template)} if template else {}),
    }


def chat_jinja(template: ChatTemplate) -> str:
    """A chat template in Jinja, which writes a conversation as `mypt.data.chat.render` does."""
    calls = "{{- raise_exception('The model knows no calls of tools.') }}"
    if template.call is not None:
        calls = (
            "{%- set f = call.function if call.function is defined else call %}"
            f"{{{{- {_quoted(template.call)} + '{{\"name\": ' + f.name | tojson + ', \"arguments\": ' + "
            "(f.arguments if f.arguments is string else f.arguments | tojson) + '}' }}"
        )
    roles = "{" + ", ".join(f"{_quoted(role)}: {_quoted(marker)}" for role, marker in template.roles.items()) + "}"
    return (
        f"{{%- set markers = {roles} %}}"
        "{%- for message in messages %}"
        "{%- if message.role not in markers %}{{- raise_exception('The model knows no role ' + message.role) }}"
        "{%- endif %}"
        "{{- markers[message.role] + (message.content or '') }}"
        f"{{%- for call in message.tool_calls or [] %}}{calls}{{%- endfor %}}"
        f"{{{{- {_quoted(template.end)} }}}}"
        "{%- endfor %}"
        f"{{%- if add_generation_prompt %}}{{{{- {_quoted(template.roles['assistant'])} }}}}{{%- endif %}}"
    )


def _quoted(text: str) -> str:
    return json.dumps(text)


def _bpe(tokenizer: Tokenizer) -> dict[str, Any]:
    ranked = [tokenizer.token_bytes(i) for i in range(tokenizer.file.ordinary)]
    words = [letters_of(token) for token in ranked]
    if tokenizer.kind == "gpt2":
        words[-1] = END_OF_TEXT  # a token that no merge makes
        ranked = ranked[:-1]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    model = {
        "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": "", "end_of_word_suffix": "",
        "fuse_unk": False, "byte_fallback": False, "ignore_merges": True,
        "vocab": {word: i for i, word in enumerate(words)},
        "merges": [[letters_of(a), letters_of(b)] for a, b in merges_of(ranked)],
    }  # fmt: skip
    return {"pre_tokenizer": level, "decoder": level, "model": model}


def _char(tokenizer: Tokenizer) -> dict[str, Any]:
    """A character is a word; one that is not in the vocabulary is an error, since there is no token for it."""
    vocabulary = {char: i for i, char in enumerate(tokenizer.file.chars or ())}
    split = {"type": "Split", "pattern": {"Regex": r"(?m)."}, "behavior": "Isolated", "invert": False}
    model = {"type": "WordLevel", "vocab": vocabulary, "unk_token": "\0unknown"}
    return {"pre_tokenizer": split, "decoder": {"type": "Fuse"}, "model": model}
