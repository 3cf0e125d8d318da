"""How text is generated from a model."""

from mypt.schema.base import Section, setting


class GenerationConfig(Section):
    """What to continue, for how long, and how each next token is chosen."""

    prompt: str = setting(
        "", "Text to continue; without one, generation starts as at the beginning of a text.", on_resume="harmless"
    )
    max_new_tokens: int = setting(200, "Length of the answer.", unit="tokens", on_resume="harmless", gt=0)
    temperature: float = setting(
        0.8, "Divides the logits: below 1 is more predictable; 0 always takes the likeliest token.",
        on_resume="harmless", ge=0,
    )  # fmt: skip
    top_k: int | None = setting(
        None, "Choose among the k likeliest tokens only.", unit="tokens", on_resume="harmless", gt=0
    )
    top_p: float | None = setting(
        None, "Choose among the likeliest tokens that together reach this probability (Holtzman et al. 2020).",
        on_resume="harmless", gt=0, le=1,
    )  # fmt: skip
    seed: int = setting(1337, "The same seed gives the same text.", on_resume="harmless", ge=0, lt=2**63)
