"""Documents that share a window: none sees another, so each is trained as if it were alone."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mypt import GPTConfig
from mypt.checkpoint.files import read_state
from mypt.checkpoint.manager import CheckpointManager, weights_sha256
from mypt.model.network import Network
from tests.conftest import TINY, Mypt, flat, stopping_at
from tests.data.test_formats import RUN, llama3

SEPARATOR, VOCAB, T = 4, 12, 24
SHAPES: dict[str, dict[str, Any]] = {
    "learned, layernorm, gelu": {"pos_encoding": "learned", "norm_type": "layernorm", "mlp_type": "gelu"},
    "rope, rmsnorm, swiglu": {"pos_encoding": "rope", "norm_type": "rmsnorm", "mlp_type": "swiglu"},
    "learned, convolution": {"pos_encoding": "learned", "token_conv": 4, "bias": True},
    "rope, convolution": {"pos_encoding": "rope", "token_conv": 3, "norm_type": "rmsnorm"},
}
WINDOWS = st.lists(
    st.lists(st.sampled_from([0, 1, 2, 3, SEPARATOR, SEPARATOR, *range(5, VOCAB)]), min_size=T + 1, max_size=T + 1),
    min_size=1, max_size=3,
)  # fmt: skip


def network(shape: str) -> Network:
    config = GPTConfig.model_validate(
        {"vocab_size": VOCAB, "block_size": T, "n_layer": 2, "n_head": 2, "n_embd": 16, "dropout": 0.0, **SHAPES[shape]}
    )
    model = Network(config, 5)
    if model.token_conv is not None:
        torch.nn.init.normal_(model.token_conv.weight, generator=torch.Generator().manual_seed(1))
    return model


def gradients(model: Network) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def segments(tokens: torch.Tensor) -> list[tuple[int, int]]:
    """Of one window: each separator begins another document."""
    borders = [0, *(i for i, token in enumerate(tokens.tolist()) if token == SEPARATOR and i), len(tokens)]
    return list(itertools.pairwise(borders))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("recomputed", [False, True])
@given(WINDOWS)
@settings(max_examples=15)
def test_a_packed_window_is_its_documents_trained_alone(shape: str, recomputed: bool, windows: Any) -> None:
    ids = torch.tensor(windows)
    x, y = ids[:, :-1], ids[:, 1:]
    model = network(shape)
    model.use_checkpoint, model.separator = recomputed, SEPARATOR
    packed = model.loss(x, y)
    torch.autograd.backward(packed)
    together = gradients(model)
    model.zero_grad()
    model.separator = None
    total = torch.zeros(())
    for tokens, targets in zip(x, y, strict=True):
        for start, end in segments(tokens):
            loss = model.loss(tokens[None, start:end], targets[None, start:end])
            torch.autograd.backward(loss)
            total = total + loss.detach()
    assert torch.allclose(packed.detach(), total, rtol=1e-5)
    alone = gradients(model)
    assert together.keys() == alone.keys()
    for name, gradient in alone.items():
        assert torch.allclose(together[name], gradient, rtol=1e-4, atol=1e-5), name


@pytest.mark.parametrize("shape", SHAPES)
def test_a_document_changes_no_loss_of_another(shape: str) -> None:
    model = network(shape)
    model.separator = SEPARATOR
    x = torch.tensor([[5, 6, 7, SEPARATOR, 1, 2, 3, 5, SEPARATOR, 8, 9, 10]])
    y = torch.roll(x, -1, 1)
    before = model.token_losses(x, y)
    other = x.clone()
    other[0, 4:8] = torch.tensor([11, 11, 0, 0])
    after = model.token_losses(other, y)
    same = (before == after)[0].tolist()
    assert same == [True] * 4 + [False] * 4 + [True] * 4
    model.separator = None
    assert not torch.equal(model.token_losses(x, y)[0, 8:], model.token_losses(other, y)[0, 8:])


def test_dropout_and_compiled_code_keep_documents_apart() -> None:
    """What is put in place of the first document changes nothing of the second."""
    config = GPTConfig(vocab_size=VOCAB, block_size=T, n_layer=2, n_head=2, n_embd=16, dropout=0.3)
    model = Network(config, 5).train()
    model.separator = SEPARATOR
    x = torch.tensor([[5, 6, 7, 5, SEPARATOR, 1, 2, 3]])
    other = torch.tensor([[9, 9, 9, 0, SEPARATOR, 1, 2, 3]])
    hidden = []
    for tokens in (x, other):
        torch.manual_seed(3)
        hidden.append(model.hidden(tokens)[0])
    assert torch.equal(hidden[0][4:], hidden[1][4:]) and not torch.equal(hidden[0][:4], hidden[1][:4])
    compiled = torch.compile(model.eval().loss, backend="eager", fullgraph=True)
    assert torch.equal(compiled(x, x), model.loss(x, x))


def documents(folder: Path) -> None:
    """A dataset of many short documents, more than one in most windows."""
    lines = [f"numero {i} di {i % 7} parole" for i in range(400)]
    Path("texts.txt").write_text("<|endoftext|>".join(lines), encoding="utf-8")
    assert folder == Path("data")


def prepared(mypt: Mypt) -> list[str]:
    documents(Path("data"))
    mypt("prepare", "texts.txt", "--out", "data", "--tokenization", "char", "--val-share", "0.2")
    return ["--dataset-dir", "data", *TINY[2:], "--max-iters", "8", "--eval-interval", "4"]


def test_a_run_with_masked_documents_is_recorded_resumed_and_reproduced_to_the_bit(mypt: Mypt) -> None:
    words = prepared(mypt)
    mypt("train", "plain", *words)
    mypt("train", "a", *words, "--mask-documents", "--eval-set", "more=data")
    with stopping_at(3):
        mypt("train", "b", *words, "--mask-documents", "--eval-set", "more=data")
    mypt("resume", "b")
    hashes = [weights_sha256(CheckpointManager(name).load().model) for name in ("a", "b", "plain")]
    assert hashes[0] == hashes[1] != hashes[2]
    state = read_state(Path("checkpoints/a"))
    assert state.training_config.mask_documents and state.progress.gold.measures["val"].mask_documents
    assert state.progress.gold.measures["more"].mask_documents
    mypt("verify", "a")
    assert "identical" in flat(mypt("reproduce", "b").output).lower()
    exported = flat(mypt("export-fp16", "a", "--out", "checkpoints/other").output)
    assert f"{state.progress.last_val_loss:.6f}" in exported
    result = flat(mypt("resume", "plain", "--max-iters", "12", "--mask-documents").output)
    assert "mask_documents" in result and "changes the trajectory" in result
    measures = read_state(Path("checkpoints/plain")).sessions
    assert [s.measures["val"].mask_documents for s in measures if s.measures] == [False, True]
    events = [json.loads(line) for line in Path("logs/train/plain_eval.jsonl").read_text().splitlines()]
    assert any("mask_documents False → True" in e["reason"] for e in events if e["event"] == "gold_remeasured")


def test_data_without_documents_are_refused(mypt: Mypt) -> None:
    result = mypt("train", "x", "--input-file", "input.txt", *TINY, "--mask-documents", ok=False)
    assert result.exit_code == 2 and "this char vocabulary has no <|endoftext|>" in flat(result.stderr)
    llama3(Path("llama"))
    result = mypt("train", "x", "--dataset-dir", "llama", *RUN, "--mask-documents", ok=False)
    assert result.exit_code == 2 and "this ids vocabulary has no <|endoftext|>" in flat(result.stderr)
    Path("plain").mkdir()
    for name in ("train", "val"):
        np.arange(300, dtype="<u2").tofile(f"plain/{name}.bin")
    result = mypt("train", "x", "--dataset-dir", "plain", *RUN, "--mask-documents", ok=False)
    assert result.exit_code == 2 and "plain has no <|endoftext|> to train on" in flat(result.stderr)
    assert not Path("checkpoints/x").exists()
