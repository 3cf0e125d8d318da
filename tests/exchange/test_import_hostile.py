"""What a folder of a model can hold that no program wrote: each fault is a reason, at once."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from typer.testing import CliRunner

from mypt.cli.app import app
from mypt.data.tokenizer import gpt2_letters
from mypt.exchange.hf.architecture import from_hf
from mypt.exchange.hf.reader import read_folder
from mypt.exchange.hf.vocabulary import gpt2_of
from mypt.schema.files.tokenizer import END_OF_TEXT, GPT2_TOKENS
from mypt.schema.hf_config import HF_CONFIGS
from tests.exchange.test_import import NanoGPT, gpt2, llama, nanogpt_file, refusal, run, saved

VALUES: list[Any] = [
    "768", "x", "", 0, -1, 1.5, 1e300, 10**12, 2**63, None, True, False, [], [1], {}, {"a": 1}, {"a": {"b": 1}},
    {"rope_type": []}, {"type": "linear", "factor": "x"}, float("nan"), float("inf"), "a" * 5000,
]  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("models")
    return {
        "gpt2": saved(gpt2(n_embd=8, n_head=2), place / "gpt2"),
        "llama": saved(llama(hidden_size=8, num_attention_heads=2), place / "llama"),
    }


@pytest.mark.parametrize("family", HF_CONFIGS)
def test_any_value_in_a_config_is_an_architecture_or_a_reason(family: str) -> None:
    fields = {str(field.validation_alias or name) for name, field in HF_CONFIGS[family].model_fields.items()}
    assert len(fields) > 15
    plain = {"model_type": family, "partial_rotary_factor": 1.0, "sliding_window": None}
    plain |= {"hidden_act": "gelu"} if family == "arcee" else {}
    config, reasons = from_hf(plain)
    assert config is not None and not reasons
    wrong = 0
    for name in fields:
        for value in VALUES:
            config, reasons = from_hf(plain | {name: value})
            assert config is not None or reasons
            assert sum(map(len, reasons)) < 700
            wrong += bool(reasons)
    assert wrong > 5 * len(fields)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"hidden_size": "768"}, 'hidden_size "768": must be a valid integer'),
        ({"num_attention_heads": None}, "num_attention_heads null: must be a valid integer"),
        ({"rope_parameters": "x"}, "rope_parameters"),
        ({"rope_parameters": None, "rope_scaling": {"type": "linear"}}, "rope_scale null"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}, "scaled by yarn"),
        ({"rope_parameters": {"full_attention": {"rope_type": "yarn"}}}, "differ from layer to layer"),
        ({"sliding_window": "x"}, 'sliding_window "x"'),
        ({"partial_rotary_factor": "half"}, 'partial_rotary_factor "half"'),
        ({"rope_theta": [1]}, "rope_theta [1]"),
        ({"model_type": "mistral", "max_position_embeddings": 8192}, "sliding window of 4,096"),
        ({"model_type": "gpt2", "activation_function": "quick_gelu"}, "activation_function is quick_gelu"),
        ({"model_type": "gpt2", "add_cross_attention": True}, "cross attention"),
        ({"model_type": "stablelm", "partial_rotary_factor": 1.0, "use_parallel_residual": True}, "parallel_residual"),
        ({"model_type": "stablelm", "partial_rotary_factor": 1.0, "qk_layernorm": True}, "It has qk_layernorm"),
    ],
    ids=str,
)
def test_a_value_that_no_program_wrote_is_told_by_its_name(changes: dict[str, Any], reason: str) -> None:
    config, reasons = from_hf({"model_type": "llama"} | changes)
    assert reason in " ".join(reasons)
    assert config is None or len(reasons) == 1


@pytest.mark.parametrize(("family", "field"), [("gpt2", "n_layer"), ("llama", "num_hidden_layers")])
def test_layers_that_no_tensors_can_fill_are_not_counted_one_by_one(
    tmp_path: Path, folders: dict[str, Path], family: str, field: str
) -> None:
    folder = copy(folders[family], tmp_path, "config.json", lambda c: c | {field: 10**12})
    assert "too few for the 1,000,000,000,000 layers" in refusal(folder)


TOKENIZERS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "no object": (lambda c: [c], "tokenizer.json is no JSON object"),
    "no model": (lambda c: c | {"model": [1]}, "model [1]: must be a valid dictionary"),
    "unigram": (lambda c: c | {"model": {"type": "Unigram", "vocab": [["a", -1.0]]}}, "its model is Unigram"),
    "vocabulary of a text": (lambda c: c | {"model": c["model"] | {"vocab": "x"}}, "and mypt turns the tokens of BPE"),
    "ids of text": (lambda c: c | {"model": c["model"] | {"vocab": {"a": "b"}}}, "its ids are no numbers"),
    "added tokens": (lambda c: c | {"added_tokens": 3}, "added_tokens 3: must be a valid list"),
    "added token": (lambda c: c | {"added_tokens": [{"id": "x"}]}, "added_tokens"),
    "decoder": (lambda c: c | {"decoder": {"type": "Sequence", "decoders": 3}}, "its decoder is none"),
    "splitting": (lambda c: c | {"pre_tokenizer": "x"}, "pre_tokenizer"),
    "merges of nothing": (lambda c: c | {"model": c["model"] | {"merges": [["x", "yz"]]}}, "cannot read the model's"),
    "unknown without a token": (
        lambda c: c | {"model": c["model"] | {"vocab": {"a": 0}, "merges": [], "unk_token": "?"}},
        "cannot encode a text",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_tokenizer_that_cannot_work_is_refused(tmp_path: Path, folders: dict[str, Path], name: str) -> None:
    change, reason = TOKENIZERS[name]
    assert reason in refusal(copy(folders["llama"], tmp_path, "tokenizer.json", change))


@pytest.mark.parametrize("settings", [[], {"eos_token": []}, {"eos_token": {"content": {}}}, {"chat_template": 3}])
def test_settings_of_a_tokenizer_may_be_anything(tmp_path: Path, folders: dict[str, Path], settings: Any) -> None:
    folder = copy(folders["llama"], tmp_path, "tokenizer_config.json", lambda _: settings)
    if isinstance(settings, list):
        assert "tokenizer_config.json is no JSON object" in refusal(folder)
    else:
        run("import", folder, "--name", "x", "--out-dir", tmp_path / "out")


def copy(folder: Path, place: Path, name: str, change: Callable[[Any], Any]) -> Path:
    """The folder with a JSON file changed."""
    made = shutil.copytree(folder, place / "model")
    (made / name).write_text(json.dumps(change(json.loads((made / name).read_text()))))
    return made


def change_tensors(folder: Path, change: Callable[[dict[str, Tensor]], Any]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def linked_to_nothing(folder: Path, name: str) -> None:
    (folder / name).unlink()
    (folder / name).symlink_to("../blobs/that-was-never-downloaded")


def piped(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    os.mkfifo(folder / "model.safetensors")


def indexed(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "a.safetensors")
    places = dict.fromkeys(load_file(folder / "a.safetensors"), "a.safetensors") | {"lm_haed.weight": "a.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))


FILES: dict[str, tuple[str, Callable[[Path], Any], str]] = {
    "no config": ("llama", lambda f: (f / "config.json").unlink(), "There is no config.json."),
    "empty config": ("llama", lambda f: (f / "config.json").write_text(""), "config.json cannot be read"),
    "config that is a link": ("llama", lambda f: linked_to_nothing(f, "config.json"), "config.json cannot be read: No"),
    "tensors that are a link": (
        "llama", lambda f: linked_to_nothing(f, "model.safetensors"), "model.safetensors cannot be read: No such"
    ),
    "settings that are a link": (
        "llama", lambda f: linked_to_nothing(f, "tokenizer_config.json"), "tokenizer_config.json cannot be read: No"
    ),
    "a pipe": ("llama", piped, "it is a device, a pipe"),
    "fp8": (
        "llama",
        lambda f: change_tensors(f, lambda t: t.update({"model.norm.weight": torch.ones(8).to(torch.float8_e4m3fn)})),
        "model.norm.weight is torch.float8_e4m3fn",
    ),
    "one tensor by two names": (
        "gpt2",
        lambda f: change_tensors(f, lambda t: t.update({"ln_f.weight": torch.zeros(8)})),
        "transformer.ln_f.weight is there twice, once as ln_f.weight",
    ),
    "an index of another file": ("llama", indexed, "lm_haed.weight is in a.safetensors, where it is not"),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_files_that_are_not_what_they_seem_are_refused(tmp_path: Path, folders: dict[str, Path], name: str) -> None:
    family, change, reason = FILES[name]
    folder = shutil.copytree(folders[family], tmp_path / "model")
    change(folder)
    told = refusal(folder)
    assert reason in told
    assert "model_type is None" not in told


def test_a_checkpoint_of_nanogpt_has_the_checksums_that_it_was_saved_with(tmp_path: Path) -> None:
    path = nanogpt_file(tmp_path / "ckpt.pt", NanoGPT(bias=True), True)
    content = bytearray(path.read_bytes())
    weight = torch.load(path, weights_only=True)["model"]["transformer.wte.weight"].numpy().tobytes()
    content[content.index(weight) + 5] ^= 1
    path.write_bytes(content)
    assert "is not what was saved" in refusal(path)
    path.write_bytes(content[:-30])
    assert "damaged" in refusal(path)
    path.write_text("weights")
    assert "no file of torch. Save" in refusal(path)


@pytest.mark.parametrize(
    ("family", "buffers"),
    [
        ("gpt2", ("transformer.h.0.attn.bias", "transformer.h.0.attn.masked_bias", "h.1.attn.bias")),
        ("llama", ("model.layers.0.self_attn.rotary_emb.inv_freq", "model.rotary_emb.inv_freq")),
    ],
)
def test_buffers_that_were_saved_beside_the_weights_are_no_weights(
    tmp_path: Path, folders: dict[str, Path], family: str, buffers: tuple[str, ...]
) -> None:
    folder = shutil.copytree(folders[family], tmp_path / "model")
    plain, _ = read_folder(folder)
    change_tensors(folder, lambda t: t.update({name: torch.ones(2, 2) for name in buffers}))
    again, _ = read_folder(folder)
    assert again.weights.keys() == plain.weights.keys()


GPT2_ENDS = {"id": GPT2_TOKENS - 1, "content": END_OF_TEXT, "special": True}


@pytest.mark.parametrize(
    ("changes", "known"),
    [
        ({}, True),
        ({"added_tokens": [GPT2_ENDS, {"id": GPT2_TOKENS, "content": "<|user|>", "special": True}]}, True),
        ({"added_tokens": [GPT2_ENDS, {"id": GPT2_TOKENS, "content": "<|user|>", "special": False}]}, False),
        ({"added_tokens": [GPT2_ENDS, {"id": GPT2_TOKENS + 1, "content": "<|user|>", "special": True}]}, False),
        ({"normalizer": {"type": "Lowercase"}}, False),
        ({"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True}}, False),
        ({"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}}, False),
        ({"pre_tokenizer": None}, False),
        ({"model": {"type": "BPE", "vocab": {"a": 0}}}, False),
    ],
    ids=range(9),
)
def test_gpt2_is_known_by_all_that_decides_on_its_tokens(changes: dict[str, Any], known: bool) -> None:
    content = {
        "model": {"type": "BPE", "vocab": gpt2_letters() | {END_OF_TEXT: GPT2_TOKENS - 1}},
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False},
        "added_tokens": [GPT2_ENDS],
    }
    assert (gpt2_of(content | changes) is not None) is known


def test_a_chat_template_that_is_left_out_is_told(tmp_path: Path, folders: dict[str, Path]) -> None:
    plain, _ = read_folder(folders["llama"])
    assert not plain.notes
    folder = copy(folders["llama"], tmp_path, "tokenizer_config.json", lambda c: c | {"chat_template": "x"})
    stated, _ = read_folder(folder)
    assert "chat template is not kept" in stated.notes[0]
    (folder / "tokenizer_config.json").unlink()
    (folder / "chat_template.jinja").write_text("x")
    beside, _ = read_folder(folder)
    assert beside.notes == stated.notes


def test_names_that_a_run_has_for_its_gold_and_its_fp16_bundle_are_taken(
    tmp_path: Path, folders: dict[str, Path]
) -> None:
    folder, out = shutil.copytree(folders["llama"], tmp_path / "model"), tmp_path / "refused"
    run("import", folder, "--name", "x_gold", "--out-dir", out)
    assert "x_gold" in refusal(folder)
    run("import", folder, "--name", "other", "--out-dir", out)
    for ending in ("gold", "fp16"):
        again = CliRunner().invoke(app, ["import", str(folder), "--name", f"other_{ending}", "--out-dir", str(out)])
        assert again.exit_code == 2
        assert f"other keeps its {ending} bundle" in " ".join(again.output.split())
        assert not (out / f"other_{ending}").exists()
