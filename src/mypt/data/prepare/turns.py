"""One turn of a conversation, of the objects in which others write it; nothing of it is lost without a word."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from mypt.data.chat import Call, Message
from mypt.data.inputs.rows import kind_of_value
from mypt.schema.files.chat import Role

WEIGHTS = ("weight", "train", "trainable", "training")
"""Fields that say whether a turn, or a whole row, is learned."""
_WRITTEN = {"0": 0, "1": 1, "false": 0, "true": 1, "": None}
"""What is meant by a weight in a table whose cells are texts."""
_TEXT_PARTS = {"text": "text", "input_text": "text", "output_text": "text", "refusal": "refusal"}
"""Field of the text in each kind of part that is text."""
_ARGUMENTS = ("arguments", "parameters")
"""Field of what a tool is called with, in OpenAI's calls and in Llama's."""
_SPOKEN: dict[str, Role] = {
    "system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool",
    "function": "tool",
}  # fmt: skip
_SHAREGPT: dict[str, Role] = {
    "system": "system", "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant",
    "chatgpt": "assistant", "bing": "assistant", "bard": "assistant", "model": "assistant", "tool": "tool",
    "observation": "tool", "function_response": "tool", "function_call": "assistant",
}  # fmt: skip


@dataclass
class Fields:
    """The fields of an object, which are taken one by one; what is left is counted, not forgotten.

    Attributes:
        values: the fields that have a value; null is none, as a table has it where an object lacks a field.
        label: what the object is, for messages, such as `message 2`; empty for a row.
        left_out: how often each field was left out.
    """

    values: dict[str, Any]
    label: str
    left_out: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, value: object, label: str, left_out: Counter[str] | None = None) -> "Fields":
        """The fields of what has to be an object.

        Raises:
            ValueError: it is none.
        """
        if not isinstance(value, Mapping):
            raise ValueError(f"{label or 'it'} is no object")
        there = {name: inner for name, inner in value.items() if inner is not None}
        return cls(there, label, Counter() if left_out is None else left_out)

    def take(self, name: str) -> Any:
        """A field; None if it is not there."""
        return self.values.pop(name, None)

    def text(self, name: str) -> str | None:
        """A field that is text; None if it is not there.

        Raises:
            ValueError: it is something else, or no text that can be written.
        """
        value = self.take(name)
        if value is None:
            return None
        if not isinstance(value, str):
            raise ValueError(f"{self.told}no text in a field {name!r}, but {kind_of_value(value)}")
        return whole(value)

    @property
    def told(self) -> str:
        """How a message about it begins."""
        return f"{self.label} has " if self.label else "it has "

    def learned(self) -> bool:
        """Whether it counts in the loss.

        Raises:
            ValueError: its weight is not 0 or 1, true or false; a loss mask knows no others.
        """
        given = {name: self.take(name) for name in WEIGHTS if name in self.values}
        weights = {name: _WRITTEN.get(w.lower(), w) if isinstance(w, str) else w for name, w in given.items()}
        for name, value in weights.items():
            if value not in (None, 0, 1):
                raise ValueError(f"{self.told}the {name} {json.dumps(value, default=str)}, which is not 0 or 1")
        return all(value is None or value for value in weights.values())

    def leave(self, under: str = "") -> None:
        """Count what was not taken as left out."""
        self.left_out.update(f"{under}{name}" for name in self.values)


def message(value: object, number: int, left_out: Counter[str]) -> Message:
    """A message as in OpenAI's API: role, content, calls of tools.

    Raises:
        ValueError: it is no such message, or holds what tokens cannot say.
    """
    fields = Fields.of(value, f"message {number}", left_out)
    role, learned = _role(fields, "role", _SPOKEN), fields.learned()
    calls = tuple(_calls(fields))
    if calls and role != "assistant":
        raise ValueError(f"message {number} calls a tool, and is not the assistant's")
    content = _content(fields)
    if not content and fields.values.get("refusal"):
        content = fields.text("refusal")
    if content is None and not calls:
        raise ValueError(f"message {number} has no text in a field 'content'")
    fields.leave()
    return Message(role, content or "", calls, learned)


def sharegpt_message(value: object, number: int, left_out: Counter[str]) -> Message:
    """A message as in ShareGPT: from, value; raises as `message`."""
    fields = Fields.of(value, f"message {number}", left_out)
    calling = fields.values.get("from") == "function_call"
    role, learned = _role(fields, "from", _SHAREGPT), fields.learned()
    content = fields.text("value")
    if content is None:
        raise ValueError(f"message {number} has no text in a field 'value'")
    fields.leave()
    if not calling:
        return Message(role, content, learned=learned)
    called = _decoded(content, f"message {number} is a function_call")
    calls = [_call(Fields.of(c, "a call", left_out)) for c in (called if isinstance(called, list) else [called])]
    return Message(role, "", tuple(calls), learned)


def listed(value: object) -> Any:
    """A list that is written as JSON text, as tables have it, as a list; anything else as it is."""
    if not isinstance(value, str) or not value.lstrip().startswith("["):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def whole(text: str) -> str:
    """A text that can be written; JSON escapes can spell half of a character.

    Raises:
        UnicodeEncodeError: it is none.
    """
    text.encode("utf-8")
    return text


def as_json(value: object) -> str:
    """A value as JSON text; text that is JSON already stays as it is."""
    if isinstance(value, str):
        try:
            json.loads(value)
            return whole(value.strip())
        except ValueError:
            pass
    return whole(json.dumps(value, ensure_ascii=False, default=str))


def _role(fields: Fields, name: str, roles: Mapping[str, Role]) -> Role:
    given = fields.take(name)
    if not isinstance(given, str) or given not in roles:
        what = "the role" if name == "role" else f"a field {name!r} of"
        raise ValueError(f"{fields.told}{what} {given!r}, not one of {', '.join(roles)}")
    if roles[given] != "assistant":  # what others say is never learned, so a weight of 1 cannot be kept
        fields.left_out.update(f"{w} of {given}" for w in WEIGHTS if fields.values.get(w) in (1, True))
    return roles[given]


def _content(fields: Fields) -> str | None:
    """What a message says: text, or parts that are text."""
    content = fields.take("content")
    if content is None or isinstance(content, str):
        return None if content is None else whole(content)
    if not isinstance(content, list):
        raise ValueError(f"{fields.told}no text in a field 'content', but {kind_of_value(content)}")
    return "".join(_part(part, fields) for part in content)


def _part(part: object, message: Fields) -> str:
    if isinstance(part, str):
        return whole(part)
    fields = Fields.of(part, f"a part of {message.label}", message.left_out)
    kind = fields.take("type")
    if not isinstance(kind, str) or kind not in _TEXT_PARTS:
        raise ValueError(f"{message.told}a part of the type {kind!r}, and only text can be learned")
    text = fields.text(_TEXT_PARTS[kind])
    if text is None:
        raise ValueError(f"{message.told}a part of the type {kind!r} without text")
    fields.leave("content.")
    return text


def _calls(message: Fields) -> Iterator[Call]:
    """The calls of a message, in both of the ways in which OpenAI's API has written them."""
    calls, legacy = message.take("tool_calls"), message.take("function_call")
    if isinstance(calls, str):
        calls = _decoded(calls, f"{message.label} has tool_calls") if calls.strip() else None
    if calls is not None and not isinstance(calls, list):
        raise ValueError(f"{message.told}no list in tool_calls, but {kind_of_value(calls)}")
    for value in calls or ():
        fields = Fields.of(value, f"a call of {message.label}", message.left_out)
        if (kind := fields.take("type")) not in (None, "function"):
            raise ValueError(f"{message.told}a call of the type {kind!r}, not of a function")
        if (inner := fields.take("function")) is not None:
            fields.leave("tool_calls.")
            fields = Fields.of(inner, fields.label, message.left_out)
        yield _call(fields)
    if legacy is not None:
        yield _call(Fields.of(legacy, f"function_call of {message.label}", message.left_out))


def _call(fields: Fields) -> Call:
    name = fields.text("name")
    arguments = next((v for key in _ARGUMENTS if (v := fields.take(key)) is not None), None)
    if name is None:
        raise ValueError(f"{fields.label} names no function")
    fields.leave("tool_calls.")
    return Call(name, as_json({} if arguments in (None, "") else arguments))


def _decoded(text: str, label: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{label} that is not JSON") from error
