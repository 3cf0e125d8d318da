"""Settings of text generation, and of what it starts from."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, model_validator

from mypt.schema.base import Section, encodable, same_as, setting

SEEDS = 2**63
"""Number of different random seeds."""


def _not_empty(value: str) -> str:
    if not value:
        raise ValueError("is empty, which every text has at its beginning")
    return value


EncodableText = Annotated[str, AfterValidator(encodable)]
StopText = Annotated[EncodableText, AfterValidator(_not_empty)]


class AnswerConfig(Section):
    """Length and sampling of generated text, and the texts that end it."""

    max_new_tokens: int = setting(
        200, "Largest number of tokens to generate.", unit="tokens", on_resume="harmless", gt=0
    )  # fmt: skip
    temperature: float = setting(
        0.8, "Softmax temperature: lower is more predictable, and 0 always picks the most likely token.",
        on_resume="harmless", ge=0,
    )  # fmt: skip
    top_k: int | None = setting(
        None, "Sample only from the k most likely tokens.", unit="tokens", on_resume="harmless", gt=0
    )
    top_p: float | None = setting(
        None, "Nucleus sampling: sample only from the smallest set of most likely tokens whose total probability "
        "reaches this value (Holtzman et al. 2020).",
        on_resume="harmless", gt=0, le=1,
    )  # fmt: skip
    stop: tuple[StopText, ...] = setting(
        (), "End before this text; give it again for further ones, of which the first to occur ends.",
        on_resume="harmless",
    )  # fmt: skip
    seed: int = setting(1337, "Random seed; the same seed gives the same text.", on_resume="harmless", ge=0, lt=SEEDS)

    def seed_of(self, number: int) -> int:
        """The seed of a sample or of an answer, counted from 0, whatever their number."""
        return (self.seed + number) % SEEDS


class GenerationConfig(AnswerConfig):
    """Length, sampling and end of generated text."""

    ignore_end: bool = setting(
        False, "Go on after the model has ended its text or its answer, and show the token by which it did.",
        on_resume="harmless", names=("--no-stop",),
    )  # fmt: skip


class PromptConfig(Section):
    """What is continued or answered, and how often."""

    prompt: EncodableText = setting(
        "", "Text to continue, - for standard input; if empty, generation starts as at the beginning of a text.",
        on_resume="harmless",
    )  # fmt: skip
    prompt_file: Path | None = setting(None, "File whose text is continued.", on_resume="harmless")
    chat: bool = setting(
        False, "Answer the prompt as the message of a user, by the template that the model was trained with.",
        on_resume="harmless",
    )  # fmt: skip
    system: EncodableText | None = setting(None, "What the system says before the conversation.", on_resume="harmless")
    num_samples: int = setting(
        1, "Number of texts; the seed of each is by 1 larger than that of the one before.", on_resume="harmless", gt=0
    )

    @model_validator(mode="after")
    def _check_prompt(self) -> Self:
        if self.prompt and self.prompt_file is not None:
            raise ValueError("prompt and prompt_file are both given; give one of them")
        return self


class GenerateConfig(PromptConfig, GenerationConfig):
    """All settings of `mypt generate`."""

    @model_validator(mode="after")
    def _check_chat(self) -> Self:
        if self.chat and not self.prompt and self.prompt_file is None:
            raise ValueError("chat answers a prompt, and none is given")
        if self.system is not None and not self.chat:
            raise ValueError("system is for an answer; give chat too")
        return self


class SystemConfig(Section):
    """What a conversation begins with."""

    system: EncodableText | None = same_as(PromptConfig, "system")


class ChatConfig(SystemConfig, AnswerConfig):
    """All settings of `mypt chat`."""
