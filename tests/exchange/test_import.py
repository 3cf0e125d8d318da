"""`mypt import`: models of other programs, against those programs, and each reason to refuse one."""

import json
import math
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from typer.testing import CliRunner

from mypt.checkpoint.files import read_config, read_state, read_tokenizer
from mypt.checkpoint.manager import CheckpointManager, weights_sha256
from mypt.checkpoint.tensors import load_tensors
from mypt.cli.app import app
from mypt.data.tokenizer import Tokenizer, gpt2_letters
from mypt.exchange.hf.config import to_hf as hf_config
from mypt.exchange.hf.tokenizer import tokenizer_config, tokenizer_json
from mypt.exchange.hf.weights import to_hf
from mypt.exchange.homes import home_of
from mypt.log.compare import compare
from mypt.model.network import Network
from mypt.schema.files.tokenizer import END_OF_TEXT, TokenizerFile
from mypt.schema.settings.config import GPTConfig

TOLERANCE = 2e-6
ROWS, T = 320, 24


def run(*words: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return result.output


def refusal(path: Path, *words: object) -> str:
    """What is said of a source that cannot be imported, in one line; nothing is left of it."""
    out = path.parent / "refused"
    result = CliRunner().invoke(app, ["import", str(path), "--name", "x", "--out-dir", str(out), *map(str, words)])
    assert result.exit_code == 2, result.output
    assert not (out / "x").exists()
    return " ".join(result.output.split())


def shaken(model: Any) -> Any:
    """Every weight drawn anew, norms and biases too: with fresh ones, most mistakes do not show."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=generator)
            p.copy_(1 + 0.2 * noise if p.dim() == 1 and name.endswith("weight") else 0.1 * noise)
    return model.eval()


def tokens(rows: int = ROWS) -> Tensor:
    return torch.randint(0, rows, (2, T), generator=torch.Generator().manual_seed(2))


def imported(path: Path, out: Path, *words: object) -> CheckpointManager:
    run("import", path, "--name", "got", "--out-dir", out, *words)
    return CheckpointManager("got", out)


def difference(manager: CheckpointManager, reference: Tensor, ids: Tensor) -> float:
    model = manager.load().model.eval()
    with torch.inference_mode():
        return float((model(ids) - reference).abs().max())


def byte_level(folder: Path, rows: int = ROWS) -> None:
    """A tokenizer of the bytes, a few merges, and an end of text, as the package tokenizers writes it."""
    from tokenizers import AddedToken, decoders, models, pre_tokenizers
    from tokenizers import Tokenizer as Hf

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("t", "h"), ("th", "e"), ("Ġ", "the"), ("a", "n"), ("an", "d")]
    vocabulary = {token: i for i, token in enumerate([*letters, *("".join(m) for m in merges)])}
    hf = Hf(models.BPE(vocab=vocabulary, merges=merges))
    hf.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    hf.decoder = decoders.ByteLevel()
    hf.add_special_tokens([AddedToken("</s>", special=True)])
    assert hf.get_vocab_size() <= rows
    hf.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "</s>"}))


def gpt2(**changes: Any) -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    sizes = {"vocab_size": ROWS, "n_positions": 32, "n_embd": 32, "n_layer": 2, "n_head": 4}
    return shaken(GPT2LMHeadModel(GPT2Config(**sizes | changes)))


def llama(**changes: Any) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {
        "vocab_size": ROWS, "hidden_size": 32, "intermediate_size": 88, "num_hidden_layers": 2,
        "num_attention_heads": 4, "max_position_embeddings": 32,
    }  # fmt: skip
    return shaken(LlamaForCausalLM(LlamaConfig(**sizes | changes)))


def saved(model: Any, folder: Path, **how: Any) -> Path:
    model.save_pretrained(folder, **how)
    byte_level(folder)
    return folder


MODELS: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "gpt2": (gpt2, {}),
    "gpt2 sharded": (gpt2, {"max_shard_size": "40KB"}),
    "gpt2 untied": (lambda: gpt2(tie_word_embeddings=False), {}),
    "gpt2 exact gelu, own width, own eps": (
        lambda: gpt2(activation_function="gelu", n_inner=72, layer_norm_epsilon=1e-3), {}
    ),
    "llama": (llama, {}),
    "llama sharded": (llama, {"max_shard_size": "40KB"}),
    "llama grouped": (lambda: llama(num_key_value_heads=2), {}),
    "llama one kv head, tied": (lambda: llama(num_key_value_heads=1, tie_word_embeddings=True), {}),
    "llama biases": (lambda: llama(attention_bias=True, mlp_bias=True, num_key_value_heads=2), {}),
    "llama theta, eps": (lambda: llama(rope_parameters={"rope_type": "default", "rope_theta": 500.0},
                                       rms_norm_eps=1e-3), {}),
    "llama linear rope": (lambda: llama(rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}), {}),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_a_model_of_hugging_face_computes_what_it_computed_there(tmp_path: Path, name: str, dtype: str) -> None:
    build, how = MODELS[name]
    model = build()
    if dtype == "bf16":
        model = model.bfloat16()
    folder = saved(model, tmp_path / "hf", **how)
    assert ("sharded" in name) == (folder / "model.safetensors.index.json").is_file()
    with torch.inference_mode():
        reference = type(model).from_pretrained(folder, dtype=torch.float32)(tokens()).logits
    got = imported(folder, tmp_path / "out")
    assert difference(got, reference, tokens()) <= TOLERANCE
    assert float(reference.std()) > 0.1


def llmc_file(path: Path, model: Any, version: int, rows: int) -> Path:
    """Write a model as llm.c's train_gpt2.py does: header, then tensor by tensor, the vocabulary padded."""
    config, weights = model.config, {n.removeprefix("transformer."): w for n, w in model.state_dict().items()}
    header = np.zeros(256, "<i4")
    header[:8] = (20240326, version, config.n_positions, config.vocab_size, config.n_layer, config.n_head,
                  config.n_embd, rows)  # fmt: skip
    names = ["ln_1.weight", "ln_1.bias", "attn.c_attn.weight", "attn.c_attn.bias", "attn.c_proj.weight",
             "attn.c_proj.bias", "ln_2.weight", "ln_2.bias", "mlp.c_fc.weight", "mlp.c_fc.bias", "mlp.c_proj.weight",
             "mlp.c_proj.bias"]  # fmt: skip
    padded = F.pad(weights["wte.weight"], (0, 0, 0, rows - config.vocab_size))
    parts = [padded, weights["wpe.weight"]]
    for name in names:
        for i in range(config.n_layer):
            weight = weights[f"h.{i}.{name}"]
            parts.append(weight.t() if weight.dim() == 2 else weight)
    parts += [weights["ln_f.weight"], weights["ln_f.bias"]]
    flat = torch.cat([part.reshape(-1) for part in parts])
    data = flat.float().numpy() if version == 3 else flat.bfloat16().view(torch.int16).numpy()
    path.write_bytes(header.tobytes() + data.tobytes())
    return path


@pytest.mark.parametrize("version", [3, 5])
def test_a_checkpoint_of_llm_c_computes_what_gpt2_computes(tmp_path: Path, version: int) -> None:
    model: Any = gpt2()
    if version == 5:
        model = model.bfloat16().float()
    got = imported(llmc_file(tmp_path / "model.bin", model, version, 384), tmp_path / "out")
    with torch.inference_mode():
        reference = F.pad(model(tokens()).logits, (0, 64))
    assert difference(got, reference, tokens()) <= TOLERANCE
    assert read_config(got.path).vocab_size == 384
    assert read_tokenizer(got.path).token_kind == "ids"


class NanoGPT(nn.Module):
    """Nothing but the arithmetic of nanoGPT's model, by its names."""

    def __init__(self, bias: bool, C: int = 32, L: int = 2, V: int = ROWS, block: int = 32) -> None:
        super().__init__()
        self.nh = 4
        linear = [("attn.c_attn", C, 3 * C), ("attn.c_proj", C, C), ("mlp.c_fc", C, 4 * C), ("mlp.c_proj", 4 * C, C)]
        layers = []
        for _ in range(L):
            parts = nn.ModuleDict({n.replace(".", "/"): nn.Linear(i, o, bias=bias) for n, i, o in linear})
            parts.update({n: nn.LayerNorm(C, bias=bias) for n in ("ln_1", "ln_2")})
            layers.append(parts)
        self.transformer = nn.ModuleDict(
            {"wte": nn.Embedding(V, C), "wpe": nn.Embedding(block, C), "h": nn.ModuleList(layers),
             "ln_f": nn.LayerNorm(C, bias=bias)}
        )  # fmt: skip
        self.lm_head = nn.Linear(C, V, bias=False)
        self.lm_head.weight = self.transformer["wte"].weight  # type: ignore[assignment]

    def forward(self, ids: Tensor) -> Tensor:
        parts: Any = self.transformer
        x = parts["wte"](ids) + parts["wpe"].weight[: ids.size(1)]
        for h in parts["h"]:
            B, T, C = x.shape
            q, k, v = (t.view(B, T, self.nh, -1).transpose(1, 2) for t in h["attn/c_attn"](h["ln_1"](x)).split(C, 2))
            att = (q @ k.transpose(-2, -1)) / math.sqrt(C // self.nh)
            att = att.masked_fill(torch.ones(T, T, dtype=torch.bool).triu(1), -math.inf).softmax(-1)
            x = x + h["attn/c_proj"]((att @ v).transpose(1, 2).reshape(B, T, C))
            x = x + h["mlp/c_proj"](F.gelu(h["mlp/c_fc"](h["ln_2"](x))))
        logits: Tensor = self.lm_head(parts["ln_f"](x))
        return logits


def nanogpt_file(path: Path, network: NanoGPT, bias: bool, prefix: str = "", **more: Any) -> Path:
    state = {prefix + name.replace("/", "."): w for name, w in network.state_dict().items()}
    arguments = {"n_layer": 2, "n_head": 4, "n_embd": 32, "block_size": 32, "bias": bias, "vocab_size": ROWS,
                 "dropout": 0.1}  # fmt: skip
    content = {"model": state, "model_args": arguments, "iter_num": 5, "best_val_loss": torch.tensor(1.0), "config": {}}
    torch.save(content | more, path)
    return path


@pytest.mark.parametrize(("bias", "prefix"), [(True, ""), (False, "_orig_mod."), (False, "module._orig_mod.")])
def test_a_checkpoint_of_nanogpt_computes_what_it_computed_there(tmp_path: Path, bias: bool, prefix: str) -> None:
    model: Any = shaken(NanoGPT(bias))
    path = nanogpt_file(tmp_path / "ckpt.pt", model, bias, prefix)
    got = imported(path, tmp_path / "out")
    with torch.inference_mode():
        reference = model(tokens())
    assert difference(got, reference, tokens()) <= TOLERANCE
    assert read_config(got.path).gelu == "exact"


def test_the_mask_that_older_versions_of_nanogpt_saved_is_no_weight(tmp_path: Path) -> None:
    model: Any = shaken(NanoGPT(bias=True))
    path = nanogpt_file(tmp_path / "ckpt.pt", model, True)
    content = torch.load(path, weights_only=True)
    content["model"] |= {f"transformer.h.{i}.attn.bias": torch.ones(1, 1, 32, 32).tril() for i in range(2)}
    torch.save(content, path)
    with torch.inference_mode():
        assert difference(imported(path, tmp_path / "out"), model(tokens()), tokens()) <= TOLERANCE


def test_an_imported_model_is_compared_without_settings_that_nobody_chose(tmp_path: Path) -> None:
    model: Any = shaken(NanoGPT(bias=True))
    path = nanogpt_file(tmp_path / "ckpt.pt", model, True)
    got = imported(path, tmp_path / "out")
    found = compare([str(got.path), str(got.path)], tmp_path / "out")
    for run in found.runs:
        assert run.training == {} and run.missing == [] and "batch_size" not in run.architecture
        assert run.architecture["n_embd"] == 32 and run.data["imported"] == str(path)
    assert found.verdict == "not comparable" and "it is imported" in found.reasons[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(llama(num_key_value_heads=2), tmp_path_factory.mktemp("llama") / "hf")


def edited(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def reworked(folder: Path, change: Callable[[dict[str, Tensor]], Any]) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def set_nan(tensors: dict[str, Tensor]) -> None:
    tensors["model.norm.weight"][3] = math.nan


def narrowed(tensors: dict[str, Tensor]) -> None:
    tensors["model.layers.0.mlp.up_proj.weight"] = torch.zeros(87, 32)


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def indexed(folder: Path, shard: str = "model-00002-of-00002.safetensors") -> None:
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    places = dict.fromkeys(tensors, "model-00001-of-00002.safetensors") | {"lm_head.weight": shard}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))


def cut(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


REFUSALS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "unknown type": (lambda f: edited(f, model_type="falcon"), "model_type is 'falcon'"),
    "no config": (lambda f: (f / "config.json").unlink(), "There is no config.json."),
    "sliding window": (lambda f: edited(f, model_type="mistral", sliding_window=8), "sliding window of 8"),
    "llama3 rope": (
        lambda f: edited(f, rope_parameters={"rope_type": "llama3", "factor": 8.0, "rope_theta": 1e4}),
        "by llama3",
    ),
    "yarn, as it was written": (lambda f: edited(f, rope_parameters=None, rope_scaling={"type": "yarn"}), "by yarn"),
    "dynamic": (lambda f: edited(f, rope_parameters={"rope_type": "dynamic", "factor": 2.0}), "by dynamic"),
    "partial rotation": (lambda f: edited(f, partial_rotary_factor=0.5), "Only 50% of each head"),
    "head_dim": (lambda f: edited(f, head_dim=16), "4 heads of 16 channels"),
    "some biases": (lambda f: edited(f, attention_bias=True), "in attention or in the feed-forward layers alone"),
    "activation": (lambda f: edited(f, hidden_act="relu"), "hidden_act is relu"),
    "experts": (lambda f: edited(f, model_type="mixtral", num_local_experts=8), "mixture of experts"),
    "quantized": (lambda f: edited(f, quantization_config={"bits": 4}), "quantized"),
    "heads": (lambda f: edited(f, num_key_value_heads=3), "not divisible by n_kv_head 3"),
    "missing tensor": (
        lambda f: reworked(f, lambda t: t.pop("model.layers.1.mlp.gate_proj.weight")),
        "model.layers.1.mlp.gate_proj.weight is missing",
    ),
    "missing keys": (
        lambda f: reworked(f, lambda t: t.pop("model.layers.1.self_attn.k_proj.weight")),
        "k_proj.weight is missing",
    ),
    "surplus tensor": (
        lambda f: reworked(f, lambda t: t.update({"model.layers.0.self_attn.q_norm.weight": torch.ones(8)})),
        "q_norm.weight is no part of a LlamaForCausalLM",
    ),
    "shape": (lambda f: reworked(f, narrowed), "mlp.up_proj.weight has shape (87, 32) instead of (88, 32)"),
    "not finite": (lambda f: reworked(f, set_nan), "model.norm.weight holds nan"),
    "integers": (
        lambda f: reworked(f, lambda t: t.update({"lm_head.weight": torch.zeros(ROWS, 32, dtype=torch.int8)})),
        "lm_head.weight is torch.int8",
    ),
    "another head than the tied one": (lambda f: edited(f, tie_word_embeddings=True), "differs from the token"),
    "pickles": (pickled, "pytorch_model.bin. AutoModelForCausalLM"),
    "missing shard": (indexed, "model-00002-of-00002.safetensors is missing"),
    "shard elsewhere": (lambda f: indexed(f, "../x.safetensors"), "names no files of tensors"),
    "damaged": (cut, "model.safetensors cannot be read"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "neither model.safetensors nor"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "--tokenizer"),
    "tokenizer of another kind": (
        lambda f: (f / "tokenizer.json").write_text('{"model": {"type": "WordPiece", "vocab": {"a": 0}}}'),
        "WordPiece",
    ),
    "more ids than rows": (lambda f: edited(f, vocab_size=100), "and the model 100 rows"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_mypt_has_no_place_for_is_refused_by_its_reason(tmp_path: Path, folder: Path, name: str) -> None:
    import shutil

    change, reason = REFUSALS[name]
    copy = tmp_path / "hf"
    shutil.copytree(folder, copy)
    change(copy)
    assert reason in refusal(copy)


GPT2_REFUSALS = {
    "scale_attn_weights": (False, "not scaled by the size of a head"),
    "scale_attn_by_inverse_layer_idx": (True, "scaled by the number of the layer"),
    "activation_function": ("relu", "activation_function is relu"),
    "add_cross_attention": (True, "cross attention"),
}


def test_all_reasons_are_told_at_once(tmp_path: Path) -> None:
    copy = saved(gpt2(), tmp_path / "hf")
    edited(copy, **{name: value for name, (value, _) in GPT2_REFUSALS.items()}, quantization_config={"bits": 8})
    reworked(copy, lambda t: (t.pop("transformer.h.1.ln_2.bias"), t["transformer.ln_f.bias"].fill_(math.inf)))
    (copy / "tokenizer.json").unlink()
    told = refusal(copy)
    further = ["quantized", "transformer.h.1.ln_2.bias is missing", "ln_f.bias holds inf", "no tokenizer.json"]
    for reason in [reason for _, reason in GPT2_REFUSALS.values()] + further:
        assert reason in told


def llmc_of(tmp_path: Path) -> Path:
    return llmc_file(tmp_path / "model.bin", gpt2(), 3, ROWS)


def with_header(path: Path, place: int, value: int) -> None:
    data = bytearray(path.read_bytes())
    struct.pack_into("<i", data, 4 * place, value)
    path.write_bytes(data)


LLMC_REFUSALS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "version": (lambda p: with_header(p, 1, 1), "Its version is 1"),
    "sizes": (lambda p: with_header(p, 4, -2), "not those of a model"),
    "heads": (lambda p: with_header(p, 5, 5), "not divisible by 5 heads"),
    "vocabulary": (lambda p: with_header(p, 3, 400), "320 rows for a vocabulary of 400"),
    "cut": (lambda p: p.write_bytes(p.read_bytes()[:-4]), "the model of its header needs"),
    "header alone": (lambda p: p.write_bytes(p.read_bytes()[:100]), "fewer than the header"),
    "not finite": (lambda p: with_header(p, 256, 0x7F800000), "wte.weight holds inf"),
}


@pytest.mark.parametrize("name", LLMC_REFUSALS)
def test_a_file_of_llm_c_that_is_not_whole_is_refused(tmp_path: Path, name: str) -> None:
    change, reason = LLMC_REFUSALS[name]
    path = llmc_of(tmp_path)
    change(path)
    assert reason in refusal(path)


class Opens:
    def __reduce__(self) -> Any:
        return Path.touch, (Path("opened"),)


NANOGPT_REFUSALS: dict[str, tuple[dict[str, Any], str]] = {
    "code": ({"config": Opens()}, "could run code"),
    "no model": ({"model": 3}, "no model and model_args"),
    "no sizes": ({"model_args": {"n_layer": 2}}, "have no n_head, n_embd, block_size, vocab_size"),
    "surplus and missing": ({"model": {"transformer.h.0.attn.q_norm.weight": torch.ones(8)}}, "q_norm.weight is not"),
    "no tensor": ({"model": {"transformer.wte.weight": [1.0]}}, "wte.weight is no tensor"),
    "not finite": ({"model": {"transformer.ln_f.weight": torch.full((32,), math.nan)}}, "ln_f.weight holds nan"),
}


@pytest.mark.parametrize("name", NANOGPT_REFUSALS)
def test_what_is_no_checkpoint_of_nanogpt_is_refused(tmp_path: Path, name: str) -> None:
    change, reason = NANOGPT_REFUSALS[name]
    path = nanogpt_file(tmp_path / "ckpt.pt", NanoGPT(bias=True), True, **change)
    assert reason in refusal(path)
    assert not Path("opened").exists()


def test_what_no_program_wrote_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.pt").write_text("no checkpoint")
    assert "no file of torch" in refusal(tmp_path / "text.pt")
    assert "cannot be read" in refusal(tmp_path / "nothing")


def test_a_taken_name_is_refused(tmp_path: Path) -> None:
    path = llmc_of(tmp_path)
    imported(path, tmp_path / "out")
    before = (tmp_path / "out" / "got" / "training_state.json").read_bytes()
    again = CliRunner().invoke(app, ["import", str(path), "--name", "got", "--out-dir", str(tmp_path / "out")])
    assert again.exit_code == 2
    assert "is a bundle already" in " ".join(again.output.split())
    assert (tmp_path / "out" / "got" / "training_state.json").read_bytes() == before


def test_what_comes_after_an_import_works_on_it(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    out = imported(folder, Path("checkpoints")).path.parent
    Path("text.txt").write_text("the hand and the band\n" * 400)
    shown = run("inspect", "got", "--out-dir", out, "--width", 200)
    assert f"Imported from: {folder}" in shown
    assert "imported, hf llama: config.json sha256" in shown
    record = read_state(out / "got").imported
    assert not read_state(out / "got").exact_resume
    assert record is not None
    assert {f.name for f in record.files} == {"config.json", "model.safetensors", "tokenizer.json",
                                              "tokenizer_config.json"}  # fmt: skip
    assert "an imported model has none" in run("verify", "got", "--out-dir", out, "--width", 200)
    run("generate", "got", "--out-dir", out, "--prompt", "the ", "--max-new-tokens", 4)
    plan = run("train", "new", "--init-from-model", "got", "--input-file", "text.txt", "--dry-run", "--out-dir", out,
               "--torch-compile", "off", "--width", 200)  # fmt: skip
    assert "has 32 windows of 32 tokens; --batch-size and --block-size can make it smaller" in plan
    run("train", "new", "--init-from-model", "got", "--input-file", "text.txt", "--max-iters", 2, "--eval-interval", 2,
        "--eval-iters", 2, "--out-dir", out, "--batch-size", 4, "--block-size", 16,
        "--torch-compile", "off")  # fmt: skip
    assert read_tokenizer(out / "new") == read_tokenizer(out / "got")
    assert str(folder) in run("inspect", "new", "--out-dir", out, "--width", 200)
    run("compare", "got", "new", "--out-dir", out)
    run("export-fp16", "got", "--out-dir", out)
    run("verify", "new", "--out-dir", out)
    refused = CliRunner().invoke(app, ["resume", "got", "--out-dir", str(out)])
    assert "--init-from-model" in refused.output


TEXTS = ["", "the hand", " the and", "naïve café 👋🏽\n\n\tx", "</s> in a text", "\x00\x7f\u2581"]


def test_a_kept_tokenizer_gives_the_ids_that_its_own_package_gives(tmp_path: Path, folder: Path) -> None:
    from tokenizers import Tokenizer as Hf

    got = imported(folder, tmp_path / "out").path
    file = read_tokenizer(got)
    assert file.hf == (folder / "tokenizer.json").read_text(encoding="utf-8")
    own, theirs = Tokenizer(file), Hf.from_file(str(folder / "tokenizer.json"))
    theirs.encode_special_tokens = True
    for text in TEXTS:
        assert own.encode(text).tolist() == theirs.encode(text, add_special_tokens=False).ids
        assert own.decode(own.encode(text)) == text
        assert own.byte_lengths[own.encode(text)].sum() == len(text.encode())
    end = file.special_ids["</s>"]
    assert own.encode_text("the<|endoftext|>the").tolist().count(end) == 1
    assert own.byte_lengths[end] == 0
    assert own.decode([file.vocab_size + 3]) == f"<|{file.vocab_size + 3}|>"


def test_a_tokenizer_of_llama_begins_each_prompt_as_it_says(tmp_path: Path) -> None:
    from tokenizers import AddedToken, decoders, models, normalizers, processors
    from tokenizers import Tokenizer as Hf

    folder = saved(llama(vocab_size=300), tmp_path / "hf")
    vocabulary = {"<unk>": 0, "<s>": 1, "</s>": 2} | {f"<0x{b:02X}>": b + 3 for b in range(256)}
    vocabulary |= {t: 259 + i for i, t in enumerate(["\u2581", "h", "i", "\u2581h", "\u2581hi"])}
    merges = [("\u2581", "h"), ("\u2581h", "i")]
    hf = Hf(models.BPE(vocab=vocabulary, merges=merges, byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    hf.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    hf.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    hf.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in ("<unk>", "<s>", "</s>")])
    hf.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    hf.save(str(folder / "tokenizer.json"))
    own = Tokenizer(read_tokenizer(imported(folder, tmp_path / "out").path))
    text = "hi hié\n"
    assert own.prompt_ids(text) == hf.encode(text).ids
    assert own.start_ids() == [1]
    assert own.encode(text).tolist() == hf.encode(text).ids[1:]
    assert own.decode(own.encode(text)) == " " + text == " " + hf.decode(hf.encode(text).ids)


def gpt2_tokenizer(folder: Path, special: tuple[str, ...] = ()) -> None:
    from tokenizers import AddedToken, decoders, models, pre_tokenizers
    from tokenizers import Tokenizer as Hf

    letters = gpt2_letters()
    halves = [(t[:i], t[i:]) for t in list(letters)[:2000] for i in range(1, len(t)) if t[:i] in letters]
    hf = Hf(models.BPE(vocab=letters | {"<|endoftext|>": 50256}, merges=[m for m in halves if m[1] in letters]))
    hf.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    hf.decoder = decoders.ByteLevel()
    hf.add_special_tokens([AddedToken(t, special=True) for t in ("<|endoftext|>", *special)])
    hf.save(str(folder / "tokenizer.json"))


@pytest.mark.parametrize("special", [(), ("<|user|>", "<|assistant|>")])
def test_the_vocabulary_of_gpt2_is_recognised(tmp_path: Path, special: tuple[str, ...]) -> None:
    folder = saved(gpt2(vocab_size=50304, n_embd=8, n_head=2), tmp_path / "hf")
    gpt2_tokenizer(folder, special)
    file = read_tokenizer(imported(folder, tmp_path / "out").path)
    assert (file.token_kind, file.special, file.hf) == ("gpt2", special or None, None)


def test_a_tokenizer_can_be_named(tmp_path: Path, folder: Path) -> None:
    out = tmp_path / "out"
    imported(folder, out)
    path = llmc_of(tmp_path)
    run("import", path, "--name", "named", "--out-dir", out, "--tokenizer", "got")
    assert read_tokenizer(out / "named") == read_tokenizer(out / "got")
    assert "50,257 ids, and the model 320 rows" in refusal(path, "--tokenizer", "gpt2")
    assert "no tokenizer 'nothing'" in refusal(path, "--tokenizer", "nothing")


def test_weights_are_in_fp32_whatever_they_came_in(tmp_path: Path) -> None:
    folder = saved(llama().half(), tmp_path / "hf")
    got = imported(folder, tmp_path / "out").path
    assert {w.dtype for w in load_tensors(got / "model.pt").values()} == {torch.float32}


warnings.filterwarnings("ignore", module="transformers")


STYLES: dict[str, dict[str, Any]] = {
    "gpt2": {"pos_encoding": "learned"},
    "gpt2 without biases": {"pos_encoding": "learned", "bias": False, "gelu": "exact"},
    "llama": {"mlp_type": "swiglu", "norm_type": "rmsnorm", "n_kv_head": 2},
    "llama without biases": {"mlp_type": "swiglu", "norm_type": "rmsnorm", "bias": False, "rope_scale": 2.0},
    "stablelm": {"mlp_type": "swiglu", "bias": False, "n_kv_head": 1},
    "starcoder2": {"n_kv_head": 2, "rope_theta": 500.0},
    "starcoder2 without biases": {"bias": False, "gelu": "exact"},
    "arcee": {"norm_type": "rmsnorm", "tie_weights": True},
}


def written(folder: Path, model: Network, tokenizer: Tokenizer, *, recorded: bool) -> Path:
    """What an export to Hugging Face writes."""
    folder.mkdir()
    config, home = model.config, home_of(model.config, "hf")
    save_file(to_hf(model.state_dict(), config, home), folder / "model.safetensors")
    end = tokenizer.file.special_ids.get(END_OF_TEXT)
    contents = {
        "config.json": hf_config(config, home, "fp32", end),
        "tokenizer.json": tokenizer_json(tokenizer),
        "tokenizer_config.json": tokenizer_config(tokenizer, config.block_size),
        **({"mypt.json": {"config": config.model_dump()}} if recorded else {}),
    }
    for name, content in contents.items():
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    return folder


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("recorded", [True, False])
def test_a_model_of_mypt_comes_back_as_it_went(tmp_path: Path, style: str, recorded: bool) -> None:
    defaults: dict[str, Any] = {"pos_encoding": "rope", "bias": True, "norm_eps": 1e-4, "mlp_hidden": 72}
    config = GPTConfig(
        n_embd=32, n_head=4, n_layer=2, block_size=32, vocab_size=ROWS, dropout=0.1, **defaults | STYLES[style]
    )
    model = shaken(Network(config))
    tokenizer = Tokenizer(Tokenizer.train_bpe("the hand and the band\n" * 9, 270).file.with_special().with_template())
    got = imported(written(tmp_path / "hf", model, tokenizer, recorded=recorded), tmp_path / "out")
    back = got.load()
    assert back.tokenizer.file == tokenizer.file
    with torch.inference_mode():
        assert torch.equal(back.model.eval()(tokens()), model(tokens()))
    if recorded:
        assert back.model.config == config
        assert all(torch.equal(w, model.state_dict()[name]) for name, w in back.model.state_dict().items())


def test_what_was_saved_over_an_export_is_taken_as_it_is_now(tmp_path: Path) -> None:
    model = shaken(Network(GPTConfig(n_embd=32, n_head=4, n_layer=2, block_size=32, vocab_size=ROWS, bias=True)))
    folder = written(tmp_path / "hf", model, Tokenizer.char("abc"), recorded=True)
    saved(llama(), folder)
    assert read_config(imported(folder, tmp_path / "out").path).pos_encoding == "rope"


@pytest.mark.parametrize(
    "tokenizer",
    [
        Tokenizer.char("the <|endoftext|>hand\né\U0001f44b"),
        Tokenizer.train_bpe("the hand and the band\n" * 9, 270),
        Tokenizer(Tokenizer.char("hand").file.with_special().with_template()),
        Tokenizer(Tokenizer.gpt2().file.with_special()),
    ],
    ids=["char", "bpe", "char with chat", "gpt2 with special tokens"],
)
def test_a_tokenizer_of_mypt_is_known_again(tmp_path: Path, tokenizer: Tokenizer) -> None:
    rows = tokenizer.vocab_size
    model = shaken(Network(GPTConfig(n_embd=8, n_head=2, n_layer=1, block_size=8, vocab_size=rows, bias=True)))
    folder = written(tmp_path / "hf", model, tokenizer, recorded=False)
    assert read_tokenizer(imported(folder, tmp_path / "out").path).meaning() == tokenizer.file.meaning()


def test_two_steps_between_an_import_and_another_one_lose_nothing(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    out = imported(folder, Path("checkpoints")).path.parent
    Path("text.txt").write_text("the hand and the band\n" * 400)
    run("train", "new", "--init-from-model", "got", "--input-file", "text.txt", "--max-iters", 2, "--eval-interval", 2,
        "--eval-iters", 2, "--out-dir", out, "--batch-size", 4, "--block-size", 16,
        "--torch-compile", "off")  # fmt: skip
    trained = CheckpointManager("new", out).load()
    config, home = trained.model.config, home_of(trained.model.config, "hf")
    second = Path("second")
    second.mkdir()
    save_file(to_hf(trained.model.state_dict(), config, home), second / "model.safetensors")
    (second / "config.json").write_text(json.dumps(hf_config(config, home, "fp32", None)))
    (second / "tokenizer.json").write_text(trained.tokenizer.file.hf or "", encoding="utf-8")
    (second / "tokenizer_config.json").write_text((folder / "tokenizer_config.json").read_text())
    run("import", second, "--name", "again", "--out-dir", out)
    again, before = CheckpointManager("again", out).load(), CheckpointManager("got", out).load()
    assert again.tokenizer.file == trained.tokenizer.file
    assert weights_sha256(again.model) == weights_sha256(trained.model) != weights_sha256(before.model)


def test_a_vocabulary_without_room_for_a_marker_can_be_trained_on_shards_that_have_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    out = imported(saved(llama(vocab_size=262), tmp_path / "hf"), Path("checkpoints")).path.parent
    assert read_tokenizer(out / "got").vocab_size == 262
    Path("t.jsonl").write_text("".join(json.dumps({"text": f"the hand {i} and the band"}) + "\n" for i in range(200)))
    told = run("prepare", "t.jsonl", "--tokenizer-of", "got", "--out", "plain", "--workers", 1)
    assert "for new models" not in told
    how = ("--init-from-model", "got", "--max-iters", 1, "--eval-iters", 1, "--batch-size", 2, "--block-size", 16,
           "--torch-compile", "off")  # fmt: skip
    run("train", "new", "--dataset-dir", "plain", *how)
    assert read_tokenizer(out / "new") == read_tokenizer(out / "got")
    Path("c.jsonl").write_text("".join(
        json.dumps({"messages": [{"role": "user", "content": f"q {i}"}, {"role": "assistant", "content": "a"}]}) + "\n"
        for i in range(200)
    ))  # fmt: skip
    told = run("prepare", "c.jsonl", "--chat", "--tokenizer-of", "got", "--out", "chat", "--workers", 1)
    assert "for new models" in " ".join(told.split())
    refused = CliRunner().invoke(app, ["train", "talk", "--dataset-dir", "chat", *map(str, how)])
    assert refused.exit_code == 2


def test_a_dropout_in_a_tokenizer_that_came_with_a_model_is_for_training_alone(tmp_path: Path) -> None:
    byte_level(tmp_path)
    content = json.loads((tmp_path / "tokenizer.json").read_text("utf-8"))
    texts = [json.dumps(content | {"model": content["model"] | change}) for change in ({}, {"dropout": 0.9})]
    size = len(content["model"]["vocab"]) + 1
    plain, dropping = (Tokenizer(TokenizerFile(token_kind="hf", vocab_size=size, hf=text)) for text in texts)
    assert len({tuple(dropping.encode("the hand and the").tolist()) for _ in range(20)}) == 1
    assert dropping.encode("the hand and the").tolist() == plain.encode("the hand and the").tolist()
