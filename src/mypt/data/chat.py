"""Conversations as tokens: the one place that renders turns, and says which tokens of them are learned."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mypt.data.tokenizer import TokenIds, Tokenizer
from mypt.errors import InputError
from mypt.schema.files.chat import ChatTemplate, Role
from mypt.schema.files.tokenizer import END_OF_TEXT

LossMask = npt.NDArray[np.uint8]
_WHAT: dict[Role, str] = {"tool": "the result of a tool", "tools": "definitions of tools"}


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a tool; the arguments are JSON."""

    name: str
    arguments: str

    @property
    def text(self) -> str:
        """What stands after the call marker."""
        return f'{{"name": {json.dumps(self.name, ensure_ascii=False)}, "arguments": {self.arguments}}}'


@dataclass(frozen=True, slots=True)
class Message:
    """A turn of a conversation.

    Attributes:
        role: who speaks.
        content: what is said; markers in it are plain text.
        calls: the calls of tools that follow it.
        learned: whether it counts in the loss, if it is the assistant's.
    """

    role: Role
    content: str
    calls: tuple[Call, ...] = ()
    learned: bool = True

    @property
    def texts(self) -> tuple[str, ...]:
        """Its content and its calls, each encoded alone."""
        return (self.content, *(call.text for call in self.calls))


def render(messages: Sequence[Message], tokenizer: Tokenizer) -> tuple[TokenIds, LossMask]:
    """The tokens of a conversation, and a loss mask that is 1 where the assistant speaks in a turn that is learned.

    The marker of a role is what generation is given, so it is never learned; the marker of a call and the end of a turn
    are what the assistant has to say, so they are.

    Raises:
        InputError: the tokenizer has no marker, or for char no character, that the conversation needs.
    """
    template = chat_template(tokenizer)
    turns = [_turn(message, tokenizer, template) for message in messages]
    masks = [
        np.full(len(ids), message.role == "assistant" and message.learned, np.uint8)
        for message, ids in zip(messages, turns, strict=True)
    ]
    for mask in masks:
        mask[0] = 0
    return np.concatenate([_ids(tokenizer), *turns]), np.concatenate([np.empty(0, np.uint8), *masks])


def plain(messages: Sequence[Message]) -> str:
    """A conversation as one text, by which it is told from others whatever the tokenizer."""
    return "".join(f"<|{m.role}|>" + "<|call|>".join(m.texts) for m in messages)


def prompt_ids(messages: Sequence[Message], tokenizer: Tokenizer) -> list[int]:
    """The tokens of a conversation in which it is the assistant's turn to speak; raises as `render`."""
    template = chat_template(tokenizer)
    ids = [int(token) for token in render(messages, tokenizer)[0]]
    return [*ids, tokenizer.file.special_ids[template.roles["assistant"]]]


def stop_ids(tokenizer: Tokenizer) -> set[int]:
    """The tokens that end an answer: the end of a turn, where the tokenizer knows turns, and the end of a text."""
    template, special = tokenizer.file.template, tokenizer.file.special_ids
    ends = {END_OF_TEXT, *([template.end] if template else [])}
    return {special[marker] for marker in ends if marker in special}


def chat_template(tokenizer: Tokenizer) -> ChatTemplate:
    """The template of a tokenizer.

    Raises:
        InputError: it has none.
    """
    if (template := tokenizer.file.template) is None:
        raise InputError(
            f"The {tokenizer.kind} tokenizer has no chat template, so no conversation can be written with it.",
            "Use a model that was trained on conversations made by `mypt prepare --chat`.",
        )
    return template


def _turn(message: Message, tokenizer: Tokenizer, template: ChatTemplate) -> TokenIds:
    special = tokenizer.file.special_ids
    parts = []
    for marker, text in zip(_markers(message, template), message.texts, strict=True):
        parts += [_ids(tokenizer, special[marker]), tokenizer.encode(text)]
    return np.concatenate([*parts, _ids(tokenizer, special[template.end])])


def _ids(tokenizer: Tokenizer, *ids: int) -> TokenIds:
    return np.array(ids, np.uint16) if tokenizer.file.dtype == "uint16" else np.array(ids, np.uint32)


def _markers(message: Message, template: ChatTemplate) -> list[str]:
    """What begins a turn, and each of its calls."""
    if (begin := template.roles.get(message.role)) is None:
        raise _no_marker(_WHAT.get(message.role, f"the role {message.role}"))
    if message.calls and template.call is None:
        raise _no_marker("a call of a tool")
    return [begin, *([template.call] * len(message.calls) if template.call else ())]


def _no_marker(what: str) -> InputError:
    return InputError(
        f"The tokenizer has no marker for {what}.",
        "Leave such conversations out, or make the dataset with a tokenizer of its own, without --tokenizer-of.",
    )
