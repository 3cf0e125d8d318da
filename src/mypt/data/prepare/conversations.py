"""Conversations of the kinds that are in use, read from rows: what a row is, and its turns."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, get_args

from mypt.data.chat import Message
from mypt.data.prepare.turns import Fields, as_json, listed, message, sharegpt_message, whole
from mypt.schema.files.chat import Role
from mypt.schema.settings.prepare import ChatFormat

LISTS = ("messages", "conversations", "conversation")
"""Fields that hold a list of messages."""
PROMPTS, COMPLETIONS = ("prompt", "question"), ("completion", "response", "answer")
INPUTS, OUTPUTS = ("input", "context"), ("output", "response")
SYSTEMS = ("system", "system_prompt")
TOOLS = ("tools", "functions")
MEDIA = ("image", "images", "audio", "audios", "video", "videos")
"""Fields beside the messages that these speak of."""
PREFERENCES = ("chosen", "rejected", "preferred_output", "non_preferred_output")
"""Fields of a better and a worse answer, of which a loss mask cannot say that one is to be avoided."""
EXAMPLES: dict[ChatFormat, str] = {
    "messages": '{"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]}',
    "sharegpt": '{"conversations": [{"from": "human", "value": "..."}, {"from": "gpt", "value": "..."}]}',
    "alpaca": '{"instruction": "...", "input": "...", "output": "..."}',
    "prompt-completion": '{"prompt": "...", "completion": "..."}',
}
"""A row of each kind."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """What a row says.

    Attributes:
        messages: its turns.
        left_out: how often each field was left out, because tokens do not say it.
    """

    messages: tuple[Message, ...]
    left_out: Counter[str]


def kind_of(row: Mapping[str, Any]) -> ChatFormat | None:
    """The first kind of conversation that a row is by its fields; None if it is none."""
    return next((kind for kind in get_args(ChatFormat) if is_kind(row, kind)), None)


def is_kind(row: Mapping[str, Any], kind: ChatFormat) -> bool:
    """Whether a row has the fields of a kind of conversation."""
    there = {name for name, value in row.items() if value is not None}
    if kind == "alpaca":
        return "instruction" in there and bool(there & {*OUTPUTS})
    if kind == "prompt-completion":
        return bool(there & {*PROMPTS}) and bool(there & {*COMPLETIONS})
    lists = [value for name in LISTS if isinstance(value := listed(row.get(name)), list)]
    first = lists[0][0] if lists and lists[0] else None
    return bool(lists) and (isinstance(first, Mapping) and first.get("from") is not None) == (kind == "sharegpt")


def preferences(row: Mapping[str, Any]) -> list[str]:
    """What a row holds of preferences."""
    found = [name for name in PREFERENCES if row.get(name) is not None]
    return found or (["the label false"] if row.get("label") is False and is_kind(row, "prompt-completion") else [])


def read_conversation(row: Mapping[str, Any], kind: ChatFormat) -> Conversation:
    """The conversation of a row.

    Raises:
        ValueError: it is of another kind, or holds what cannot be kept; the message says what.
    """
    if not is_kind(row, kind) and (own := kind_of(row)) is not None:
        raise ValueError(f"this is a conversation of the kind {own}, and the file is read as {kind}")
    if unwanted := preferences(row):
        raise ValueError(f"it has {' and '.join(unwanted)}, and an answer that is to be avoided cannot be learned")
    fields = Fields.of(row, "")
    if media := [name for name in MEDIA if fields.values.get(name)]:
        raise ValueError(f"it has {media[0]}, and only text can be learned")
    learned = fields.learned()
    first = [Message("tools", text) for name in TOOLS if (text := as_json(fields.take(name) or [])) != "[]"]
    first += [Message("system", said) for name in SYSTEMS if (said := fields.text(name))]
    messages = (*first, *_READERS[kind](fields))
    fields.leave()
    return Conversation(tuple(replace(m, learned=m.learned and learned) for m in messages), fields.left_out)


def _messages(fields: Fields) -> list[Message]:
    return _listed(fields, message)


def _sharegpt(fields: Fields) -> list[Message]:
    return _listed(fields, sharegpt_message)


def _listed(fields: Fields, read: Callable[[object, int, Counter[str]], Message]) -> list[Message]:
    name = next((name for name in LISTS if name in fields.values), LISTS[0])
    return _turns(listed(fields.take(name)), name, fields, read)


def _turns(
    values: object, name: str, fields: Fields, read: Callable[[object, int, Counter[str]], Message] = message
) -> list[Message]:
    if not isinstance(values, list) or not values:
        raise ValueError(f"there is no list of messages in a field {name!r}")
    return [read(value, number, fields.left_out) for number, value in enumerate(values, 1)]


def _alpaca(fields: Fields) -> list[Message]:
    """Earlier turns, then the instruction with its input below it, then the output."""
    history = fields.take("history") or []
    if not isinstance(history, list) or not all(_is_pair(pair) for pair in history):
        raise ValueError("there is no list of pairs of texts in a field 'history'")
    pairs = [(Message("user", whole(asked)), Message("assistant", whole(said))) for asked, said in history]
    asked = [_needed(fields, ("instruction",)), *(fields.text(name) or "" for name in INPUTS)]
    earlier = [turn for pair in pairs for turn in pair]
    return [
        *earlier, Message("user", "\n\n".join(filter(None, asked))), Message("assistant", _needed(fields, OUTPUTS)),
    ]  # fmt: skip


def _is_pair(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(text, str) for text in value)


def _prompt_completion(fields: Fields) -> list[Message]:
    """Two texts, or two lists of messages; what the assistant says in the prompt is given, and not learned."""
    given = [replace(m, learned=m.role != "assistant" and m.learned) for m in _said(fields, "user", PROMPTS)]
    return [*given, *_said(fields, "assistant", COMPLETIONS)]


def _said(fields: Fields, role: Role, names: tuple[str, ...]) -> list[Message]:
    name = next((name for name in names if name in fields.values), names[0])
    if isinstance(fields.values.get(name), list):
        return _turns(fields.take(name), name, fields)
    return [Message(role, _needed(fields, (name,)))]


def _needed(fields: Fields, names: tuple[str, ...]) -> str:
    """The text of the first of some fields that is there."""
    for name in names:
        if (text := fields.text(name)) is not None:
            return text
    raise ValueError(f"there is no text in a field {names[0]!r}")


_READERS: dict[ChatFormat, Callable[[Fields], list[Message]]] = {
    "messages": _messages, "sharegpt": _sharegpt, "alpaca": _alpaca, "prompt-completion": _prompt_completion,
}  # fmt: skip
