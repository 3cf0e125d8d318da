"""GGUF: what is written is read back, and llama.cpp computes the same."""

import itertools
import json
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pytest
import torch

from mypt.data.chat import Call, Message, prompt_ids
from mypt.data.tokenizer import Tokenizer
from mypt.errors import ExportError, UsageError
from mypt.exchange.gguf import file, verbatim
from mypt.exchange.gguf import tokenizer as vocabulary
from mypt.exchange.gguf.llamacpp import LlamaCpp, is_installed
from mypt.model.network import Network
from mypt.run.exchange import gguf as export
from mypt.schema.files.tokenizer import TokenizerFile
from mypt.schema.settings.config import GPTConfig
from mypt.schema.settings.export import GGUFDtype

pytest.importorskip("gguf", reason="the package gguf is not installed")

PROSE = 'It was a bright day, and the 12 clocks didn\'t strike: "Ça va?" — 日本語 🙂.\n' * 20
BPE = Tokenizer.train_bpe(PROSE, 300)
GPT2: dict[str, Any] = {"pos_encoding": "learned", "mlp_type": "gelu", "norm_type": "layernorm"}
LLAMA = {"pos_encoding": "rope", "mlp_type": "swiglu", "norm_type": "rmsnorm"}
STABLELM = {"pos_encoding": "rope", "mlp_type": "swiglu", "norm_type": "layernorm"}
STARCODER2 = {"pos_encoding": "rope", "mlp_type": "gelu", "norm_type": "layernorm"}
HOMES = {"gpt2": GPT2, "llama": LLAMA, "stablelm": STABLELM, "starcoder2": STARCODER2}
TWISTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "bias": {"bias": True},
    "tied": {"tie_weights": True},
    "grouped": {"n_kv_head": 1, "bias": True},
    "own width": {"mlp_hidden": 96, "norm_eps": 1e-3},
    "stretched": {"rope_theta": 500.0, "rope_scale": 4.0},
}
CONFIGS = [
    pytest.param(arch, home | twist, id=f"{arch}, {name}")
    for arch, home in HOMES.items()
    for name, twist in TWISTS.items()
    if not (arch == "stablelm" and "bias" in twist) and not (arch == "gpt2" and "rope_theta" in twist)
]


def shaken(**settings: Any) -> Network:
    """A network with norms and biases drawn at random too, so that no two of them can be exchanged unseen."""
    defaults: dict[str, Any] = {
        "n_embd": 64,
        "n_head": 4,
        "n_layer": 2,
        "block_size": 80,
        "dropout": 0.0,
        "device": "cpu",
    }
    network = Network(GPTConfig(**(defaults | {"vocab_size": BPE.vocab_size + 3} | settings))).eval()
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in network.parameters():
            spread = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(1 + 0.3 * spread if parameter.dim() == 1 and parameter.mean() > 0.5 else 0.06 * spread)
    return network


@pytest.mark.parametrize(("arch", "settings"), CONFIGS)
def test_what_is_written_is_read_back(arch: str, settings: dict[str, Any], tmp_path: Path) -> None:
    network = shaken(**settings)
    limits: dict[GGUFDtype, float] = {"f32": 0.0, "f16": 1e-3, "bf16": 8e-3, "q8_0": 1e-2}
    for dtype, limit in limits.items():
        path, weights = tmp_path / f"{dtype}.gguf", network.state_dict()
        file.write(path, file.Content(weights, network.config, BPE.file, arch, dtype))
        difference = file.read_back(path, file.Content(weights, network.config, BPE.file, arch, dtype))
        assert difference == 0 if limit == 0 else 0 < difference < limit


@pytest.mark.parametrize("arch", HOMES)
def test_a_changed_weight_or_setting_is_seen_when_read_back(arch: str, tmp_path: Path) -> None:
    network, path = shaken(**HOMES[arch]), tmp_path / "m.gguf"
    weights, config = network.state_dict(), network.config
    for dtype in get_args(GGUFDtype):
        file.write(path, file.Content(weights, config, BPE.file, arch, dtype))
        for name in weights:
            changed = {k: w.clone() for k, w in weights.items()}
            changed[name].view(-1)[-1] += 0.1
            with pytest.raises(ExportError):
                file.read_back(path, file.Content(changed, config, BPE.file, arch, dtype))
    for change in ({"n_head": 2}, {"norm_eps": 1e-4}, {"block_size": 81}):
        other = config.model_copy(update=change)
        with pytest.raises(ExportError):
            file.read_back(path, file.Content(weights, other, BPE.file, arch, "q8_0"))


@pytest.mark.parametrize(("dtype", "value"), [("f16", 1e5), ("q8_0", 1e8), ("f16", float("nan"))])
def test_a_weight_that_a_dtype_cannot_hold_is_refused(dtype: GGUFDtype, value: float, tmp_path: Path) -> None:
    network = shaken(**LLAMA)
    with torch.no_grad():
        network.get_parameter("blocks.1.mlp.up.weight")[3, 5] = value
    with pytest.raises(ExportError, match=r"blk\.1\.ffn_up\.weight"):
        file.write(tmp_path / "m.gguf", file.Content(network.state_dict(), network.config, BPE.file, "llama", dtype))


needs_llama = pytest.mark.skipif(not is_installed(), reason="the package xllamacpp is not installed")


@dataclass
class Compared:
    """What llama.cpp and mypt made of the same prompt.

    Attributes:
        difference: the largest of a log probability.
        others: how many of 60 tokens are not those that mypt finds most likely.
        sure: the share of tokens whose lead over the next is more than rounding can turn: twice the difference.
        wrong: how many of those are others.
    """

    difference: float
    others: int
    sure: float
    wrong: int


@needs_llama
@pytest.mark.parametrize(("arch", "settings"), CONFIGS)
def test_llama_cpp_computes_the_same(arch: str, settings: dict[str, Any], tmp_path: Path) -> None:
    network = shaken(**settings)
    by_table = network.config.mlp_type == "gelu"  # ggml looks GELU up in a table of fp16
    limits: dict[GGUFDtype, tuple[float, float]] = {
        "f32": (1.4e-3 if by_table else 3.3e-6, 0.95),
        "f16": (3.4e-3, 0.9),
        "bf16": (2.5e-2, 0.7),
        "q8_0": (9.6e-2, 0.4),
    }
    for dtype, (largest, sure) in limits.items():
        path = tmp_path / f"{dtype}.gguf"
        file.write(path, file.Content(network.state_dict(), network.config, BPE.file, arch, dtype))
        with LlamaCpp(path, network.config.block_size) as llama:
            found = compared(llama, network)
        assert found.difference <= largest, dtype
        assert found.wrong == 0 and found.sure >= sure, dtype
        if dtype == "f32" and not by_table:
            assert found.others == 0


@torch.no_grad()
def compared(llama: LlamaCpp, network: Network) -> Compared:
    ids = prompt = [5, 250, 7, 99, 31]
    while len(ids) < len(prompt) + 60:  # it stops at a token that ends a text
        ids = ids + llama.greedy(ids, len(prompt) + 60 - len(ids))
    own = network(torch.tensor([ids]))[0].log_softmax(-1)  # (T, V)
    differences = [
        abs(own[end - 1, token].item() - p)
        for end in range(len(prompt), len(ids), 7)
        for token, p in llama.log_probabilities(ids[:end], network.config.vocab_size).items()
    ]
    assert len(differences) >= 2 * network.config.vocab_size
    likeliest = own[len(prompt) - 1 : -1].topk(2)
    other = likeliest.indices[:, 0] != torch.tensor(ids[len(prompt) :])
    sure = likeliest.values[:, 0] - likeliest.values[:, 1] > 2 * max(differences)
    return Compared(max(differences), int(other.sum()), int(sure.sum()) / len(sure), int((other & sure).sum()))


def strings(count: int) -> Iterator[str]:
    """Texts over all of Unicode, in which code points below U+32000, words, spaces and markers follow each other."""
    draw = random.Random(5)
    points = [chr(c) for c in range(1, 0x32000) if not 0xD800 <= c < 0xE000]
    for start in range(0, len(points), 14):
        yield "".join(points[start : start + 14])
    words = ["don't", " we'll", "  ", "\n", "\r\n", "\t", "123", "4x", "été", "日本", "🙂", "<|endoftext|>", "<|user|>",
             "'S", "\u00a0", "\u3000", "\u0301", "...", " the", "ing", "—"]  # fmt: skip
    for _ in range(count - len(points) // 14):
        yield "".join(draw.choice(words) if draw.random() < 0.8 else draw.choice(points) for _ in range(8))


@needs_llama
@pytest.mark.parametrize("tokenizer", [Tokenizer.gpt2(), BPE], ids=["gpt2", "bpe"])
def test_llama_cpp_reads_texts_as_the_same_tokens(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer = Tokenizer(tokenizer.file.with_special())
    network = shaken(**LLAMA, n_embd=4, n_head=1, n_layer=1, vocab_size=tokenizer.vocab_size)
    file.write(tmp_path / "m.gguf", file.Content(network.state_dict(), network.config, tokenizer.file, "llama"))
    with LlamaCpp(tmp_path / "m.gguf", 80) as llama:
        texts = list(strings(21_000))
        differing = [text for text in texts if llama.token_ids(text) != tokenizer.encode(text).tolist()]
        assert differing == [] and len(texts) >= 20_000
        for name, token in tokenizer.file.special_ids.items():
            spelled = vocabulary.RENAMED.get(name, name)
            assert llama.token_ids(f"a{spelled}b", special=True)[1:-1] == [token]


@needs_llama
def test_llama_cpp_reads_characters_as_the_same_tokens(tmp_path: Path) -> None:
    for alphabet in ("abc \n", "a", "aé€🙂ⅷ日本 \r\n\t'1", "".join(map(chr, range(1, 0x250)))):
        tokenizer = Tokenizer.char(alphabet)
        network = shaken(**LLAMA, n_embd=4, n_head=1, n_layer=1, vocab_size=tokenizer.vocab_size)
        file.write(tmp_path / "m.gguf", file.Content(network.state_dict(), network.config, tokenizer.file, "llama"))
        draw = random.Random(3)
        with LlamaCpp(tmp_path / "m.gguf", 80) as llama:
            for _ in range(200):
                text = "".join(draw.choices(alphabet, k=12))
                assert llama.token_ids(text) == tokenizer.encode(text).tolist()


@pytest.mark.parametrize(
    ("tokenizer", "rows", "end"),
    [
        (Tokenizer.gpt2(), 50304, 50256),
        (Tokenizer.char("one<|endoftext|>two"), 6, 5),
        (Tokenizer.char("one, two"), 8, 7),
        (BPE, BPE.vocab_size, 255),
        (Tokenizer.char("to be, or not ~ $5"), 11, 10),
        (Tokenizer.char("one, two"), 7, 6),
    ],
)
def test_a_text_ends_at_a_token_that_no_text_needs(tokenizer: Tokenizer, rows: int, end: int) -> None:
    assert vocabulary.end_token(tokenizer.file, rows) == end


def test_an_imported_vocabulary_without_special_tokens_ends_texts_at_a_byte_that_none_has() -> None:
    content = json.loads(from_hugging_face(word_splitters()["gpt-2"]).file.hf or "")
    plain = json.dumps(content | {"added_tokens": [t | {"special": False} for t in content["added_tokens"]]})
    file = TokenizerFile(token_kind="hf", vocab_size=len(content["model"]["vocab"]) + 1, hf=plain)
    end = vocabulary.end_token(file, file.vocab_size)
    assert end is not None and Tokenizer(file).token_bytes(end) == b"\xff"


TALKING = Tokenizer(BPE.file.with_special().with_template())


def test_a_folder_is_proven(tmp_path: Path) -> None:
    network = shaken(**STARCODER2, gelu="exact", vocab_size=TALKING.vocab_size, bias=True)
    proof = export.write_folder(tmp_path, "dante", network, TALKING, "f16")
    assert proof.arch == "starcoder2" and 0 < proof.weights < 1e-3
    assert proof.gelu is not None and 1e-5 < proof.gelu < 1e-2
    assert (proof.llama is None) == (not is_installed())
    if proof.llama is not None:
        assert 0 < proof.llama.difference < 1e-2 and proof.llama.same >= proof.llama.tokens - 1
    assert {p.name for p in tmp_path.iterdir()} == {"dante.gguf", "Modelfile"}
    assert export.gelu_difference(shaken(**GPT2)) is None and export.gelu_difference(shaken(**LLAMA)) is None


def test_the_modelfile_says_where_an_answer_ends_and_how_turns_are_written(tmp_path: Path) -> None:
    export.write_folder(tmp_path, "dante", shaken(**LLAMA, vocab_size=TALKING.vocab_size), TALKING, "f32")
    assert (tmp_path / "Modelfile").read_text(encoding="utf-8") == (
        'FROM ./dante.gguf\nPARAMETER num_ctx 80\nPARAMETER stop "<|end|>"\nPARAMETER stop "<|endoftext|>"\n'
        'TEMPLATE """{{- range .Messages }}{{- if eq .Role "system" }}<|system|>{{ .Content }}<|end|>{{ end }}'
        '{{- if eq .Role "user" }}<|user|>{{ .Content }}<|end|>{{ end }}'
        '{{- if eq .Role "assistant" }}<|assistant|>{{ .Content }}<|end|>{{ end }}{{- end }}<|assistant|>"""\n'
    )
    export.write_folder(tmp_path, "plain", shaken(**LLAMA), BPE, "f32")
    plain = 'FROM ./plain.gguf\nPARAMETER num_ctx 80\nTEMPLATE """{{ .Prompt }}"""\n'
    assert (tmp_path / "Modelfile").read_text(encoding="utf-8") == plain


@pytest.mark.parametrize("home", [STABLELM | {"bias": True}, LLAMA | {"mlp_type": "gelu"}, GPT2 | {"token_conv": 2}])
def test_an_architecture_without_a_home_is_refused(home: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        export.write_folder(tmp_path, "m", shaken(**home), BPE, "f32")
    assert not [*tmp_path.iterdir()]


@needs_llama
def test_llama_cpp_answers_after_a_wait_for_a_slow_model(tmp_path: Path) -> None:
    export.write_folder(tmp_path, "m", shaken(**LLAMA), BPE, "f32")
    with LlamaCpp(tmp_path / "m.gguf", 80) as llama:
        before = llama.greedy([5, 250, 7], 4)
        time.sleep(7)  # llama.cpp's server closes a connection after 5 s
        assert llama.greedy([5, 250, 7], 4) == before


@needs_llama
@pytest.mark.parametrize("lost", ["blocks.1.norm_1.weight", "blocks.0.attn.qkv.weight", "blocks.0.mlp.down.bias"])
def test_a_file_that_computes_something_else_is_no_proof(lost: str, tmp_path: Path) -> None:
    network = shaken(**GPT2, bias=True)
    export.write_folder(tmp_path, "m", network, BPE, "q8_0")
    with torch.no_grad():
        network.get_parameter(lost).mul_(-1)
    with pytest.raises(ExportError):
        export.ask_llama(tmp_path / "m.gguf", network, BPE)


def ends_at(llama: LlamaCpp, token: int) -> bool:
    """Whether a token that is chosen for certain is the last of an answer."""
    chosen = {"prompt": [1], "n_predict": 3, "logit_bias": [[token, 1e4]], "temperature": 0.0}
    return bool(llama._post("/completion", chosen)["stop_type"] == "eos")


@needs_llama
@pytest.mark.parametrize("imported", [False, True])
def test_llama_cpp_ends_an_answer_at_the_ends_alone(imported: bool, tmp_path: Path) -> None:
    tokenizer = TALKING
    if imported:
        file = from_hugging_face(word_splitters()["gpt-2"]).file
        tokenizer = Tokenizer(file.with_special().with_template())
    proof = export.write_folder(tmp_path, "m", shaken(**LLAMA, vocab_size=tokenizer.vocab_size), tokenizer, "f32")
    with LlamaCpp(tmp_path / "m.gguf", 80) as llama:
        ends = {name for name, token in tokenizer.file.special_ids.items() if ends_at(llama, token)}
    assert ends == {"<|endoftext|>", "<|end|>"} | ({"</s>"} if imported else set())
    assert len(proof.notes) == 1 and "<|call|> is <|tool_call|> in the file" in proof.notes[0]


@needs_llama
@pytest.mark.parametrize("rows", [0, 1])
def test_a_character_that_ends_texts_in_llama_cpp_is_told(rows: int, tmp_path: Path) -> None:
    tokenizer = Tokenizer.char("to be, or not to be: $5\n")
    network = shaken(**LLAMA, vocab_size=tokenizer.vocab_size + rows)
    proof = export.write_folder(tmp_path, "m", network, tokenizer, "f32")
    with LlamaCpp(tmp_path / "m.gguf", 80) as llama:
        ends = [tokenizer.decode([i]) for i in range(tokenizer.vocab_size) if ends_at(llama, i)]
    assert ends == ["$"][rows:]
    assert len(proof.notes) == len(ends) and all("the character '$'" in note for note in proof.notes)
    assert all(f"--vocab-size {tokenizer.vocab_size + 1}" in note for note in proof.notes)


@needs_llama
def test_llama_cpp_writes_a_conversation_as_it_was_trained(tmp_path: Path) -> None:
    export.write_folder(tmp_path, "m", shaken(**LLAMA, vocab_size=TALKING.vocab_size), TALKING, "f32")
    call = Call("f", '{"a": 1}')
    talk = [Message("system", "Be kind."), Message("user", 'Hi {{x}} "é"\n there '), Message("assistant", "", (call,)),
            Message("tool", "3"), Message("assistant", " ok"), Message("user", "and?")]  # fmt: skip
    messages = [{"role": m.role, "content": m.content} for m in talk]
    function = {"name": call.name, "arguments": call.arguments}
    messages[2]["tool_calls"] = [{"type": "function", "function": function}]  # type: ignore[assignment]
    with LlamaCpp(tmp_path / "m.gguf", 80) as llama:
        assert llama.token_ids(llama.written(messages), special=True) == prompt_ids(talk, TALKING)


def from_hugging_face(words: Any, normalizer: Any = None) -> Tokenizer:
    """A tokenizer that came with a model: trained by the package tokenizers on a text that it splits as it is told."""
    tokenizers = pytest.importorskip("tokenizers", reason="the package tokenizers is not installed")
    made = tokenizers.Tokenizer(tokenizers.models.BPE(ignore_merges=True))
    made.pre_tokenizer, made.decoder = words, tokenizers.decoders.ByteLevel()
    if normalizer:
        made.normalizer = normalizer
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=340, initial_alphabet=alphabet, special_tokens=["<s>", "</s>", "<|im_start|>"], show_progress=False
    )
    made.train_from_iterator(PROSE.splitlines(keepends=True), trainer)
    made.add_tokens(["<fim>"])
    text = made.to_str()
    size = made.get_vocab_size()
    return Tokenizer(TokenizerFile(token_kind="hf", vocab_size=size, hf=text, end_of_text="</s>"))


def word_splitters() -> dict[str, Any]:
    pre = pytest.importorskip("tokenizers", reason="the package tokenizers is not installed").pre_tokenizers
    regex = pytest.importorskip("tokenizers").Regex
    return {
        "gpt-2": pre.ByteLevel(add_prefix_space=False),
        "smollm": pre.Sequence([pre.Digits(individual_digits=True), pre.ByteLevel(add_prefix_space=False)]),
        "llama-bpe": pre.Sequence(
            [pre.Split(regex(verbatim.LLAMA_3), "isolated"), pre.ByteLevel(add_prefix_space=False, use_regex=False)]
        ),
    }


@needs_llama
@pytest.mark.parametrize("words", ["gpt-2", "smollm", "llama-bpe"])
def test_a_tokenizer_that_came_with_a_model_goes_on_to_llama_cpp(words: str, tmp_path: Path) -> None:
    tokenizer = from_hugging_face(word_splitters()[words])
    network = shaken(**LLAMA, vocab_size=tokenizer.vocab_size + 2)
    export.write_folder(tmp_path, "m", network, tokenizer, "f32")
    with LlamaCpp(tmp_path / "m.gguf", 80) as llama:
        texts = itertools.islice(strings(17_000), 0, None, 8)
        assert [text for text in texts if llama.token_ids(text) != tokenizer.encode(text).tolist()] == []
        assert llama.token_ids("a<|im_start|>b", special=True)[1:-1] == [2]
    assert 'stop "</s>"' in (tmp_path / "Modelfile").read_text(encoding="utf-8")


def test_a_tokenizer_that_llama_cpp_would_read_otherwise_is_refused(tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers", reason="the package tokenizers is not installed")
    pre = tokenizers.pre_tokenizers
    level = pre.ByteLevel(add_prefix_space=False)
    unknown = [
        from_hugging_face(pre.ByteLevel(add_prefix_space=True)),
        from_hugging_face(pre.ByteLevel(add_prefix_space=False, use_regex=False)),
        from_hugging_face(pre.Sequence([pre.Digits(individual_digits=False), level])),
        from_hugging_face(pre.Sequence([pre.Split(tokenizers.Regex("a"), "isolated"), level])),
        from_hugging_face(level, tokenizers.normalizers.NFC()),
    ]
    for tokenizer in unknown:
        with pytest.raises(UsageError, match="splits text"):
            export.write_folder(tmp_path, "m", shaken(**LLAMA, vocab_size=tokenizer.vocab_size), tokenizer, "f32")
