"""`mypt export`: folders that other programs open, each proven, and checked later."""

import json
import os
import shutil
import string
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from mypt.checkpoint.files import read_config, read_tokenizer
from mypt.checkpoint.manager import CheckpointManager, weights_sha256
from mypt.checkpoint.manifest import file_hash
from mypt.checkpoint.tensors import load_tensors, torch_dtype
from mypt.cli.app import app
from mypt.data.tokenizer import Tokenizer
from mypt.errors import ConflictError, ExportError, UsageError
from mypt.exchange.folder import read_record
from mypt.exchange.hf import folder as hf_folder
from mypt.model.network import Network
from mypt.run.exchange import transformers as proof
from mypt.run.exchange.check import verify_export
from mypt.run.exchange.export import Exported, export
from mypt.run.verify import Check
from mypt.schema.files.gold import GoldState
from mypt.schema.files.state import DataRecord, Progress, SourceRecord, TrainingState
from mypt.schema.files.tokenizer import TokenizerFile
from mypt.schema.hf_vocabulary import hf_vocabulary
from mypt.schema.settings.config import GPTConfig
from mypt.schema.settings.export import ExportConfig
from mypt.schema.settings.training import TrainingConfig
from mypt.train.observer import Observer
from tests.exchange.test_hf import STYLES, WITH_HOME, config, has_home, shaken, short
from tests.exchange.test_import import byte_level

transformers: Any = pytest.importorskip("transformers")
CHAR = Tokenizer.char(string.printable[:61])
LLAMA = config("rope", "swiglu", "rmsnorm")
WITHOUT_HOME = [c for style in STYLES if not has_home(c := config(*style))] + [
    config("rope", "swiglu", "layernorm", token_conv=4), config("learned", "gelu", "layernorm", n_kv_head=2),
    config("rope", "swiglu", "rmsnorm", True, True, token_conv=2, rope_scale=2.0, n_kv_head=2, mlp_hidden=40),
]  # fmt: skip


def bundle(out: Path, network: Network, tokenizer: Tokenizer = CHAR, name: str = "m", **more: Any) -> CheckpointManager:
    manager = CheckpointManager(name, out)
    state = {"step": 3, "training_config": TrainingConfig(), "exact_resume": False, "run_id": "run"}
    manager.save(network, tokenizer, TrainingState(**state | {"name": name.removesuffix("_gold")} | more))
    return manager


def exported(out: Path, name: str = "m", to: Path | None = None, **asked: Any) -> Exported:
    return export(name, out, to, ExportConfig(**asked), Observer())


def verified(folder: Path) -> list[Check]:
    return verify_export(folder, folder.parent)


def loaded(folder: Path, **how: Any) -> Any:
    model, report = transformers.AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True, **how)
    assert not any(report.values()), report
    return model.eval()


@torch.no_grad()
def compared(theirs: Any, network: Network) -> float:
    """The largest difference of a logit; 60 greedy tokens are the same."""
    tokens = torch.randint(0, 61, (2, 80), generator=torch.Generator().manual_seed(1))
    row = tokens[:1, :10]
    for _ in range(60):
        row = torch.cat([row, network(row)[:, -1:].argmax(-1)], 1)
    made = theirs.generate(tokens[:1, :10], attention_mask=torch.ones(1, 10), max_new_tokens=60, do_sample=False)
    assert made.tolist() == row.tolist()
    return float((theirs(tokens).logits - network(tokens)).abs().max())


@pytest.mark.parametrize("config", WITH_HOME, ids=short)
def test_every_architecture_with_a_home_is_computed_there(config: GPTConfig, tmp_path: Path) -> None:
    network = shaken(config)
    bundle(tmp_path, network)
    made = exported(tmp_path)
    record = made.record
    theirs = loaded(made.path)
    assert type(theirs).__name__ == record.architecture and not record.with_code
    assert compared(theirs, network) < 1e-5
    assert record.proof.weights == 0 and record.proof.outputs is not None and record.proof.outputs < 1e-5
    assert (record.proof.tokens, record.proof.same) == (60, 60)
    assert len({path.stat().st_mode for path in made.path.iterdir()}) == 1
    assert record.weights_sha256 == weights_sha256(network) and record.config == config
    assert {check.ok for check in verified(made.path)} == {True}


@pytest.mark.parametrize("config", WITHOUT_HOME, ids=short)
def test_every_other_architecture_is_computed_by_mypt_from_within_transformers(
    config: GPTConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    network = shaken(config)
    bundle(tmp_path, network)
    with pytest.raises(UsageError, match="--with-code"):
        exported(tmp_path)
    assert not (tmp_path / "m_hf").exists()
    made = exported(tmp_path, with_code=True)
    theirs = loaded(made.path, trust_remote_code=True)
    assert compared(theirs, network) == 0 and made.record.with_code
    tokens = torch.arange(12)[None]
    expected = network.loss(tokens[:, :-1], tokens[:, 1:]).item() / 11
    assert theirs(tokens, labels=tokens).loss.item() == pytest.approx(expected, rel=1e-6)
    with pytest.raises(ValueError, match="Pad on the right"):
        theirs(tokens, attention_mask=torch.tensor([[0] + [1] * 11]))
    found = {check.name: check.ok for check in verified(made.path)}
    assert found == {**dict.fromkeys(found, True), "computes the same": None}


def test_a_model_with_code_is_saved_and_loaded_again_by_transformers(tmp_path: Path) -> None:
    network = shaken(config("rope", "swiglu", "layernorm", tied=True, token_conv=4))
    bundle(tmp_path, network)
    made = exported(tmp_path, with_code=True)
    loaded(made.path, trust_remote_code=True).save_pretrained(tmp_path / "again")
    again = loaded(tmp_path / "again", trust_remote_code=True)
    assert compared(again, network) == 0


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
@pytest.mark.parametrize("code", [False, True])
def test_rounded_weights_are_the_nearest_and_the_figures_say_by_how_much(
    dtype: str, code: bool, tmp_path: Path
) -> None:
    network = shaken(config("rope", "swiglu", "rmsnorm", token_conv=4 if code else 1))
    bundle(tmp_path, network)
    made = exported(tmp_path, dtype=dtype, with_code=code)
    held = load_file(made.path / "model.safetensors")
    assert {tensor.dtype for tensor in held.values()} == {torch_dtype(dtype)}
    errors = [(w - w.to(torch_dtype(dtype)).float()).abs().max().item() for w in network.state_dict().values()]
    assert made.record.proof.weights == max(errors) > 0
    theirs = loaded(made.path, dtype=torch.float32, trust_remote_code=code)
    tokens = torch.randint(0, 61, (1, 80), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        difference = float((theirs(tokens).logits - network(tokens)).abs().max())
    assert made.record.proof.outputs is not None and 0.2 < difference / made.record.proof.outputs < 5


def test_a_weight_that_a_dtype_cannot_hold_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    network = shaken(LLAMA)
    with torch.no_grad():
        network.get_parameter("blocks.1.mlp.up.weight")[3, 5] = 70000.0
    bundle(tmp_path, network)
    with pytest.raises(ExportError, match=r"blocks\.1\.mlp\.up\.weight holds 70000, which fp16 cannot hold"):
        exported(tmp_path, dtype="fp16")
    assert sorted(p.name for p in tmp_path.iterdir() if not p.name.endswith(".lock")) == ["m"]
    exported(tmp_path, dtype="bf16")


def came_with_a_model() -> Tokenizer:
    with TemporaryDirectory() as folder:
        byte_level(Path(folder))
        text = (Path(folder) / "tokenizer.json").read_text("utf-8")
    size = hf_vocabulary(text).size
    return Tokenizer(TokenizerFile(token_kind="hf", vocab_size=size, hf=text, end_of_text="</s>"))


SAMPLE = "the cat's hat sat on the mat, don't it? äöü 你好 123\n\n  the cat " * 30
TOKENIZERS: dict[str, Callable[[], Tokenizer]] = {
    "gpt2 that talks": lambda: Tokenizer(Tokenizer.gpt2().file.with_special().with_template()),
    "bpe": lambda: Tokenizer.train_bpe(SAMPLE, 400),
    "bpe that talks": lambda: Tokenizer(Tokenizer.train_bpe(SAMPLE, 400).file.with_special().with_template()),
    "char": lambda: Tokenizer.char(SAMPLE),
    "char with borders": lambda: Tokenizer.char(f"{SAMPLE}<|endoftext|>{SAMPLE}"),
    "ids": lambda: Tokenizer(TokenizerFile(token_kind="ids", vocab_size=61)),
    "hf": lambda: came_with_a_model(),
}


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_an_export_is_imported_as_the_bundle_that_it_was_made_of(kind: str, tmp_path: Path) -> None:
    tokenizer = TOKENIZERS[kind]()
    changes: dict[str, Any] = {
        "vocab_size": tokenizer.vocab_size + 5,
        "n_embd": 16,
        "n_layer": 1,
        "batch_size": 3,
        "dropout": 0.1,
    }
    network = shaken(config("rope", "swiglu", "rmsnorm", **changes))
    source = bundle(tmp_path, network, tokenizer)
    made = exported(tmp_path)
    words = ["--tokenizer", "ids"] if kind == "ids" else []
    run("import", made.path, "--name", "back", "--out-dir", tmp_path, *words)
    back = CheckpointManager("back", tmp_path)
    assert weights_sha256(back.load().model) == made.record.weights_sha256
    assert read_config(back.path) == read_config(source.path)
    expected = read_tokenizer(source.path)
    if kind == "ids":
        expected = expected.model_copy(update={"vocab_size": network.config.vocab_size})
    assert read_tokenizer(back.path) == expected
    if kind != "ids":
        theirs = transformers.AutoTokenizer.from_pretrained(made.path)
        assert theirs(SAMPLE[:200]).input_ids == tokenizer.encode(SAMPLE[:200]).tolist()
        assert (theirs.chat_template is not None) == ("talks" in kind)
        ends = {"gpt2 that talks": "<|endoftext|>", "bpe that talks": "<|endoftext|>", "hf": "</s>"}
        assert theirs.eos_token == ends.get(kind, "<|endoftext|>" if "borders" in kind else None)
    generation = json.loads((made.path / "generation_config.json").read_text("utf-8"))
    assert generation["max_new_tokens"] == 40
    assert generation["suppress_tokens"] == [*range(tokenizer.vocab_size, tokenizer.vocab_size + 5)]


def test_what_was_imported_trained_and_exported_comes_back_bit_by_bit(tmp_path: Path) -> None:
    tokenizer = Tokenizer.char(SAMPLE)
    bundle(tmp_path, shaken(config("rope", "swiglu", "rmsnorm", True, vocab_size=tokenizer.vocab_size)), tokenizer)
    run("import", exported(tmp_path).path, "--name", "got", "--out-dir", tmp_path)
    text = tmp_path / "text.txt"
    text.write_text(SAMPLE, encoding="utf-8")
    run(
        "train", "more", "--init-from-model", "got", "--input-file", text, "--max-iters", 2, "--eval-interval", 2,
        "--eval-iters", 1, "--batch-size", 2, "--out-dir", tmp_path, "--log-file", tmp_path / "more.jsonl",
    )  # fmt: skip
    again = exported(tmp_path, "more", bundle="last")
    run("import", again.path, "--name", "back", "--out-dir", tmp_path)
    weights = [load_tensors(tmp_path / name / "model.pt") for name in ("got", "more", "back")]
    assert all(torch.equal(weights[1][n], weights[2][n]) for n in weights[1])
    assert any(not torch.equal(weights[0][n], weights[1][n]) for n in weights[1])


def with_gold(out: Path, last: float, best: float) -> tuple[Network, Network]:
    """A run whose gold bundle has another loss than its last step."""
    networks = shaken(LLAMA), Network(LLAMA).eval()
    gold = GoldState(step=2, val_loss=best, last_val_loss=last)
    settings = TrainingConfig(eval_interval=2)
    bundle(out, networks[0], step=4, training_config=settings, progress=Progress(last_val_loss=last, gold=gold))
    best_of: dict[str, Any] = {
        "step": 2,
        "training_config": settings,
        "progress": Progress(last_val_loss=best, gold=gold),
    }
    bundle(out, networks[1], name="m_gold", **best_of)
    return networks


@pytest.mark.parametrize(
    ("name", "asked", "losses", "expected"),
    [
        ("m", None, (4.19, 2.25), "m_gold"),
        ("m", None, (2.0, 2.25), "m"),
        ("m", "last", (4.19, 2.25), "m"),
        ("m", "gold", (2.0, 2.25), "m_gold"),
        ("m_gold", None, (2.0, 2.25), "m_gold"),
    ],
)
def test_gold_is_exported_where_it_is_better_and_nothing_else_was_asked_for(
    name: str, asked: str | None, losses: tuple[float, float], expected: str, tmp_path: Path
) -> None:
    last, gold = with_gold(tmp_path, *losses)
    made = exported(tmp_path, name, bundle=asked)
    assert made.record.bundle == expected and made.path == tmp_path / f"{name}_hf"
    assert made.record.weights_sha256 == weights_sha256(gold if expected == "m_gold" else last)
    assert made.record.val_loss == losses[expected == "m_gold"]
    assert (made.better is not None) == (asked is None and name != expected)


def test_the_call_says_what_was_exported_and_why(tmp_path: Path) -> None:
    with_gold(tmp_path, 4.19, 2.25)
    told = run("export", "m", "--out-dir", tmp_path)
    assert "Gold is better than the last step: val loss 2.2500 at step 2, 4.1900 at step 4; gold is exported" in told
    assert "of: m_gold, step 2, val loss 2.2500" in told and "weights read back: equal to the bit" in told
    assert "60 of 60 likeliest tokens are the same" in told


def test_a_bundle_that_is_not_there_or_is_not_the_named_one_is_told(tmp_path: Path) -> None:
    with_gold(tmp_path, 4.19, 2.25)
    with pytest.raises(UsageError, match="--bundle last asks for another one"):
        exported(tmp_path, "m_gold", bundle="last")
    assert exported(tmp_path, "m_gold", bundle="gold").record.bundle == "m_gold"
    shutil.rmtree(tmp_path / "m_gold")
    with pytest.raises(UsageError, match="m_gold"):
        exported(tmp_path, bundle="gold")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--dtype", "q8_0"), "dtype q8_0 is none of hf; choose one of fp32, bf16, fp16"),
        (("--format", "gguf", "--dtype", "fp16"), "choose one of f32, f16, bf16, q8_0"),
        (("--format", "gguf", "--with-code"), "a GGUF file holds no code"),
        (("--format", "onnx"), "format onnx"),
        (("--out", "a/con"), "Windows keeps it"),
        (("--out", "a/b "), "no folder name on every system"),
    ],
)
def test_a_wrong_call_is_told_before_anything_is_read(words: tuple[str, ...], told: str, tmp_path: Path) -> None:
    bundle(tmp_path, shaken(LLAMA))
    result = CliRunner().invoke(app, ["export", "m", "--out-dir", str(tmp_path), *words])
    assert result.exit_code == 2 and told in " ".join(result.output.split()), result.output


def empty(place: Path) -> None:
    place.mkdir()


def of_another_run(place: Path) -> None:
    bundle(place.parent, shaken(LLAMA), name="other", run_id="other")
    exported(place.parent, "other", place)


def with_a_note(place: Path) -> None:
    exported(place.parent, to=place)
    (place / "notes.txt").write_text("mine", encoding="utf-8")


def with_a_changed_card(place: Path) -> None:
    exported(place.parent, to=place)
    (place / "README.md").write_text("mine", encoding="utf-8")


def leading_nowhere(place: Path) -> None:
    place.symlink_to(place.parent / "nowhere")


def another_bundle(place: Path) -> None:
    bundle(place.parent, shaken(LLAMA), name=place.name)


def of_the_same_run(place: Path) -> None:
    exported(place.parent, to=place, dtype="bf16")


PLACES: dict[str, tuple[Callable[[Path], Any], str | None]] = {
    "nothing": (lambda _: None, None),
    "an empty folder": (empty, None),
    "an earlier export": (of_the_same_run, None),
    "an export of another run": (of_another_run, "is an export of another run, other"),
    "an export with a file of someone's": (with_a_note, "notes.txt was added"),
    "an export whose card someone wrote": (with_a_changed_card, r"README\.md was changed"),
    "a file": (lambda place: place.write_text("mine", encoding="utf-8"), "is no export of mypt"),
    "a bundle": (another_bundle, "is no export of mypt"),
    "a link that leads nowhere": (leading_nowhere, "leads nowhere"),
}


@pytest.mark.parametrize("there", PLACES)
def test_an_export_replaces_nothing_but_an_earlier_one(there: str, tmp_path: Path) -> None:
    prepare, told = PLACES[there]
    bundle(tmp_path, shaken(LLAMA))
    place = tmp_path / "place"
    prepare(place)
    before = {p: p.read_bytes() for p in place.rglob("*") if p.is_file()}
    if told is None:
        assert exported(tmp_path, to=place).record.dtype == "fp32"
        assert {check.ok for check in verified(place)} == {True}
        return
    with pytest.raises(ConflictError, match=told):
        exported(tmp_path, to=place)
    assert {p: p.read_bytes() for p in place.rglob("*") if p.is_file()} == before


def test_an_export_that_fails_leaves_the_earlier_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle(tmp_path, shaken(LLAMA))
    made = exported(tmp_path)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(hf_folder, "save_file", full)
    result = CliRunner().invoke(app, ["export", "m", "--out-dir", str(tmp_path), "--dtype", "bf16"])
    assert result.exit_code == 1 and "the disk is full" in result.output
    assert read_record(made.path) == made.record and {check.ok for check in verified(made.path)} == {True}


def turned(folder: Path) -> None:
    """Exchange two matrices of one shape, as a wrong table of names would."""
    tensors = load_file(folder / "model.safetensors")
    names = [f"model.layers.0.mlp.{name}_proj.weight" for name in ("gate", "up")]
    tensors |= {names[0]: tensors[names[1]], names[1]: tensors[names[0]]}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def restated(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | changes), encoding="utf-8")


def respelled(folder: Path) -> None:
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text("utf-8"))
    vocabulary = content["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    path.write_text(json.dumps(content), encoding="utf-8")


def dropped(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.norm.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


FAULTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "matrices are exchanged": (turned, "was read back, and is not what was written"),
    "a tensor is lost": (dropped, "was read back, and is not what was written"),
    "the base of rope": (lambda f: restated(f, rope_theta=500.0), "transformers computes something else"),
    "the epsilon of norms": (lambda f: restated(f, rms_norm_eps=0.1), "transformers computes something else"),
    "the vocabulary": (respelled, "as other tokens"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_an_export_that_is_not_the_model_is_refused(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil, told = FAULTS[fault]
    bundle(tmp_path, shaken(LLAMA))
    write = hf_folder.write

    def badly(folder: Path, model: hf_folder.HFModel) -> None:
        write(folder, model)
        spoil(folder)

    monkeypatch.setattr("mypt.run.exchange.hf.write", badly)
    with pytest.raises(ExportError, match=told):
        exported(tmp_path)
    assert not (tmp_path / "m_hf").exists()


def resealed(folder: Path) -> None:
    """Let mypt.json say of the files what they are now."""
    record = read_record(folder)
    files = {name: file_hash(folder / name) for name in record.files}
    text = record.model_copy(update={"files": files}).model_dump_json()
    (folder / "mypt.json").write_text(text, encoding="utf-8")


def told_of(change: Callable[[Path], Any]) -> Callable[[Path], None]:
    """A change that mypt.json is made to agree with."""

    def both(folder: Path) -> None:
        change(folder)
        resealed(folder)

    return both


def misstated(folder: Path, **figures: float) -> None:
    record = read_record(folder)
    changed = record.model_copy(update={"proof": record.proof.model_copy(update=figures)})
    (folder / "mypt.json").write_text(changed.model_dump_json(), encoding="utf-8")


def flipped(folder: Path) -> None:
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-2] ^= 1
    path.write_bytes(data)


VERIFIED: dict[str, tuple[Callable[[Path], Any], dict[str, str]]] = {
    "a bit": (flipped, {"files": "model.safetensors was changed", "weights": "not those of mypt.json"}),
    "a bit, and the record to it": (
        told_of(lambda f: flipped(f)), {"weights": "not those of", "fits its bundle": "read back"}
    ),
    "other weights, and the record to it": (
        told_of(lambda f: turned(f)), {"weights": "not those of", "fits its bundle": "read back"}
    ),
    "the config, and the record to it": (
        told_of(lambda f: restated(f, rope_theta=500.0)), {"weights": "config.json is not that of mypt.json"}
    ),
    "a file is gone": (lambda f: (f / "tokenizer_config.json").unlink(), {"files": "_config.json was removed"}),
    "a file is new": (lambda f: (f / "x.py").write_text(""), {"files": "x.py was added"}),
    "the card": (lambda f: (f / "README.md").write_text(""), {"files": "README.md was changed"}),
    "the record": (lambda f: (f / "mypt.json").write_text("{}"), {"record": "damaged", "files": "damaged"}),
    "the figures in the record": (
        lambda f: misstated(f, weights=0.5), {"fits its bundle": "a weight differs by 0, and mypt.json says 0.5"}
    ),
    "a record of a terabyte": (lambda f: os.truncate(f / "mypt.json", 1 << 40), {"record": "cannot be read"}),
    "the weights are gone": (
        lambda f: (f / "model.safetensors").unlink(), {"files": "removed", "weights": "neither model.safetensors"}
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole")
    bundle(out, shaken(LLAMA))
    exported(out)
    return out


@pytest.mark.parametrize("change", VERIFIED)
def test_what_is_not_as_it_was_exported_is_found_later(
    change: str, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proof, "is_installed", lambda: False)  # which is asked last, and takes longest
    out = tmp_path / "out"
    shutil.copytree(whole, out)
    spoil, wanted = VERIFIED[change]
    spoil(out / "m_hf")
    found = {check.name: check for check in verified(out / "m_hf")}
    for name, told in wanted.items():
        assert found[name].ok is False and told in found[name].found, found[name]
    result = CliRunner().invoke(app, ["verify", "m_hf", "--out-dir", str(out)])
    assert result.exit_code == 1


@pytest.mark.parametrize("dtype", [None, "f32", "q8_0"])
def test_a_gguf_file_is_proven_recorded_and_checked(dtype: str | None, tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    pytest.importorskip("xllamacpp")
    tokenizer = TOKENIZERS["bpe that talks"]()
    bundle(tmp_path, shaken(config("rope", "swiglu", "rmsnorm", vocab_size=tokenizer.vocab_size)), tokenizer)
    made = exported(tmp_path, format="gguf", dtype=dtype)
    record = made.record
    assert (record.architecture, record.dtype) == ("llama", dtype or "f16")
    assert sorted(record.files) == ["Modelfile", "m.gguf"]
    assert record.proof.outputs is not None and record.proof.tokens == 36
    assert record.proof.same == 36 or dtype == "q8_0"
    assert (record.proof.weights == 0) == (dtype == "f32")
    found = {check.name: check.ok for check in verified(made.path)}
    assert found == {**dict.fromkeys(found, True), "weights": None}
    path = made.path / "m.gguf"
    data = bytearray(path.read_bytes())
    data[-40] ^= 64
    path.write_bytes(data)
    resealed(made.path)
    assert {check.name: check.ok for check in verified(made.path)}["fits its bundle"] is False


def test_a_bundle_that_trained_on_or_is_elsewhere_is_no_fault(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(whole, out)
    bundle(out, Network(LLAMA), step=9)
    found = {check.name: check for check in verified(out / "m_hf")}
    assert found["fits its bundle"].ok is None and "other weights now, of step 9" in found["fits its bundle"].found
    assert {check.ok for name, check in found.items() if name != "fits its bundle"} == {True}
    shutil.copytree(whole / "m", tmp_path / "elsewhere" / "m")
    shutil.rmtree(out / "m")
    assert {check.ok for check in verify_export(out / "m_hf", tmp_path / "elsewhere")} == {True}
    assert "is not here" in next(c.found for c in verified(out / "m_hf") if c.ok is None)


@pytest.mark.parametrize("coded", [False, True])
def test_a_check_runs_no_code_of_a_folder_wherever_that_is_named(coded: bool, tmp_path: Path) -> None:
    bundle(tmp_path, shaken(config("rope", "swiglu", "rmsnorm", token_conv=4 if coded else 1)))
    folder = exported(tmp_path, with_code=coded).path
    for name in ("other.py", "modeling_mypt.py"):
        (folder / name).write_text(f"open({str(tmp_path / 'run')!r}, 'w')", encoding="utf-8")
    for name, key in (("config.json", "AutoModelForCausalLM"), ("config.json", "AutoConfig")):
        content = json.loads((folder / name).read_text("utf-8"))
        restated(folder, auto_map=content.get("auto_map", {}) | {key: "other.Any"})
    settings = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
    text = json.dumps(settings | {"auto_map": {"AutoTokenizer": [None, "other.Any"]}})
    (folder / "tokenizer_config.json").write_text(text, encoding="utf-8")
    resealed(folder)
    (last,) = (check for check in verified(folder) if check.name == "computes the same")
    assert not (tmp_path / "run").exists()
    assert not coded or (last.ok is None and "runs no code" in last.found)


def test_an_export_is_no_bundle(whole: Path) -> None:
    assert "m_hf" not in run("inspect", "--out-dir", whole)
    for verb in ("generate", "inspect", "resume", "export-fp16"):
        result = CliRunner().invoke(app, [verb, "m_hf", "--out-dir", str(whole)])
        assert result.exit_code == 2 and "mypt import" in " ".join(result.output.split()), result.output
    text = whole / "text.txt"
    text.write_text(SAMPLE, encoding="utf-8")
    for words, told in (((), "was exported for other programs"), (("--fresh",), "is in the way, and is no bundle")):
        call = ["train", "m_hf", "--input-file", str(text), "--out-dir", str(whole), *words]
        result = CliRunner().invoke(app, call)
        assert result.exit_code == 2 and told in " ".join(result.output.split()), result.output
    assert read_record(whole / "m_hf").run == "m"


@pytest.mark.parametrize("kind", ["bpe that talks", "char"])
def test_the_card_tells_the_record_names_no_folder_and_its_lines_work(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer = TOKENIZERS[kind]()
    network = shaken(config("rope", "swiglu", "rmsnorm", vocab_size=tokenizer.vocab_size))
    source = SourceRecord(path=str(tmp_path / "own.txt"), bytes=77, sha256="5ha")
    data = DataRecord(
        sources=(source,), fingerprint="f1n6e", tokenization=tokenizer.file.token_kind, train_tokens=70, val_tokens=7
    )
    progress = Progress(last_val_loss=1.25, last_train_loss=1.0)
    bundle(tmp_path, network, tokenizer, step=50, progress=progress, data=data)
    made = exported(tmp_path)
    card = (made.path / "README.md").read_text("utf-8")
    assert "own.txt" in card and "5ha" in card and "f1n6e" in card
    assert str(tmp_path) not in card and "val loss 1.2500" in card and made.record.weights_sha256 in card
    code = card.split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(made.path)
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out.strip()


def run(*words: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())
