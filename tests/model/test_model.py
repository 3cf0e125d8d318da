"""The network against reference implementations, and against itself computed in other ways."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mypt import GPT
from mypt.checkpoint.pt.header import read_headers
from mypt.model.attention import attention
from mypt.model.cost import CHUNK_FROM_VOCAB, mlp_hidden, parameter_count, parameters_by_part
from mypt.model.dropout import Dropout, dropout
from mypt.model.gelu import gelu
from mypt.model.generation import generate
from mypt.model.losses import IGNORED, next_token_loss
from mypt.model.network import Network
from mypt.model.shapes import LISTED, misfits, weight_count, weight_names
from mypt.schema.settings.config import GPTConfig
from mypt.schema.settings.generation import GenerationConfig
from tests.conftest import reseal

SMALL = {"batch_size": 2, "block_size": 24, "vocab_size": 61, "n_embd": 48, "n_head": 4, "n_layer": 3, "dropout": 0.0}
STYLES = [
    {"pos_encoding": p, "mlp_type": m, "norm_type": n, "bias": b, "tie_weights": t, "token_conv": c}
    for p, m, n, b, t, c in itertools.product(
        ("learned", "rope"), ("gelu", "swiglu"), ("layernorm", "rmsnorm"), (True, False), (True, False), (1, 4)
    )
] + [
    {"pos_encoding": p, "n_kv_head": kv, "mlp_hidden": 40, "norm_eps": 1e-2, "gelu": "exact", "bias": True}
    for p, kv in itertools.product(("learned", "rope"), (1, 2))
]


def build(**changes: object) -> GPT:
    """A small model whose weights are large enough for differences to show."""
    model = GPT(GPTConfig.model_validate({**SMALL, **changes})).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p.normal_(1.0 if p.dim() < 2 else 0.0, 0.2, generator=generator)
    return model


def some_tokens(T: int = 24) -> Tensor:
    return torch.randint(0, 61, (2, T), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("exact", [False, True], ids=["tanh", "exact"])
def test_logits_equal_hugging_face_gpt2(exact: bool) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    own = {"gelu": "exact", "mlp_hidden": 80, "norm_eps": 1e-3} if exact else {}
    ours = build(bias=True, tie_weights=True, **own)
    config = GPT2Config(
        vocab_size=61, n_positions=24, n_embd=48, n_layer=3, n_head=4,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=0, eos_token_id=0,
        activation_function="gelu" if exact else "gelu_new", n_inner=80 if exact else None,
        layer_norm_epsilon=1e-3 if exact else 1e-5,
    )  # fmt: skip
    theirs = GPT2LMHeadModel(config).train(False)
    names = {
        "norm_1": "ln_1", "norm_2": "ln_2", "attn.qkv": "attn.c_attn", "attn.proj": "attn.c_proj",
        "mlp.up": "mlp.c_fc", "mlp.down": "mlp.c_proj",
    }  # fmt: skip
    renamed: dict[str, Tensor] = {}
    for name, weight in ours.state_dict().items():
        if name.startswith("blocks."):
            _, layer, rest = name.split(".", 2)
            part, kind = rest.rsplit(".", 1)
            transposed = kind == "weight" and weight.dim() == 2  # GPT-2 in that library keeps matrices transposed
            renamed[f"transformer.h.{layer}.{names[part]}.{kind}"] = weight.T if transposed else weight
        else:
            top = {"token_embedding": "wte", "position_embedding": "wpe", "norm": "ln_f", "lm_head": ""}
            part, kind = name.rsplit(".", 1)
            renamed[f"transformer.{top[part]}.{kind}" if top[part] else name] = weight
    theirs.load_state_dict(renamed)
    tokens = some_tokens()
    torch.testing.assert_close(ours(tokens), theirs(tokens).logits, atol=1e-5, rtol=0)


@pytest.mark.parametrize("n_kv_head", [None, 4, 2, 1])
def test_logits_equal_hugging_face_llama(n_kv_head: int | None) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    eps = 1e-5 if n_kv_head is None else 1e-3
    ours = build(
        pos_encoding="rope", mlp_type="swiglu", norm_type="rmsnorm", rope_theta=5000.0, n_kv_head=n_kv_head,
        norm_eps=eps, mlp_hidden=None if n_kv_head is None else 72,
    )  # fmt: skip
    config = LlamaConfig(
        vocab_size=61, hidden_size=48, intermediate_size=mlp_hidden(ours.config), num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=n_kv_head, max_position_embeddings=24,
        rms_norm_eps=eps, tie_word_embeddings=False,
        rope_parameters={"rope_type": "default", "rope_theta": 5000.0}, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    theirs = LlamaForCausalLM(config).train(False)
    names = {
        "norm_1": "input_layernorm", "norm_2": "post_attention_layernorm", "attn.proj": "self_attn.o_proj",
        "mlp.gate": "mlp.gate_proj", "mlp.up": "mlp.up_proj", "mlp.down": "mlp.down_proj",
    }  # fmt: skip
    renamed: dict[str, Tensor] = {"lm_head.weight": ours.lm_head.weight}
    for name, weight in ours.state_dict().items():
        if name.startswith("blocks."):
            _, layer, part = name.removesuffix(".weight").split(".", 2)
            if part == "attn.qkv":
                for letter, piece in zip("qkv", weight.split(ours.config.qkv_rows), strict=True):
                    renamed[f"model.layers.{layer}.self_attn.{letter}_proj.weight"] = piece
            else:
                renamed[f"model.layers.{layer}.{names[part]}.weight"] = weight
    renamed["model.embed_tokens.weight"] = ours.token_embedding.weight
    renamed["model.norm.weight"] = ours.state_dict()["norm.weight"]
    theirs.load_state_dict(renamed)
    tokens = some_tokens()
    torch.testing.assert_close(ours(tokens), theirs(tokens).logits, atol=1e-5, rtol=0)


@pytest.mark.parametrize("style", STYLES, ids=lambda s: "-".join(str(v) for v in s.values()))
def test_every_style_trains_counts_and_generates(style: dict[str, object]) -> None:
    model = build(**style)
    assert model.num_params() == parameter_count(model.config)
    tokens = some_tokens()
    torch.autograd.backward(model.loss(tokens, tokens))
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
    causal = tokens.clone()
    causal[:, 12:] = 0
    torch.testing.assert_close(model(tokens)[:, :12], model(causal)[:, :12])
    config = GenerationConfig(max_new_tokens=40, temperature=1.0, top_k=20, top_p=0.95, seed=3)
    cached = list(generate(model, [5, 7, 9], config))
    assert cached == list(generate(model, [5, 7, 9], config, use_cache=False))
    assert len(cached) == 40 and len(set(cached)) > 5


def test_parameters_by_part_are_those_of_the_modules() -> None:
    model = build(bias=True)
    parts = parameters_by_part(model.config)

    def numel(key: str) -> int:
        return sum(p.numel() for n, p in model.named_parameters() if key in n)

    assert parts["attention"] == numel(".attn.") and parts["feed-forward"] == numel(".mlp.")
    assert parts["norms"] == numel("norm") and parts["output layer"] == numel("lm_head")


def test_the_spec_example_of_699_million_parameters_is_met() -> None:
    config = GPTConfig(
        batch_size=12, block_size=1024, n_embd=1280, n_head=20, n_layer=32, pos_encoding="rope", mlp_type="swiglu",
        norm_type="rmsnorm", tie_weights=True,
    )  # fmt: skip
    assert round(parameter_count(config) / 1e6) == 699


def test_the_chunked_loss_equals_the_plain_one() -> None:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(2, 700, 8, generator=generator, requires_grad=True)
    weight = torch.randn(CHUNK_FROM_VOCAB, 8, generator=generator, requires_grad=True)
    targets = torch.randint(0, CHUNK_FROM_VOCAB, (2, 700), generator=generator)
    chunked = next_token_loss(hidden, weight, targets)
    grads = torch.autograd.grad(chunked, (hidden, weight))
    plain = F.cross_entropy(F.linear(hidden, weight).view(1400, -1), targets.view(-1), reduction="sum")
    torch.testing.assert_close(chunked, plain)
    for ours, theirs in zip(grads, torch.autograd.grad(plain, (hidden, weight)), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(next_token_loss(hidden, weight, targets), plain)


def test_starting_weights_follow_the_table_and_the_seed() -> None:
    config = GPTConfig(n_embd=96, vocab_size=500, bias=True)
    state = GPT(config, seed=1).state_dict()
    assert state["token_embedding.weight"].std().item() == pytest.approx(0.02, rel=0.05)
    assert state["blocks.0.mlp.down.weight"].std().item() == pytest.approx(0.02 / 12**0.5, rel=0.05)
    assert not state["blocks.0.mlp.up.bias"].any() and (state["norm.weight"] == 1).all()
    again, other = GPT(config, seed=1).state_dict(), GPT(config, seed=2).state_dict()
    assert all(torch.equal(w, again[n]) for n, w in state.items())
    assert not torch.equal(state["lm_head.weight"], other["lm_head.weight"])


def test_top_k_top_p_and_temperature_zero_limit_the_choice() -> None:
    model = build()
    greedy = list(generate(model, [1], GenerationConfig(temperature=0, max_new_tokens=10)))
    assert greedy == list(generate(model, [1], GenerationConfig(top_k=1, max_new_tokens=10, seed=9)))
    assert greedy == list(generate(model, [1], GenerationConfig(top_p=1e-6, max_new_tokens=10, seed=5)))
    assert greedy != list(generate(model, [1], GenerationConfig(temperature=5, max_new_tokens=10)))


def test_headers_are_read_as_torch_wrote_them(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    model = build(tie_weights=True)
    torch.save({n: w.half() if "norm" in n else w for n, w in model.state_dict().items()}, path)
    reseal(path.parent)
    headers = read_headers(path)
    for name, weight in model.state_dict().items():
        assert headers[name].shape == tuple(weight.shape)
        assert headers[name].dtype == ("fp16" if "norm" in name else "fp32")
    assert headers["lm_head.weight"].storage == headers["token_embedding.weight"].storage


def test_dropout_drops_its_share_keeps_the_mean_and_follows_the_seed() -> None:
    x = torch.ones(200, 501, requires_grad=True)
    torch.manual_seed(4)
    y = dropout(x, 0.2)
    torch.manual_seed(4)
    assert torch.equal(y, dropout(x, 0.2)) and not torch.equal(y, dropout(x, 0.2))
    kept = y != 0
    assert abs(float(kept.float().mean()) - 0.8) < 0.005 and torch.allclose(y[kept], torch.tensor(1.25), rtol=1e-4)
    (grad,) = torch.autograd.grad(y.sum(), x)
    assert torch.equal(grad, y)
    columns = kept.float().mean(dim=0)  # every place is as likely as any other
    assert columns.min() > 0.65 and columns.max() < 0.95
    assert dropout(x, 0.999999).isfinite().all()
    assert dropout(x, 0.0) is x and not Dropout(0.5).eval()(x).isnan().any() and Dropout(0.5).eval()(x) is x


def test_attention_with_dropout_has_the_mean_of_torchs_and_sees_nothing_ahead() -> None:
    generator = torch.Generator().manual_seed(2)
    q, k, v = (torch.randn(1, 2, 9, 8, generator=generator) for _ in range(3))
    torch.manual_seed(1)
    mean = torch.stack([attention(q, k, v, None, 0.2) for _ in range(4000)]).mean(dim=0)
    wanted = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    assert (mean - wanted).abs().max() < 0.06 and (attention(q, k, v, None, 0.0) - wanted).abs().max() < 1e-6
    torch.manual_seed(1)
    y = attention(q, k, v, None, 0.4)
    v[:, :, 5:] = 7.0
    torch.manual_seed(1)
    assert torch.equal(attention(q, k, v, None, 0.4)[:, :, :5], y[:, :, :5])


@pytest.mark.parametrize("tokens", [7, 700])
def test_the_chunked_loss_in_half_precision_is_near_the_whole_one(tokens: int) -> None:
    generator = torch.Generator().manual_seed(5)
    hidden = torch.randn(1, tokens, 16, generator=generator).requires_grad_()
    weight = (0.3 * torch.randn(5000, 16, generator=generator)).requires_grad_()
    targets = torch.randint(0, 5000, (1, tokens), generator=generator)
    targets[0, 3] = IGNORED

    def measured(half: bool) -> tuple[Tensor, ...]:
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss = next_token_loss(hidden, weight, targets)
        return (loss, *torch.autograd.grad(loss, (hidden, weight)))

    assert not torch.equal(measured(True)[1], measured(False)[1])  # half precision is in effect
    for near, exact in zip(measured(True), measured(False), strict=True):
        assert near.dtype == torch.float32 and not near.isnan().any()
        assert (near - exact).norm() < 0.01 * exact.norm()
    assert not measured(True)[1][0, 3].any()


def test_gelu_and_its_slope_are_torchs() -> None:
    x = (6 * torch.randn(3, 700, 100, generator=torch.Generator().manual_seed(6))).requires_grad_()
    theirs = F.gelu(x, approximate="tanh")
    ours = gelu(x)
    torch.testing.assert_close(ours, theirs, atol=2e-6, rtol=1e-6)
    slopes = [torch.autograd.grad(y.sum(), x)[0] for y in (ours, theirs)]
    torch.testing.assert_close(*slopes, atol=5e-6, rtol=1e-6)
    with torch.no_grad():
        assert torch.equal(gelu(x), theirs)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("pos_encoding", ["learned", "rope"])
@pytest.mark.parametrize("mlp_type", ["gelu", "swiglu"])
@pytest.mark.parametrize("norm_type", ["layernorm", "rmsnorm"])
@pytest.mark.parametrize(
    ("token_conv", "tie_weights", "n_layer", "n_kv_head", "mlp_hidden"),
    [(1, False, 1, None, None), (4, True, 11, 1, 20)],
)
def test_names_and_shapes_are_told_without_building_anything(
    bias: bool, pos_encoding: Any, mlp_type: Any, norm_type: Any, token_conv: int, tie_weights: bool, n_layer: int,
    n_kv_head: int | None, mlp_hidden: int | None,
) -> None:  # fmt: skip
    config = GPTConfig(
        n_embd=24, n_head=2, n_layer=n_layer, block_size=8, vocab_size=40, device="cpu", bias=bias, mlp_type=mlp_type,
        pos_encoding=pos_encoding, norm_type=norm_type, token_conv=token_conv, tie_weights=tie_weights,
        n_kv_head=n_kv_head, mlp_hidden=mlp_hidden,
    )  # fmt: skip
    own = {name: tuple(weight.shape) for name, weight in Network(config).state_dict().items()}
    assert sorted(weight_names(config)) == sorted(own) and weight_count(config) == len(own)
    assert misfits(config, own) == []
    for name, shape in own.items():
        assert misfits(config, {n: s for n, s in own.items() if n != name}) == [f"{name} is missing"]
        assert misfits(config, own | {name: (*shape, 1)}) == [f"{name} has shape {(*shape, 1)} instead of {shape}"]
    for other in ("x", "blocks.0.x", *(f"blocks.{n}.norm_1.weight" for n in ("01", "-1", n_layer))):
        assert misfits(config, own | {other: (1,)}) == [f"{other} is not part of this model"]
    many = misfits(config.model_copy(update={"n_layer": 10**9}), own)
    assert len(many) == LISTED + 1 and any("more are missing" in line for line in many)


def test_the_angles_of_rope_do_not_depend_on_how_far_they_were_computed() -> None:
    config = GPTConfig(n_embd=16, n_head=2, n_layer=1, block_size=64, vocab_size=20, device="cpu", pos_encoding="rope")
    whole, grown = Network(config).eval(), Network(config).eval()
    assert whole.rope is not None and grown.rope is not None and len(whole.rope.cos) == 0
    whole.rope.cover(64)
    with torch.inference_mode():
        for length in (1, 2, 7, 33, 64):
            tokens = torch.arange(length)[None] % 20
            assert torch.equal(whole(tokens), grown(tokens))
    assert torch.equal(whole.rope.cos, grown.rope.cos) and torch.equal(whole.rope.sin, grown.rope.sin)
    grown.loss(torch.zeros(1, 64, dtype=torch.long), torch.zeros(1, 64, dtype=torch.long)).backward()  # type: ignore[no-untyped-call]
