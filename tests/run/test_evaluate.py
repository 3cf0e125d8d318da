"""`mypt evaluate`: each token predicted exactly once, figures that compare whatever the tokenizer, clear refusals."""

import csv
import json
import math
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from mypt import GPT, CheckpointManager, GPTConfig, Tokenizer
from mypt.checkpoint.layout import log_path
from mypt.checkpoint.manager import weights_sha256
from mypt.cli.app import app
from mypt.data.documents import Document
from mypt.data.shards import read_dataset_tokenizer
from mypt.data.text import read_text
from mypt.data.tokens import Part, Tokens
from mypt.errors import InputError
from mypt.exchange.hf.tokenizer import tokenizer_json
from mypt.log.reader import SkippedLines, read_events
from mypt.log.writer import RunLog
from mypt.run.exchange import harness, tasks
from mypt.run.exchange.harness import TaskCall
from mypt.run.exchange.tasks import write_folder
from mypt.schema.files.events import OutputLost, timestamp
from mypt.schema.files.state import TrainingState
from mypt.schema.files.tokenizer import END_OF_TEXT, TokenizerFile
from mypt.schema.settings.training import TrainingConfig
from mypt.train.evaluation.rolling import measure_documents, windows_of
from tests.conftest import SHORT, Mypt, flat, stopping_at, tiny_text

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


def evaluated(mypt: Mypt, *call: str) -> dict[str, Any]:
    """The one evaluation of a call."""
    (found,) = json.loads(mypt("evaluate", *call, "--json").stdout)["evaluations"]
    return dict(found)


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
BEGINNING: dict[str, Any] = {
    "type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
    "special_tokens": {"<s>": {"id": "<s>", "ids": [300], "tokens": ["<s>"]}},
}
TOKENIZERS: dict[str, Callable[[], Tokenizer]] = {
    "char": lambda: Tokenizer.char("".join(TEXTS.values())),
    "gpt2": Tokenizer.gpt2,
    "bpe": lambda: Tokenizer.train_bpe(TEXTS["plain"], 300),
    "hf": lambda: of_hugging_face(),
    "hf with a beginning": lambda: of_hugging_face(BEGINNING),
}


def of_hugging_face(beginning: dict[str, Any] | None = None) -> Tokenizer:
    """A tokenizer that came with a model, which may begin each text with a token of its own."""
    pytest.importorskip("tokenizers", reason="tokenizers is not installed")
    own = Tokenizer.train_bpe(TEXTS["plain"], 300)
    assert own.vocab_size == 300
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    added = [{"id": 300, "content": "<s>", **special}]
    content = tokenizer_json(own) | {"added_tokens": added, "post_processor": beginning}
    return Tokenizer(TokenizerFile(token_kind="hf", vocab_size=301, hf=json.dumps(content)))


@pytest.mark.parametrize("form", TEXTS)
@pytest.mark.parametrize("kind", TOKENIZERS)
def test_any_tokenizer_measures_the_whole_text_in_bits_per_byte(mypt: Mypt, kind: str, form: str) -> None:
    Path("t.txt").write_text(TEXTS[form], encoding="utf-8", newline="")
    tokenizer = TOKENIZERS[kind]()
    model = bundle("m", tokenizer)
    found = evaluated(mypt, "m", "--input-file", "t.txt")
    documents = [d for d in read_text(["t.txt"]).content.split(END_OF_TEXT) if d]
    ids = [tokenizer.encode(d).tolist() for d in documents]
    losses = slowly(model, ids, tokenizer.start_ids()[0])
    text_bytes = sum(len(d.encode()) for d in documents)
    assert (found["tokens"], found["text_bytes"], found["documents"]) == (len(losses), text_bytes, len(documents))
    assert found["loss"] == pytest.approx(np.mean(losses), rel=1e-5)
    assert found["bpb"] == pytest.approx(sum(losses) / math.log(2) / text_bytes, rel=1e-5)
    assert found["iter"] == 3 and found["sha256"] == read_text(["t.txt"]).fingerprint


def test_shards_give_what_their_text_gives_with_the_same_tokenizer_and_with_another(mypt: Mypt) -> None:
    documents = [f"document {i} says à{'é' * (i % 5)} and {tiny_text()[i * 7 : i * 11]}" for i in range(12)]
    Path("d.jsonl").write_text("".join(json.dumps({"text": d}) + "\n" for d in documents), encoding="utf-8")
    mypt("prepare", "d.jsonl", "--out", "data", "--tokenization", "bpe", "--bpe-vocab-size", "300", "--val-share", "1")
    own = Tokenizer.train_bpe(tiny_text(), 280)
    bundle("theirs", Tokenizer(read_dataset_tokenizer(Path("data"))))
    bundle("own", own)
    for name in ("theirs", "own"):
        of_shards, of_text = (
            evaluated(mypt, name, *source) for source in (("--dataset-dir", "data"), ("--input-file", "d.jsonl"))
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
    figures = ("nats per token", "bits per byte", "perplexity", "windows of 8", "1 document")
    assert all(word in flat(shown) for word in figures)


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
        (("--input-file", "input.txt", "--dataset-dir", "data"), 2, "are given; give one of them"),
        (("--input-file", "missing.txt"), 2, "does not exist"),
        (("--dataset-dir", "missing"), 2, "does not exist"),
        (("--input-file", "input.txt", "--split", "test"), 2, "split"),
        (("--input-file", "input.txt", "--split", "val"), 2, "split is a setting of dataset_dir"),
        (("--dataset-dir", "data", "--text-field", "text"), 2, "text_field is a setting of input_file"),
        (("--tasks", "arc_easy", "--split", "train"), 2, "split is a setting of dataset_dir"),
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


def lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log_path(name).read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two complete runs with different seeds."""
    place = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        (place / "input.txt").write_text(tiny_text(), encoding="utf-8")
        for seed in ("1", "2"):
            done = CliRunner().invoke(app, ["train", f"m{seed}", *SHORT, "--seed", seed])
            assert done.exit_code == 0, done.output
    return place


@pytest.fixture
def trained(folder: Path, runs: Path) -> Path:
    shutil.copytree(runs, folder, dirs_exist_ok=True)
    return folder


def test_an_evaluation_is_recorded_and_the_run_is_what_it_was(mypt: Mypt, trained: Path) -> None:
    assert trained.is_dir()
    before = json.loads(mypt("logs", "summarize", "m1", "--json").stdout)
    shown = mypt("evaluate", "m1", "--input-file", "input.txt").stdout
    assert "Recorded in logs/train/m1_eval.jsonl." in shown
    event = lines("m1")[-1]
    weights = weights_sha256(CheckpointManager("m1").load().model)
    assert (event["event"], event["iter"], event["bundle"], event["weights_sha256"]) == ("evaluation", 4, "m1", weights)
    assert event["run_id"] == before["run_id"] and event["sha256"] == read_text(["input.txt"]).fingerprint
    after = json.loads(mypt("logs", "summarize", "m1", "--json").stdout)
    (figures,) = after.pop("evaluated")["first"]
    assert figures["figures"] == {"loss": event["loss"], "bpb": event["bpb"]}
    assert before.pop("evaluated")["count"] == 0 and after == before and after["state"] == "complete"


def test_every_reader_of_the_log_shows_it(mypt: Mypt, trained: Path) -> None:
    assert trained.is_dir()
    for text in (tiny_text(), tiny_text()[:500]):
        Path("other.txt").write_text(text, encoding="utf-8")
        mypt("evaluate", "m1", "--input-file", "other.txt")
    event = lines("m1")[-1]
    bpb = f"{event['bpb']:.4f}"
    assert bpb in mypt("logs", "summarize", "m1").stdout
    told = mypt("logs", "tail", "m1").stdout
    assert f"{bpb}\n" in told and "Training complete at step 4." in told and "without a word" not in told
    assert "other.txt" in mypt("logs", "show", "m1", "--event", "evaluation").stdout
    mypt("logs", "export", "m1", "--event", "evaluation", "--csv", "e.csv")
    with Path("e.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 and float(rows[1]["bpb"]) == event["bpb"]
    mypt("logs", "plot", "m1")
    mypt("compare", "m1", "m2", "--plot")


def test_inspect_shows_the_latest_of_these_weights_and_of_no_others(mypt: Mypt, trained: Path) -> None:
    assert trained.is_dir()
    Path("other.txt").write_text(tiny_text()[:500], encoding="utf-8")
    for name, text in (("m1", "input.txt"), ("m1_fp16", "input.txt"), ("m1", "other.txt"), ("m1", "input.txt")):
        mypt("evaluate", name, "--input-file", text)
    own = json.loads(mypt("inspect", "m1", "--json").stdout)["evaluations"]
    assert [Path(e["source"]).name for e in own] == ["other.txt", "input.txt"]
    assert own[1] == lines("m1")[-1] and {e["bundle"] for e in own} == {"m1"}
    half = json.loads(mypt("inspect", "m1_fp16", "--json").stdout)["evaluations"]
    assert [e["bundle"] for e in half] == ["m1_fp16"] and half[0]["weights_sha256"] != own[0]["weights_sha256"]
    assert "Evaluations" in mypt("inspect", "m1").stdout and "Evaluations" not in mypt("inspect", "m2").stdout
    mypt("resume", "m1", "--max-iters", "6")
    assert json.loads(mypt("inspect", "m1", "--json").stdout)["evaluations"] == []


def test_compare_shows_side_by_side_what_all_have(mypt: Mypt, trained: Path) -> None:
    assert trained.is_dir()
    Path("other.txt").write_text(tiny_text()[:500], encoding="utf-8")
    for name, text in (("m1", "input.txt"), ("m2", "input.txt"), ("m1", "other.txt")):
        mypt("evaluate", name, "--input-file", text)
    shared = json.loads(mypt("compare", "m1", "m2", "--json").stdout)["evaluations"]
    assert [(Path(e["source"]).name, e["measure"]) for e in shared] == [
        ("input.txt", measure) for measure in ("bpb", "loss", "perplexity")
    ]
    assert shared[0]["values"] == [next(e["bpb"] for e in lines(m) if e["event"] == "evaluation") for m in ("m1", "m2")]
    assert "input.txt: bpb" in mypt("compare", "m1", "m2").stdout


def test_after_a_rewind_what_was_found_of_the_superseded_branch_disturbs_nothing(mypt: Mypt, trained: Path) -> None:
    """Step 4 is evaluated, the run goes back to an earlier step, and a copy of step 4 is evaluated again."""
    with stopping_at(2):
        mypt("train", "n", *SHORT)
    shutil.copytree(trained / "checkpoints" / "n", trained / "early")
    mypt("resume", "n")
    shutil.copytree(trained / "checkpoints" / "n", trained / "checkpoints" / "late")
    mypt("evaluate", "n", "--input-file", "input.txt")
    shutil.rmtree(trained / "checkpoints" / "n")
    shutil.copytree(trained / "early", trained / "checkpoints" / "n")
    with stopping_at(3):
        mypt("resume", "n")
    before = json.loads(mypt("logs", "summarize", "n", "--json").stdout)
    mypt("evaluate", "late", "--input-file", "input.txt")
    mypt("evaluate", "n", "--input-file", "input.txt")
    after = json.loads(mypt("logs", "summarize", "n", "--json").stdout)
    assert [e["step"] for e in after.pop("evaluated")["first"]] == [3] and before.pop("evaluated")["count"] == 0
    assert after == before and after["step"] == 3
    attempts = [(e["iter"], e["attempt"]) for e in lines("n") if e["event"] == "evaluation"]
    assert attempts == [(4, 2), (4, 2), (3, 3)]
    mypt("resume", "n")
    assert json.loads(mypt("logs", "summarize", "n", "--json").stdout)["state"] == "complete"


def test_a_log_that_cannot_be_appended_to_is_told_before_anything_is_measured(
    mypt: Mypt, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert trained.is_dir()
    log = log_path("m1")
    log.write_text("Notes of my own\n" + log.read_text(encoding="utf-8"), encoding="utf-8")
    before = log.read_bytes()
    monkeypatch.setattr("mypt.run.evaluate.measure_documents", None)  # would fail unexpectedly
    result = mypt("evaluate", "m1", "--input-file", "input.txt", ok=False)
    assert result.exit_code == 2 and "is no log of mypt" in flat(result.stderr)
    assert log.read_bytes() == before


def test_a_bundle_without_a_log_is_measured_and_not_recorded(mypt: Mypt, trained: Path) -> None:
    log_path("m1").unlink()
    bundle("alone", Tokenizer.char(tiny_text()))
    for name in ("m1", "alone"):
        shown = mypt("evaluate", name, "--input-file", "input.txt").stdout
        assert "Not recorded: the bundle has no log here." in shown
        assert json.loads(mypt("evaluate", name, "--input-file", "input.txt", "--json").stdout)["log"] is None
    assert not log_path("m1").exists() and trained.is_dir()


TASK = """
task: local_text
dataset_path: json
dataset_kwargs: {data_files: {test: d.jsonl}}
output_type: loglikelihood_rolling
test_split: test
doc_to_text: ""
doc_to_target: "{{text}}"
metric_list: [{metric: bits_per_byte}, {metric: byte_perplexity}]
metadata: {version: 1.0}
"""
STYLES: dict[str, dict[str, Any]] = {
    "gpt2": {"pos_encoding": "learned", "mlp_type": "gelu", "norm_type": "layernorm", "bias": True},
    "char": {"pos_encoding": "rope", "mlp_type": "swiglu", "norm_type": "rmsnorm"},
    "bpe": {"pos_encoding": "rope", "mlp_type": "gelu", "norm_type": "layernorm", "token_conv": 3},  # by mypt's class
    "hf": {"pos_encoding": "rope", "mlp_type": "swiglu", "norm_type": "layernorm"},
}


@pytest.fixture
def task(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A task on texts of several windows, of one, and of less than one, with its data beside it."""
    pytest.importorskip("lm_eval", reason="lm_eval is not installed")
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("HF_HOME", str(folder / "hf"))
    texts = [t.strip() for t in (tiny_text()[:300], tiny_text()[300:309], "à 日本", tiny_text()[400:415])]
    (folder / "d.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in texts), encoding="utf-8")
    (folder / "t.yaml").write_text(TASK, encoding="utf-8")
    return folder / "t.yaml"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", STYLES)
def test_lm_eval_finds_the_same_bits_per_byte(mypt: Mypt, task: Path, kind: str) -> None:
    bundle(kind, TOKENIZERS[kind](), **STYLES[kind])
    own = evaluated(mypt, kind, "--input-file", "d.jsonl")
    loaded = CheckpointManager(kind).load()
    write_folder(loaded, Path())
    (result,) = harness.run(TaskCall(".", [str(task)], 8, loaded.tokenizer.start_ids()[0], "cpu"))
    assert abs(result.metrics["bits_per_byte"] - own["bpb"]) < 1e-4
    assert (result.name, result.samples) == ("local_text", 4)


@pytest.mark.filterwarnings("ignore")
def test_tasks_are_run_in_a_process_of_their_own_recorded_and_shown(mypt: Mypt, task: Path, trained: Path) -> None:
    with pytest.raises(InputError, match="characters that the vocabulary of the model does not know"):
        write_folder(CheckpointManager("m1").load(), Path())
        harness.run(TaskCall(".", [str(task)], 16, 0, "cpu"))
    Path("d.jsonl").write_text("".join(json.dumps({"text": "la diritta via"}) + "\n" for _ in range(4)))
    done = mypt("evaluate", "m1", "--tasks", f"{task}")
    assert not done.stderr and "on local_text (4 samples)" in done.stdout and trained.is_dir()
    event = lines("m1")[-1]
    assert (event["kind"], event["source"], event["samples"], event["loss"]) == ("task", "local_text", 4, None)
    figure = f"{event['metric_bits_per_byte']:.4f}"
    for call in (("inspect", "m1"), ("logs", "summarize", "m1"), ("logs", "tail", "m1")):
        assert figure in mypt(*call).stdout
    told = mypt("evaluate", "m1", "--tasks", "missing.yaml", ok=False)
    assert told.exit_code == 2 and "The file missing.yaml of a task does not exist." in flat(told.stderr)


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("arc_eazy", None, "There is no task 'arc_eazy'; did you mean arc_easy?"),
        (
            "arc_easy",
            ConnectionError("no route"),
            "are not on this machine, and the network does not give them: no route.",
        ),
        ("t.yaml", ValueError("no test split\nmore"), "The task t.yaml cannot be loaded: no test split."),
    ],
)
def test_a_task_that_cannot_be_had_is_told_in_a_sentence(name: str, error: Exception | None, said: str) -> None:
    class Manager:
        all_tasks = ("arc_easy",)

        def load(self, _: list[str]) -> None:
            assert error is not None
            raise error

    with pytest.raises(InputError) as told:
        harness._check(Manager(), name)
    assert said in told.value.what


def test_tasks_without_lm_eval_are_refused(mypt: Mypt, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle("m", Tokenizer.char("abc"))
    monkeypatch.setattr(tasks, "find_spec", lambda _: None)
    told = mypt("evaluate", "m", "--tasks", "arc_easy", ok=False)
    assert told.exit_code == 2 and "pip install 'mypt[eval]'" in told.stderr


def test_lines_of_several_writers_stay_whole(folder: Path) -> None:
    """A run and evaluations write at once, lines longer than any buffer among them."""
    path = folder / "logs" / "a.jsonl"

    def write(number: int) -> None:
        log = RunLog(path, f"run{number}")
        for i in range(60):
            log.append(OutputLost(iter=i, timestamp=timestamp(), reason="x" * (i * 997 % 30_000)))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    skipped = SkippedLines()
    found = [(e["run_id"], e["iter"]) for e in read_events(path, skipped)]
    assert sorted(found) == sorted((f"run{n}", i) for n in range(4) for i in range(60)) and not skipped.total
