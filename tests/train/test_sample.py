"""What the model writes while it trains is there to be read, and no bit of the run depends on it."""

import time
from pathlib import Path
from typing import Any

import pytest

import mypt as package
from mypt.errors import ConfigError
from mypt.launch import Launch
from mypt.log.reader import read_events
from mypt.model import network
from mypt.model.generation import generate_text
from mypt.schema.settings.config import GPTConfig
from mypt.schema.settings.training import TrainingConfig
from mypt.train.evaluation import sample as sampling
from mypt.train.parallel.layout import settle_parallel
from tests.conftest import SHORT, TINY, Mypt, flat

PROMPT = ["--sample-prompt", "nel mezzo"]
RUN = ["--input-file", "input.txt", *TINY, "--dropout", "0.2", "--max-iters", "8", "--eval-interval", "2"]
FILES = ("model.pt", "optimizer.pt", "tokenizer.json", "config.json")


def events(name: str, kind: str) -> list[dict[str, Any]]:
    return [e for e in read_events(Path(f"logs/train/{name}_eval.jsonl")) if e["event"] == kind]


@pytest.mark.parametrize("more", [[], ["--optimizer", "muon"], ["--grad-accum-steps", "2", "--mask-documents"]])
def test_the_run_is_the_same_to_the_bit_with_it_and_without(more: list[str], mypt: Mypt, folder: Path) -> None:
    if "--mask-documents" in more:
        text = (folder / "input.txt").read_text(encoding="utf-8")
        (folder / "input.txt").write_text(text.replace("\n", "<|endoftext|>"), encoding="utf-8")
    mypt("train", "with", *RUN, *more, *PROMPT)
    mypt("train", "without", *RUN, *more)
    for bundle in ("", "_gold"):
        for file in FILES:
            one, other = (Path(f"checkpoints/{name}{bundle}", file) for name in ("with", "without"))
            assert one.read_bytes() == other.read_bytes(), (bundle, file)
    losses = [[(e["iter"], e["val_loss"], e["train_loss"]) for e in events(n, "eval")] for n in ("with", "without")]
    assert losses[0] == losses[1] and len(losses[0]) == len(events("with", "sample")) == 4
    assert not events("without", "sample")


def test_it_is_printed_and_logged_and_what_generate_writes(mypt: Mypt) -> None:
    output = mypt("train", "m", *RUN, *PROMPT).output
    last = events("m", "sample")[-1]
    assert (last["iter"], last["prompt"], last["seed"]) == (8, "nel mezzo", 1337) and 0 < len(last["text"]) <= 100
    model = package.GPT.load("m")
    assert model.generate("nel mezzo", max_new_tokens=100, seed=1337).removeprefix("nel mezzo") == last["text"]
    assert output.count("  ✎ nel mezzo") == 4 and "\n".join(f"    {x}" for x in last["text"].splitlines()[1:]) in output
    assert "✎ nel mezzo" in mypt("logs", "tail", "m").output
    assert flat("nel mezzo" + last["text"])[:20] in flat(mypt("logs", "show", "m", "--event", "sample").output)


def test_a_resume_goes_on_with_it_and_ends_it(mypt: Mypt) -> None:
    mypt("train", "m", *RUN, *PROMPT, "--max-iters", "2")
    mypt("resume", "m", "--max-iters", "4")
    output = flat(mypt("resume", "m", "--max-iters", "8", "--sample-prompt", "").output)
    assert [e["iter"] for e in events("m", "sample")] == [2, 4] and "harmless" in output
    assert "identical" in mypt("reproduce", "m").output


def test_its_time_is_in_no_speed(mypt: Mypt, monkeypatch: pytest.MonkeyPatch) -> None:
    real = generate_text

    def slow(*args: Any) -> Any:
        time.sleep(0.5)
        return real(*args)

    monkeypatch.setattr(sampling, "generate_text", slow)
    mypt("train", "m", *RUN, *PROMPT, "--log-interval", "1")
    (complete,) = events("m", "training_complete")
    assert all(e["duration_s"] >= 0.5 for e in events("m", "sample"))
    assert complete["training_s"] + complete["eval_s"] + complete["save_s"] < complete["total_elapsed_s"] - 2
    assert min(e["tokens_per_sec"] for e in events("m", "eval")) > 64 / 0.5


@pytest.mark.parametrize("call", [["--dry-run"], []])
def test_a_prompt_that_the_vocabulary_does_not_know_is_refused_before_training(call: list[str], mypt: Mypt) -> None:
    result = mypt("train", "m", *SHORT, "--sample-prompt", "Ω nel Ж", *call, ok=False)
    assert result.exit_code == 2 and not Path("checkpoints/m").exists()
    told = flat(result.stderr)
    assert "sample_prompt 'Ω nel Ж': The vocabulary has no 'Ω', 'Ж'" in told and "occur in the training text" in told


def test_weights_that_are_not_finite_write_nothing_and_end_nothing(mypt: Mypt, monkeypatch: pytest.MonkeyPatch) -> None:
    real = network.Network.next_logits

    def not_finite(self: network.Network, *args: Any) -> Any:
        return real(self, *args) * float("nan")

    def sample(*args: Any) -> Any:
        with monkeypatch.context() as patch:
            patch.setattr(network.Network, "next_logits", not_finite)
            return made(*args)

    made = sampling.sample
    monkeypatch.setattr("mypt.train.loop.sample", sample)
    mypt("train", "m", *RUN, *PROMPT)
    assert [e["text"] for e in events("m", "sample")] == [""] * 4 and events("m", "training_complete")


@pytest.mark.parametrize("parallel", ["fsdp", "hsdp"])
def test_a_model_in_parts_is_refused_in_one_sentence(parallel: Any) -> None:
    several = Launch(size=2)
    training = TrainingConfig(sample_prompt="a", parallel=parallel, grad_accum_steps=2, use_amp=False)
    with pytest.raises(ConfigError, match=f"--sample-prompt needs all of the model .* --parallel {parallel}"):
        settle_parallel(GPTConfig(device="cpu"), training, several)
    without = training.model_copy(update={"sample_prompt": "", "parallel": "fsdp"})
    assert settle_parallel(GPTConfig(device="cpu"), without, several).parallel == "fsdp"
