"""`mypt generate`: where the prompt comes from, how samples stand, what ends a text, and what it starts from."""

import json
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import typer
from typer import testing
from typer.main import get_command

from mypt import GPT, GPTConfig, GPTDataLoader, Tokenizer
from mypt.checkpoint.files import read_state
from mypt.cli.app import app
from mypt.data.loader import LoaderOptions
from mypt.data.tokens import LOOK_TOKENS, Part, Tokens, start_token
from tests.conftest import SHORT, TINY, Mypt, Once, flat, reseal, tiny_text

CALL = ["generate", "dante", "--max-new-tokens", "30", "--temperature", "1"]


@pytest.fixture
def dante(once: Once) -> Path:
    once("train", "dante", *SHORT)
    return Path("checkpoints/dante")


@pytest.mark.usefixtures("dante")
def test_the_prompt_is_the_same_from_a_word_a_file_and_standard_input(mypt: Mypt) -> None:
    word = mypt(*CALL, "--prompt", "nel mezzo").output
    for content in (b"nel mezzo", b"nel mezzo\n", b"nel mezzo\r\n", b"\xef\xbb\xbfnel mezzo"):
        Path("prompt.txt").write_bytes(content)
        assert mypt(*CALL, "--prompt-file", "prompt.txt").output == word
        assert mypt(*CALL, "--prompt", "-", stdin=content.decode()).output == word
    assert mypt(*CALL, "--prompt", "-", stdin="nel mezzo\n\n").output.startswith("nel mezzo\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--prompt", "a", "--prompt-file", "b"], "prompt and prompt_file are both given"),
        (["--prompt", "-", "--prompt-file", "b"], "prompt and prompt_file are both given"),
        (["--prompt-file", "nowhere"], "nowhere does not exist"),
        (["--prompt-file", "."], "is a folder"),
        (["--prompt-file", "latin.txt"], "not UTF-8"),
        (["--prompt-file", "large.txt"], "more than 16,777,216 bytes"),
        (["--stop", ""], "is empty"),
        (["--num-samples", "0"], "num_samples 0"),
    ],
)
@pytest.mark.usefixtures("dante")
def test_a_prompt_that_cannot_be_is_told(words: list[str], said: str, mypt: Mypt) -> None:
    Path("latin.txt").write_bytes("perché".encode("latin-1"))
    Path("large.txt").write_bytes(b"a" * (1 << 24) + b"b")
    result = mypt(*CALL, *words, ok=False)
    assert result.exit_code == 2 and said in flat(result.stderr) and not result.stdout


def _taking_words() -> Iterator[tuple[str, str]]:
    """Every option of every verb that takes a word."""
    group: Any = get_command(app)
    for verb, command in group.commands.items():
        for name, one in getattr(command, "commands", {"": command}).items():
            for option in one.get_params(typer.Context(one)):
                if option.opts[0].startswith("--") and not option.is_flag:
                    yield f"{verb} {name}".strip(), option.opts[0]


NEEDED = {
    "train": ["m", *SHORT], "resume": ["dante"], "reproduce": ["dante"], "verify": ["dante"], "inspect": ["dante"],
    "compare": ["dante", "dante"], "prepare": ["rows.jsonl", "--out", "d", "--workers", "1"], "generate": ["dante"],
    "chat": ["dante"], "export-fp16": ["dante"], "data inspect": ["d"], "config check": ["c.json"],
}  # fmt: skip


@pytest.mark.parametrize("word", ["\udcff\udcfe", "a\udce9=b", "a=\udcff", "\udcff="], ids=repr)
def test_a_word_that_is_not_utf8_is_told_by_every_verb(
    word: str, mypt: Mypt, once: Once, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("uvicorn.Server.run", lambda *_, **__: None)  # the board, which would go on serving
    once("train", "dante", *SHORT, "--tokenization", "bpe")
    Path("rows.jsonl").write_text('{"text": "a"}\n' * 9, encoding="utf-8")
    Path("c.json").write_text("{}", encoding="utf-8")
    found = list(_taking_words())
    assert {("generate", "--prompt"), ("generate", "--stop"), ("prepare", "--text-field")} <= set(found)
    for verb, option in found:
        needed = NEEDED.get(verb, ["dante"] if verb.startswith("logs") else [])
        result = mypt(*verb.split(), *needed, option, word, ok=False)
        said = flat(result.stdout + result.stderr)
        assert "unexpectedly" not in said and "Traceback" not in said, (verb, option, said)
        told = 2 if verb in ("generate", "chat") and option != "--out-dir" else result.exit_code
        assert result.exit_code == told in (0, 1, 2), (verb, option, said)


@pytest.mark.usefixtures("dante")
def test_samples_are_those_of_the_seeds_that_follow_whatever_their_number(mypt: Mypt) -> None:
    call = [*CALL, "--prompt", "nel"]
    alone = [mypt(*call, "--seed", str(7 + n)).output.removesuffix("\n") for n in range(4)]
    assert len(set(alone)) == 4
    for number in (2, 4):
        *samples, after = mypt(*call, "--seed", "7", "--num-samples", str(number)).output.split("\0")
        assert samples == alone[:number] and after == ""
    last = str(2**63 - 1)
    *samples, _ = mypt(*call, "--seed", last, "--num-samples", "2").output.split("\0")
    assert samples[1] == mypt(*call, "--seed", "0").output.removesuffix("\n")


@pytest.mark.usefixtures("dante")
def test_samples_in_a_terminal_stand_under_lines_of_their_own(mypt: Mypt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(testing._NamedTextIOWrapper, "isatty", lambda _: True, raising=False)
    lines = mypt(*CALL, "--prompt", "nel", "--num-samples", "2", "--seed", "7").output.splitlines()
    assert lines[0] == "── sample 1 of 2, seed 7 ──" and "── sample 2 of 2, seed 8 ──" in lines
    assert lines[lines.index("── sample 2 of 2, seed 8 ──") - 1] == ""
    assert mypt(*CALL, "--prompt", "nel").output.startswith("nel")


def test_a_nul_of_the_model_does_not_end_a_sample(mypt: Mypt, monkeypatch: pytest.MonkeyPatch, dante: Path) -> None:
    from mypt.run import generate

    assert dante.is_dir()
    monkeypatch.setattr(generate, "generate_text", lambda *_: iter(["a\0", "b"]))
    assert mypt("generate", "dante", "--num-samples", "2").output == "a\\x00b\0a\\x00b\0"
    assert mypt("generate", "dante").output == "a\0b\n"


@pytest.mark.usefixtures("dante")
def test_a_text_ends_before_what_stops_it(mypt: Mypt) -> None:
    whole = mypt(*CALL, "--prompt", "nel").output.removeprefix("nel")
    stop = whole[9:12]
    short = mypt(*CALL, "--prompt", "nel", "--stop", "Ж", "--stop", stop).output
    assert short == "nel" + whole[: whole.index(stop)] + "\n"


@pytest.mark.usefixtures("dante")
def test_a_prompt_beyond_the_window_is_told(mypt: Mypt) -> None:
    result = mypt(*CALL, "--prompt", "nel mezzo del cammin di nostra vita")
    assert "35 tokens, of which the model sees the last 16" in flat(result.stderr)
    assert not mypt(*CALL, "--prompt", "nel mezzo del ca").stderr


BORDERED = Tokenizer(Tokenizer.char("ab\n").file.with_special())
BORDER = BORDERED.file.special_ids["<|endoftext|>"]
A, B, NEWLINE = (int(BORDERED.encode(c)[0]) for c in "ab\n")


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ([A, B, NEWLINE, BORDER, A], BORDER), ([B, NEWLINE, A], NEWLINE), ([B, A], B), ([A], A), ([], None),
        ([A] * LOOK_TOKENS + [BORDER], A), ([A] * (LOOK_TOKENS - 1) + [BORDER], BORDER),
    ],
)  # fmt: skip
@pytest.mark.parametrize("parts", [1, 3])
def test_a_text_starts_from_a_token_that_was_trained_on(ids: list[int], expected: int | None, parts: int) -> None:
    import numpy as np

    array = np.asarray(ids, np.uint16)
    tokens = Tokens([Part(str(n), piece) for n, piece in enumerate(np.array_split(array, parts))])
    assert start_token(tokens, BORDERED) == expected


def test_gpt2_starts_from_a_newline_where_its_end_of_text_was_not_seen(once: Once) -> None:
    once("train", "dante", *SHORT, "--tokenization", "gpt2")
    for name in ("dante", "dante_gold", "dante_fp16"):
        state = read_state(Path("checkpoints") / name)
        assert state.start_token == Tokenizer.gpt2().encode("\n")[0] != 50256
        model = GPT.load(name, device="cpu")
        assert model.start_token == state.start_token and model.tokenizer is not None
        assert model.tokenizer.prompt_ids("", model.start_token) == [198]


def test_prepared_documents_start_from_their_border(once: Once) -> None:
    Path("rows.jsonl").write_text(
        "".join(json.dumps({"text": f"nel {n}"}) + "\n" for n in range(300)), encoding="utf-8"
    )
    once("prepare", "rows.jsonl", "--out", "d", "--tokenization", "char", "--workers", "1")
    once("train", "dante", "--dataset-dir", "d", *TINY[2:], "--max-iters", "4", "--eval-interval", "2")
    model = GPT.load("dante", device="cpu")
    assert model.tokenizer is not None and model.tokenizer.decode([model.start_token or 0]) == "<|endoftext|>"
    loader = GPTDataLoader(model.config, model.tokenizer, dataset_dir="d", options=LoaderOptions(eval_only=True))
    assert loader.record.start_token is None


def test_a_run_without_a_recorded_start_goes_on_and_starts_as_before(mypt: Mypt, dante: Path) -> None:
    before = mypt("generate", "dante", "--max-new-tokens", "9").output
    for value in (None, 10**9, -1):
        path = dante / "training_state.json"
        record = json.loads(path.read_text(encoding="utf-8"))
        record["data"]["start_token"] = value
        if value is None:
            del record["data"]["start_token"]
        path.write_text(json.dumps(record), encoding="utf-8")
        reseal(dante, record["step"])
        assert mypt("generate", "dante", "--max-new-tokens", "9").output == before  # whose newline is the first choice
    mypt("resume", "dante", "--max-iters", "6")
    assert read_state(dante).start_token == -1
    assert "reproduced" in flat(mypt("reproduce", "dante").output).lower()


GIVEN: list[tuple[list[str], dict[str, Any]]] = [
    ([], {}), (["--top-k", "3", "--seed", "5"], {"top_k": 3, "seed": 5}), (["--stop", "a"], {"stop": ["a"]}),
    (["--temperature", "0"], {"temperature": 0}), (["--no-stop"], {"ignore_end": True}),
]  # fmt: skip


def test_python_generates_what_the_command_line_does(mypt: Mypt, dante: Path) -> None:
    assert dante.is_dir()
    model = GPT.load("dante", device="cpu")
    for prompt, (words, settings) in product(("nel", ""), GIVEN):
        shown = mypt("generate", "dante", "--prompt", prompt, "--max-new-tokens", "30", *words).output
        text = model.generate(prompt, max_new_tokens=30, **settings)
        assert prompt + text + "\n" == shown
        assert "".join(model.stream(prompt, max_new_tokens=30, **settings)) == text


def test_python_is_told_what_is_wrong() -> None:
    from mypt.errors import ConfigError, InputError, UsageError

    tokenizer = Tokenizer.char(tiny_text())
    config = GPTConfig(n_embd=8, n_head=1, n_layer=1, block_size=8, vocab_size=tokenizer.vocab_size, device="cpu")
    model = GPT(config)
    with pytest.raises(UsageError, match="no tokenizer"):
        model.generate("a")
    model.fit(GPTDataLoader(config, tokenizer, text=tiny_text()), max_iters=1, eval_iters=1)
    assert model.start_token == tokenizer.newline_id and len(model.generate(max_new_tokens=7)) == 7
    wrong: list[dict[str, Any]] = [{"temprature": 1}, {"temperature": -1}, {"stop": [""]}, {"prompt_file": "a"}]
    for settings in wrong:
        with pytest.raises(ConfigError):
            model.stream("a", **settings)
    with pytest.raises(InputError):
        model.generate("Ж")
