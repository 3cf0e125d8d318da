"""Settings of text generation."""

from mypt.schema.base import Section, setting


class GenerationConfig(Section):
    """Prompt, length and sampling of generated text."""

    prompt: str = setting(
        "", "Text to continue; if empty, generation starts at the beginning of a new text.", on_resume="harmless"
    )
    max_new_tokens: int = setting(200, "Number of tokens to generate.", unit="tokens", on_resume="harmless", gt=0)
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
    seed: int = setting(1337, "Random seed; the same seed gives the same text.", on_resume="harmless", ge=0, lt=2**63)
