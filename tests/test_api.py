"""GPT, the public class: loaded by name, gold, fp16 or path, and trained from Python."""

from pathlib import Path

import pytest
import torch

from mypt import GPT, CheckpointManager, GPTConfig, GPTDataLoader, Tokenizer
from mypt.errors import BundleError, UsageError
from mypt.model.network import Network
from tests.conftest import TINY, Mypt, Once, tiny_text

RUN = ["--input-file", "input.txt", *TINY, "--max-iters", "6", "--eval-interval", "3"]


@pytest.mark.parametrize("name", ["dante", "dante_gold", "dante_fp16", "checkpoints/dante", "checkpoints/dante_gold"])
def test_a_model_is_loaded_by_name_gold_fp16_or_path(name: str, once: Once) -> None:
    once("train", "dante", *RUN)
    model = GPT.load(name, device="cpu")
    assert type(model) is GPT and model.tokenizer is not None
    held = CheckpointManager.find(name).load().model.state_dict()
    assert all(torch.equal(held[n], w) for n, w in model.state_dict().items())
    assert model.tokenizer.decode(model.tokenizer.encode("nel mezzo")) == "nel mezzo"


def test_a_loaded_model_can_be_trained_further_under_a_name_of_its_own(mypt: Mypt, once: Once) -> None:
    once("train", "dante", *RUN)
    model = GPT.load("dante", device="cpu")
    assert model.tokenizer is not None
    loader = GPTDataLoader(model.config, model.tokenizer, text=tiny_text())
    before = model.lm_head.weight.clone()
    result = model.fit(loader, checkpoint=CheckpointManager("child"), max_iters=3, eval_interval=3, eval_iters=1)
    assert result.state.step == 3 and not torch.equal(before, model.lm_head.weight)
    assert mypt("verify", "child").exit_code == 0
    assert torch.equal(GPT.load("child", device="cpu").lm_head.weight, model.lm_head.weight)


def test_what_is_not_there_or_damaged_is_refused(once: Once, folder: Path) -> None:
    once("train", "dante", *RUN)
    with pytest.raises(UsageError, match="did you mean dante"):
        GPT.load("dantee")
    with pytest.raises(UsageError, match="cuda:99"):
        GPT.load("dante", device="cuda:99")
    weights = folder / "checkpoints" / "dante" / "model.pt"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(BundleError, match=r"model\.pt"):
        GPT.load("dante")


def test_a_new_model_has_no_tokenizer_until_it_is_trained() -> None:
    tokenizer = Tokenizer.char(tiny_text())
    config = GPTConfig(
        n_embd=8, n_head=1, n_layer=1, block_size=8, batch_size=2, vocab_size=tokenizer.vocab_size, device="cpu"
    )
    model = GPT(config)
    assert model.tokenizer is None and isinstance(model, Network)
    model.fit(GPTDataLoader(config, tokenizer, text=tiny_text()), max_iters=1, eval_iters=1)
    assert model.tokenizer is tokenizer
