"""Folders for Hugging Face: every config with a home loads there and computes the same."""

import itertools
import json
from typing import Any

import pytest
import torch

from mypt.errors import InputError, UsageError
from mypt.exchange.hf.weights import from_hf, to_hf
from mypt.exchange.homes import home_of
from mypt.model.network import Network
from mypt.schema.settings.config import GPTConfig

STYLES = list(
    itertools.product(("learned", "rope"), ("gelu", "swiglu"), ("layernorm", "rmsnorm"), (False, True), (False, True))
)


def config(pos: str, mlp: str, norm: str, bias: bool = False, tied: bool = False, **other: Any) -> GPTConfig:
    return GPTConfig(**{
        "n_embd": 32, "n_head": 4, "n_layer": 2, "block_size": 80, "vocab_size": 61, "dropout": 0.0, "device": "cpu",
        "pos_encoding": pos, "mlp_type": mlp, "norm_type": norm, "bias": bias, "tie_weights": tied, **other,
    })  # fmt: skip


def has_home(config: GPTConfig) -> bool:
    try:
        home_of(config, "hf")
    except UsageError:
        return False
    return True


WITH_HOME = [c for style in STYLES if has_home(c := config(*style))] + [
    config(
        pos, mlp, norm, bias, bias, rope_theta=500.0, rope_scale=2.0, n_kv_head=kv, mlp_hidden=40, norm_eps=0.1,
        gelu="exact",
    )
    for pos, mlp, norm, bias, kv in (
        ("learned", "gelu", "layernorm", True, None), ("rope", "gelu", "layernorm", True, 1),
        ("rope", "gelu", "rmsnorm", True, 2), ("rope", "swiglu", "rmsnorm", True, 2),
        ("rope", "swiglu", "layernorm", False, 1),
    )
]  # fmt: skip


def shaken(config: GPTConfig) -> Network:
    """A network whose norms and biases are drawn too, so that one that is lost or exchanged shows."""
    model = Network(config).eval()
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn(p.shape, generator=generator) * (0.3 if p.dim() == 1 else 0.15))
    return model


def short(config: GPTConfig) -> str:
    return json.dumps(config.model_dump(exclude_defaults=True))[:150]


@pytest.mark.parametrize("config", WITH_HOME, ids=short)
def test_weights_come_back_bit_by_bit(config: GPTConfig) -> None:
    weights, home = shaken(config).state_dict(), home_of(config, "hf")
    back = from_hf(to_hf(weights, config, home), config, home)
    assert back.keys() == weights.keys() and all(torch.equal(back[name], weights[name]) for name in weights)


@pytest.mark.parametrize("config", WITH_HOME, ids=short)
def test_a_tensor_that_is_missing_surplus_or_has_no_place_is_told(config: GPTConfig) -> None:
    home = home_of(config, "hf")
    whole = to_hf(shaken(config).state_dict(), config, home)
    wrong = whole | {"surplus": torch.ones(1)}
    lost = next(iter(whole))
    del wrong[lost]
    zeros = [name for name, tensor in whole.items() if not tensor.any()]
    wrong |= {name: torch.ones_like(whole[name]) for name in zeros}
    with pytest.raises(InputError) as caught:
        from_hf(wrong, config, home)
    told = "\n".join(caught.value.details)
    assert f"{lost} is missing" in told and "surplus is no part" in told
    assert all(f"{name} is not zero" in told for name in zeros if name != lost)


@pytest.mark.parametrize("style", STYLES)
def test_what_has_no_home_is_told_with_what_to_do(style: tuple[str, str, str, bool, bool]) -> None:
    with pytest.raises(UsageError, match="--with-code"):
        home_of(config(*style, token_conv=3), "hf")
    if not has_home(config(*style)):
        with pytest.raises(UsageError, match=r"(?s)No model of Hugging Face has .*--with-code, or train with"):
            home_of(config(*style), "hf")


def test_what_one_format_has_a_home_for_the_other_may_have_none_for() -> None:
    with pytest.raises(UsageError, match="n_kv_head"):
        home_of(config("learned", "gelu", "layernorm", n_kv_head=1), "hf")
    assert home_of(config("learned", "gelu", "layernorm", n_kv_head=1), "gguf").family == "gpt2"
    with pytest.raises(UsageError, match="rmsnorm"):
        home_of(config("rope", "gelu", "rmsnorm"), "gguf")
