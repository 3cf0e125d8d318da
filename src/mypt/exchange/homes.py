"""Where an architecture has a home among the models that other programs know; told from its config alone."""

from dataclasses import dataclass

from mypt.errors import UsageError
from mypt.schema.settings.config import GPTConfig
from mypt.schema.settings.export import Format

_FORMATS: dict[Format, str] = {"hf": "Hugging Face", "gguf": "GGUF"}
_STYLES = {
    ("learned", "gelu", "layernorm"): "gpt2",
    ("rope", "swiglu", "rmsnorm"): "llama",
    ("rope", "swiglu", "layernorm"): "stablelm",
    ("rope", "gelu", "layernorm"): "starcoder2",
    ("rope", "gelu", "rmsnorm"): "arcee",
}
"""The family that has these positions, this feed-forward layer and this norm."""
_CLASSES = {
    "gpt2": "GPT2LMHeadModel",
    "llama": "LlamaForCausalLM",
    "stablelm": "StableLmForCausalLM",
    "starcoder2": "Starcoder2ForCausalLM",
    "arcee": "ArceeForCausalLM",
}


@dataclass(frozen=True)
class Home:
    """A family of models that computes what a config does.

    Attributes:
        family: its name, `model_type` in Hugging Face and `general.architecture` in GGUF.
        hf_class: its class in transformers.
    """

    family: str
    hf_class: str


def home_of(config: GPTConfig, form: Format) -> Home:
    """The home of a config.

    Raises:
        UsageError: it has none; the message says which part has none, and what to do.
    """
    family = _STYLES.get((config.pos_encoding, config.mlp_type, config.norm_type))
    if reason := _without_home(config, family, form):
        part, instead = reason
        code = "Export with --format hf --with-code, or train" if form == "hf" else "Train"
        raise UsageError(f"No model of {_FORMATS[form]} has {part}.", f"{code} with {instead} next time.")
    assert family is not None
    return Home(family, _CLASSES[family])


def home_or_code(config: GPTConfig) -> Home | None:
    """The home of a config in Hugging Face; None where mypt's own class has to compute it."""
    try:
        return home_of(config, "hf")
    except UsageError:
        return None


def _without_home(config: GPTConfig, family: str | None, form: Format) -> tuple[str, str] | None:
    """The part that has no home, and the settings that have one."""
    if config.token_conv > 1:
        return "a convolution over embeddings (token_conv)", "token_conv 1"
    if family is None:
        style = f"{config.mlp_type} and {config.norm_type}"
        return f"learned positions with {style}", "pos_encoding rope, or with mlp_type gelu and norm_type layernorm"
    if form == "hf" and family == "gpt2" and config.kv_heads < config.n_head:
        return "learned positions with grouped heads (n_kv_head)", "n_kv_head not set, or pos_encoding rope"
    if family == "stablelm" and config.bias:
        return "rope with swiglu, layernorm and biases", "bias off, or norm_type rmsnorm"
    if family == "arcee" and form == "gguf":
        return "rope with gelu and rmsnorm", "mlp_type swiglu, or norm_type layernorm"
    return None
