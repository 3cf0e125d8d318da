"""The chat template in tokenizer.json: which special tokens mark the turns of a conversation; see docs/files.md."""

from collections.abc import Collection
from typing import Literal, Self, get_args

from pydantic import model_validator

from mypt.schema.base import Record

Role = Literal["system", "user", "assistant", "tool", "tools"]
"""Who speaks: `tool` gives the result of a call, `tools` defines what can be called."""
ROLES: tuple[Role, ...] = get_args(Role)
CHAT_TOKENS = ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
"""Start of a turn of each role, and end of a turn; all that earlier versions knew."""
TOOL_TOKENS = ("<|tool|>", "<|tools|>", "<|call|>")
"""Start of a tool's result, of the definitions of tools, and of a call inside an assistant's turn."""


class ChatTemplate(Record):
    """How a conversation is written in tokens: the marker of its role, its content, its calls, and the end marker.

    Attributes:
        roles: the marker that begins a turn of each role that the tokenizer has one for.
        call: the marker that begins a call of a tool inside an assistant's turn; None if there is none.
        end: the marker after each turn.
    """

    roles: dict[Role, str]
    call: str | None = None
    end: str

    @model_validator(mode="after")
    def _check_markers(self) -> Self:
        if "assistant" not in self.roles:
            raise ValueError("the chat template has no marker for the assistant")
        if len(set(self.markers)) < len(self.markers):
            raise ValueError("two markers of the chat template are the same")
        return self

    @property
    def markers(self) -> tuple[str, ...]:
        """Every marker."""
        return (*self.roles.values(), *([] if self.call is None else [self.call]), self.end)

    @classmethod
    def of_tokens(cls, special: Collection[str]) -> "ChatTemplate":
        """The template of mypt, with the markers that are among some special tokens."""
        roles: dict[Role, str] = {role: f"<|{role}|>" for role in ROLES if f"<|{role}|>" in special}
        return cls(roles=roles, call="<|call|>" if "<|call|>" in special else None, end="<|end|>")
