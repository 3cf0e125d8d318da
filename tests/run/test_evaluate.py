"""`mypt evaluate`: each token predicted exactly once, figures that compare whatever the tokenizer, clear refusals."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mypt import GPT, CheckpointManager, GPTConfig, Tokenizer
from mypt.data.documents import Document
from mypt.data.shards import read_dataset_tokenizer
from mypt.data.text import read_text
from mypt.data.tokens import Part, Tokens
from mypt.schema.files.state import TrainingState
from mypt.schema.files.tokenizer import END_OF_TEXT
from mypt.schema.settings.training import TrainingConfig
from mypt.train.evaluation.rolling import measure_documents, windows_of
from tests.conftest import Mypt, flat, tiny_text

PREFIX = 7


def network(vocab_size: int = 64, **settings: Any) -> GPT:
    """A tiny model all of whose weights are drawn at random, norms and biases too."""
    small = {"n_embd": 16, "n_head": 2, "n_layer": 2, "block_size": 8, "dropout": 0.3, "device": "cpu"}
    model = GPT(GPTConfig.model_validate({**small, "vocab_size": vocab_size, **settings}))
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator) * 0.3)
    return model


def bundle(name: str, tokenizer: Tokenizer, **settings: Any) -> GPT:
    model = network(tokenizer.vocab_size, **settings)
    CheckpointManager(name).save(model, tokenizer, TrainingState(step=3, training_config=TrainingConfig()))
    return model


def slowly(model: GPT, documents: list[list[int]], prefix: int, counted: list[list[bool]] | None = None) -> list[float]:
    """The losses by definition, one token at a time: a window holds the block_size tokens before its last target."""
    size, losses = model.config.block_size, []
    model.eval()
    for number, document in enumerate(documents):
        before = [prefix, *document]  # before[i] stands before document[i]
        for first in range(0, len(document), size):
            end = min(first + size, len(document))
            begin = max(0, end - size)
            for target in range(first, end):
                if counted is None or counted[number][target]:
                    with torch.no_grad():
                        logits = model(torch.tensor([before[begin : target + 1]]))[0, -1].double()
                    losses.append(float(-logits.log_softmax(0)[document[target]]))
    return losses


def as_documents(ids: list[list[int]], masks: list[list[bool]] | None = None) -> list[Document]:
    parts = [
        Part(str(i), np.array(x, np.uint16), None if masks is None else np.array(masks[i], np.uint8))
        for i, x in enumerate(ids)
    ]
    return [Document(Tokens([part]), 0, len(part.ids), 2 * len(part.ids)) for part in parts]


@pytest.mark.parametrize("settings", [{}, {"pos_encoding": "learned"}, {"token_conv": 3}], ids=str)
def test_each_token_is_predicted_once_as_the_protocol_has_it(settings: dict[str, Any]) -> None:
    """Documents around every multiple of the window, a longer one of random length, in one pool of unequal windows."""
    rng = np.random.default_rng(3)
    lengths = [1, 2, 7, 8, 9, 15, 16, 17, 24, 61]
    ids = [rng.integers(0, 64, n).tolist() for n in lengths]
    model = network(**settings)
    model.train()
    found = measure_documents(model, as_documents(ids), PREFIX)
    losses = slowly(model, ids, PREFIX)
    assert found.tokens == len(losses) == sum(lengths)
    assert found.documents == len(lengths) and found.windows == sum(-(-n // 8) for n in lengths)
    assert found.loss == pytest.approx(np.mean(losses), rel=1e-5)
    assert found.bpb == pytest.approx(sum(losses) / math.log(2) / (2 * sum(lengths)), rel=1e-5)
    assert found.perplexity == pytest.approx(math.exp(np.mean(losses)), rel=1e-4)
    of_windows = np.split(np.array(losses), np.cumsum([min(8, n - i) for n in lengths for i in range(0, n, 8)])[:-1])
    errors = [w.sum() - found.loss * len(w) for w in of_windows]
    n = len(of_windows)
    assert found.se == pytest.approx(math.sqrt(n / (n - 1) * sum(e * e for e in errors)) / len(losses), rel=1e-4)


def test_measuring_leaves_the_model_as_it_was_and_does_not_drop_out() -> None:
    model, documents = network(), as_documents([[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]])
    model.train()
    first = measure_documents(model, documents, PREFIX)
    assert model.training and measure_documents(model, documents, PREFIX) == first
    assert first.windows == 2 and measure_documents(model, as_documents([[1]]), PREFIX).se is None


def test_a_loss_mask_leaves_tokens_out_and_a_document_of_which_nothing_is_left_is_no_sample() -> None:
    rng = np.random.default_rng(1)
    ids = [rng.integers(0, 64, n).tolist() for n in (21, 9, 30)]
    masks = [(rng.random(21) < 0.4).tolist(), [False] * 9, [True] * 16 + [False] * 14]
    model = network()
    found = measure_documents(model, as_documents(ids, masks), PREFIX)
    losses = slowly(model, ids, PREFIX, masks)
    assert found.tokens == len(losses) == sum(map(sum, masks))
    assert found.loss == pytest.approx(np.mean(losses), rel=1e-5)
    assert found.windows == sum(any(m[i : i + 8]) for m in masks for i in range(0, len(m), 8))


def test_windows_are_all_of_one_length_but_for_short_documents() -> None:
    lengths = [len(x) for x, _ in windows_of(as_documents([list(range(61))])[0], 8, PREFIX)]
    assert lengths == [8] * 8


TEXTS = {
    "plain": tiny_text()[:900] + "\n",
    "documents": f"one of them{END_OF_TEXT}\nwith à and é\n{END_OF_TEXT}{END_OF_TEXT}the third 日本\n",
}
TOKENIZERS: dict[str, Callable[[], Tokenizer]] = {
    "char": lambda: Tokenizer.char("".join(TEXTS.values())),
    "gpt2": Tokenizer.gpt2,
    "bpe": lambda: Tokenizer.train_bpe(TEXTS["plain"], 300),
}


@pytest.mark.parametrize("form", TEXTS)
@pytest.mark.parametrize("kind", ["char", "gpt2", "bpe"])
def test_any_tokenizer_measures_the_whole_text_in_bits_per_byte(mypt: Mypt, kind: str, form: str) -> None:
    Path("t.txt").write_text(TEXTS[form], encoding="utf-8", newline="")
    tokenizer = TOKENIZERS[kind]()
    model = bundle("m", tokenizer)
    found = json.loads(mypt("evaluate", "m", "--input-file", "t.txt", "--json").stdout)
    documents = [d for d in read_text(["t.txt"]).content.split(END_OF_TEXT) if d]
    ids = [tokenizer.encode(d).tolist() for d in documents]
    losses = slowly(model, ids, tokenizer.start_ids()[0])
    text_bytes = sum(len(d.encode()) for d in documents)
    assert (found["tokens"], found["text_bytes"], found["documents"]) == (len(losses), text_bytes, len(documents))
    assert found["loss"] == pytest.approx(np.mean(losses), rel=1e-5)
    assert found["bpb"] == pytest.approx(sum(losses) / math.log(2) / text_bytes, rel=1e-5)
    assert found["step"] == 3 and found["sha256"] == read_text(["t.txt"]).fingerprint


def test_shards_give_what_their_text_gives_with_the_same_tokenizer_and_with_another(mypt: Mypt) -> None:
    documents = [f"document {i} says à{'é' * (i % 5)} and {tiny_text()[i * 7 : i * 11]}" for i in range(12)]
    Path("d.jsonl").write_text("".join(json.dumps({"text": d}) + "\n" for d in documents), encoding="utf-8")
    mypt("prepare", "d.jsonl", "--out", "data", "--tokenization", "bpe", "--bpe-vocab-size", "300", "--val-share", "1")
    own = Tokenizer.train_bpe(tiny_text(), 280)
    bundle("theirs", Tokenizer(read_dataset_tokenizer(Path("data"))))
    bundle("own", own)
    for name in ("theirs", "own"):
        of_shards, of_text = (
            json.loads(mypt("evaluate", name, *source, "--json").stdout)
            for source in (("--dataset-dir", "data"), ("--input-file", "d.jsonl"))
        )
        for figure in ("tokens", "text_bytes", "documents", "windows"):
            assert of_shards[figure] == of_text[figure], (name, figure)
        assert of_shards["loss"] == pytest.approx(of_text["loss"], rel=1e-6)
        assert of_shards["bpb"] == pytest.approx(of_text["bpb"], rel=1e-6)
        assert (of_shards["split"], of_text["split"]) == ("val", None)


def test_the_page_is_plain_and_says_which_weights_on_which_text(mypt: Mypt) -> None:
    bundle("m", Tokenizer.char(tiny_text()))
    shown = mypt("evaluate", "m", "--input-file", "input.txt").stdout
    assert "m, step 3, on " in shown and "input.txt" in shown and "\x1b" not in shown
    assert all(word in flat(shown) for word in ("nats per token", "bits per byte", "perplexity", "1 document"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ab\ncañé\nñ", "3 characters that the vocabulary does not know ('é', 'ñ'); the first is 'ñ' at line 2, "
         "character 3."),
        (f"abc{END_OF_TEXT}a{END_OF_TEXT}\nbcx", "1 character that the vocabulary does not know ('x'); the first is "
         "'x' at document 3, line 1, character 3."),
    ],
)  # fmt: skip
def test_what_the_vocabulary_does_not_know_is_told_by_count_and_place(mypt: Mypt, text: str, said: str) -> None:
    bundle("m", Tokenizer.char("abc\n"))
    Path("t.txt").write_text(text, encoding="utf-8")
    result = mypt("evaluate", "m", "--input-file", "t.txt", ok=False)
    assert result.exit_code == 2 and said in flat(result.stderr)


@pytest.mark.parametrize(
    ("call", "code", "said"),
    [
        ((), 2, "nothing to measure on"),
        (("--input-file", "input.txt", "--dataset-dir", "data"), 2, "both given"),
        (("--input-file", "missing.txt"), 2, "does not exist"),
        (("--dataset-dir", "missing"), 2, "does not exist"),
        (("--input-file", "input.txt", "--split", "test"), 2, "split"),
    ],
    ids=str,
)
def test_wrong_calls_are_told(mypt: Mypt, call: tuple[str, ...], code: int, said: str) -> None:
    bundle("m", Tokenizer.char(tiny_text()))
    result = mypt("evaluate", "m", *call, ok=False)
    assert result.exit_code == code and said in flat(result.stderr)


def test_weights_that_are_not_finite_are_a_failure_and_no_figure(mypt: Mypt) -> None:
    tokenizer = Tokenizer.char(tiny_text())
    model = network(tokenizer.vocab_size)
    with torch.no_grad():
        model.lm_head.weight.fill_(math.nan)
    CheckpointManager("m").save(model, tokenizer, TrainingState(step=3, training_config=TrainingConfig()))
    result = mypt("evaluate", "m", "--input-file", "input.txt", "--json", ok=False)
    assert result.exit_code == 1 and "The loss is nan" in flat(result.stderr) and not result.stdout
