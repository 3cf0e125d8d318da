"""`mypt chat`: a conversation with a model, which is loaded once."""

import json
from collections.abc import Callable, Generator
from pathlib import Path

from mypt.checkpoint.manager import CheckpointManager, Loaded
from mypt.data.chat import Message, chat_template, prompt_ids, stop_ids
from mypt.errors import InputError
from mypt.model.generation import generate_text
from mypt.model.network import Network
from mypt.schema.base import encodable
from mypt.schema.settings.generation import AnswerConfig, GenerationConfig
from mypt.train.device.devices import resolve_device

_ROOM = 4
"""Share of the window, 1 in this, that stays free for an answer, if it may be that long."""
Notice = Callable[[str], None]


def open_conversation(
    name: str, out_dir: Path, config: AnswerConfig, system: str | None, device: str, notice: Notice
) -> "Conversation":
    """A conversation with a bundle.

    Args:
        name: of the bundle, or its path.
        out_dir: folder of all bundles.
        config: the settings of its answers.
        system: what the system says first.
        device: where to compute.
        notice: told what the model was not trained on, and what it no longer sees.

    Raises:
        UsageError: there is no such bundle, or it was never taught to talk.
        BundleError: the bundle is damaged.
    """
    loaded = CheckpointManager.find(name, out_dir).load(resolve_device(device))
    return Conversation(loaded, config, system, notice)


class Conversation:
    """Messages and their answers, as many of the latest as the model can see.

    Attributes:
        messages: all of them, the system's first if there is one.
    """

    def __init__(self, loaded: Loaded[Network], config: AnswerConfig, system: str | None, notice: Notice) -> None:
        tokenizer = loaded.tokenizer
        self._template = chat_template(tokenizer)
        self._model, self._tokenizer, self._notice = loaded.model, tokenizer, notice
        self._config = GenerationConfig(**config.model_dump(include={*GenerationConfig.model_fields}))
        turns = {tokenizer.file.special_ids[marker] for marker in self._template.roles.values()}
        self._ends = stop_ids(tokenizer) | turns
        self._size = loaded.model.config.block_size
        self._limit = self._size - min(self._config.max_new_tokens, self._size // _ROOM)
        self._first = [] if system is None else [self._checked_system(system)]
        self.reset()
        trained_on = (loaded.state.data, *(phase.data for phase in loaded.state.curriculum))
        if not any(data.masked for data in trained_on if data is not None):
            notice("The model was not trained on the answers of conversations alone, so it may not give any.")

    def reset(self) -> None:
        """Begin anew; what the system says stays."""
        self.messages = [*self._first]
        self._left_out = 0

    def answer(self, text: str) -> Generator[str, None, None]:
        """Yield the answer to a message in pieces; what was said of it stays in the conversation if it is closed.

        Raises:
            InputError: the message alone is too long, or has characters that the model does not know.
        """
        message = Message("user", _checked(text))
        ids = self._ids(message)
        return self._said(message, ids)

    def as_json(self) -> str:
        """The conversation as one line of JSON, which `mypt prepare --chat` reads."""
        messages = [{"role": message.role, "content": message.content} for message in self.messages]
        return json.dumps({"messages": messages}, ensure_ascii=False) + "\n"

    def _said(self, message: Message, ids: list[int]) -> Generator[str, None, None]:
        number = sum(one.role == "assistant" for one in self.messages)
        config = self._config.model_copy(update={"seed": self._config.seed_of(number)})
        self.messages += [message, Message("assistant", "")]
        said = ""
        try:
            for piece in generate_text(self._model, self._tokenizer, ids, config, self._ends):
                said += piece
                yield piece
        finally:
            self.messages[-1] = Message("assistant", said)

    def _checked_system(self, text: str) -> Message:
        """What the system says, with which a message can be answered.

        Raises:
            InputError: there is no room for any message beside it, or it has characters that the model does not know.
        """
        message = Message("system", text)
        try:
            taken = len(prompt_ids([message, Message("user", "")], self._tokenizer))
        except InputError as error:
            raise InputError(f"The system message cannot be written: {error.what}", error.todo) from error
        if taken > self._limit:
            raise InputError(
                f"The system message takes {taken:,} tokens with the markers of a message, and the model takes "
                f"{self._limit:,} of its {self._size:,} before an answer.",
                "Give a shorter --system.",
            )
        return message

    def _ids(self, message: Message) -> list[int]:
        """The tokens that the model sees; the oldest exchanges are left out until there is room for an answer."""
        exchanges = self.messages[len(self._first) :]
        for start in range(self._left_out, len(exchanges) + 1, 2):
            ids = prompt_ids([*self._first, *exchanges[start:], message], self._tokenizer)
            if len(ids) <= self._limit:
                if start and not self._left_out:
                    self._notice(
                        f"The oldest messages are left out from here on: the model sees {self._size:,} tokens."
                    )
                self._left_out = start
                return ids
        raise InputError(
            f"The message takes {len(ids):,} tokens with what belongs to it, and the model takes {self._limit:,} of "
            f"its {self._size:,} before an answer.",
            "Give a shorter message.",
        )


def _checked(text: str) -> str:
    try:
        return encodable(text)
    except ValueError as error:
        raise InputError(f"The message {error}.", "Give it in UTF-8.") from error
