"""A folder with code: what transformers has no class for is computed by mypt itself, which has to be installed."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from torch import Tensor

from mypt.exchange.hf.config import DTYPES, sizes
from mypt.model.shapes import misfits
from mypt.schema.base import explain_validation
from mypt.schema.settings.config import GPTConfig

MODEL_TYPE, CLASS = "mypt", "MyptForCausalLM"
CODE_FILE = "modeling_mypt.py"
CODE = '''"""The class of this folder's model, in the package mypt: pip install mypt."""

from mypt.exchange.hf.remote import MyptConfig, MyptForCausalLM

__all__ = ["MyptConfig", "MyptForCausalLM"]
'''
PREFIX = "network."
"""What the names of the weights have before those of mypt."""


def code_config(config: GPTConfig, dtype: str, end: int | None) -> dict[str, Any]:
    """config.json of a folder with code.

    Args:
        config: architecture.
        dtype: of the weights: fp32, fp16 or bf16.
        end: token that ends a text; None if there is none.
    """
    module = CODE_FILE.removesuffix(".py")
    return {
        "architectures": [CLASS],
        "model_type": MODEL_TYPE,
        "auto_map": {"AutoConfig": f"{module}.MyptConfig", "AutoModelForCausalLM": f"{module}.{CLASS}"},
        "torch_dtype": DTYPES[dtype],
        "architecture": config.model_dump(mode="json"),
        "vocab_size": config.vocab_size,
        **sizes(config),
        "tie_word_embeddings": config.tie_weights,
        "use_cache": False,
        "bos_token_id": end,
        "eos_token_id": end,
        "pad_token_id": None,
    }


def from_code(content: dict[str, Any]) -> tuple[GPTConfig | None, list[str]]:
    """The architecture in a config.json of a folder with code, and what is wrong with it."""
    try:
        return GPTConfig.model_validate(content.get("architecture")), []
    except ValidationError as error:
        return None, [f"config.json: {line}" for line in explain_validation(error)]


def code_tensors(weights: Mapping[str, Tensor], config: GPTConfig) -> dict[str, Tensor]:
    """The weights of a network under the names that its class in transformers has for them."""
    shared = {"lm_head.weight"} if config.tie_weights else set()
    return {PREFIX + name: weight.contiguous() for name, weight in weights.items() if name not in shared}


def weights_of_code(tensors: Mapping[str, Tensor], config: GPTConfig) -> tuple[dict[str, Tensor], list[str]]:
    """The weights by mypt's names, and a reason for each tensor that is missing, surplus, or of another shape."""
    weights = {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items()}
    if config.tie_weights and "token_embedding.weight" in weights:
        weights.setdefault("lm_head.weight", weights["token_embedding.weight"])
    wrong = misfits(config, {name: tuple(weight.shape) for name, weight in weights.items()})
    return weights, [f"{reason}." for reason in wrong]
