"""Conversations as tokens: what the assistant says is learned, token by token, and nothing else is."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mypt.checkpoint.files import read_tokenizer
from mypt.data.chat import Call, Message, prompt_ids, render, stop_ids
from mypt.data.loader import GPTDataLoader, LoaderOptions
from mypt.data.shards import open_shards, read_dataset_tokenizer
from mypt.data.tokenizer import Tokenizer
from mypt.errors import InputError
from mypt.model.losses import IGNORED
from mypt.schema.files.chat import ROLES, ChatTemplate
from mypt.schema.files.tokenizer import TokenizerFile
from mypt.schema.settings.config import GPTConfig
from mypt.schema.settings.prepare import ChatFormat
from tests.conftest import Mypt, flat, tiny_text
from tests.data.test_conversations import KINDS as CHAT_FORMATS
from tests.data.test_conversations import READ, kind

MARKERS = ["<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|tool|>", "<|tools|>", "<|call|>"]
ALPHABET = 'abc {}":,<|>[]1\\ndefghijklmnopqrstuvwxyz\n'


def talking(tokenizer: Tokenizer) -> Tokenizer:
    return Tokenizer(tokenizer.file.with_special().with_template())


TOKENIZERS = [
    talking(Tokenizer.gpt2()),
    talking(Tokenizer.train_bpe(tiny_text(), 300)),
    talking(Tokenizer.char(ALPHABET)),
]
KINDS = pytest.mark.parametrize("tokenizer", TOKENIZERS, ids=lambda t: t.kind)
OLD = Tokenizer(TokenizerFile(token_kind="gpt2", vocab_size=50261, special=tuple(MARKERS[1:5])))

CONTENT = st.lists(st.sampled_from([*MARKERS, "a", "hi there ", "\n", "be", " "]), max_size=5).map("".join)
CALLS = st.builds(Call, st.sampled_from(["look", "a b"]), st.sampled_from(["{}", '{"a": [1, "<|end|>"]}']))
MESSAGES = st.lists(
    st.builds(Message, st.sampled_from(ROLES), CONTENT, st.lists(CALLS, max_size=2).map(tuple), st.booleans()),
    max_size=5,
)


def expected(messages: list[Message], tokenizer: Tokenizer) -> list[tuple[int, int]]:
    """Each token and whether it counts, as the documentation has it and without the template."""
    id_of = tokenizer.file.special_ids
    tokens = []
    for message in messages:
        counts = 1 if message.role == "assistant" and message.learned else 0
        tokens.append((id_of["<|" + message.role + "|>"], 0))
        tokens += [(int(i), counts) for i in tokenizer.encode(message.content)]
        for call in message.calls:
            tokens.append((id_of["<|call|>"], counts))
            said = '{"name": "' + call.name + '", "arguments": ' + call.arguments + "}"
            tokens += [(int(i), counts) for i in tokenizer.encode(said)]
        tokens.append((id_of["<|end|>"], counts))
    return tokens


@KINDS
@given(messages=MESSAGES)
def test_exactly_what_the_assistant_says_is_learned(tokenizer: Tokenizer, messages: list[Message]) -> None:
    ids, mask = render(messages, tokenizer)
    assert list(zip(ids.tolist(), mask.tolist(), strict=True)) == expected(messages, tokenizer)
    assert mask.dtype == np.uint8 and ids.dtype == np.dtype(tokenizer.file.dtype)
    assert prompt_ids(messages, tokenizer) == [*ids.tolist(), tokenizer.file.special_ids["<|assistant|>"]]


@KINDS
@given(messages=MESSAGES)
def test_markers_in_what_is_said_end_no_turn(tokenizer: Tokenizer, messages: list[Message]) -> None:
    ids = render(messages, tokenizer)[0].tolist()
    special = [name for token in ids for name, i in tokenizer.file.special_ids.items() if i == token]
    turns = [["<|" + m.role + "|>", *["<|call|>"] * len(m.calls), "<|end|>"] for m in messages]
    assert special == [marker for turn in turns for marker in turn]
    plain = "".join("".join(("<|" + m.role + "|>", *_said(m), "<|end|>")) for m in messages)
    assert tokenizer.decode(ids) == plain


def _said(message: Message) -> list[str]:
    return [message.content, *("<|call|>" + json.dumps(json.loads(call.text)) for call in message.calls)]


@KINDS
def test_an_answer_ends_at_the_end_of_a_turn_or_of_a_text(tokenizer: Tokenizer) -> None:
    assert stop_ids(tokenizer) == {tokenizer.file.special_ids[name] for name in ("<|end|>", "<|endoftext|>")}


def test_a_tokenizer_without_conversations_ends_at_the_end_of_a_text() -> None:
    assert stop_ids(Tokenizer.gpt2()) == {50256} and stop_ids(Tokenizer.char("ab")) == set()
    for tokenizer in (Tokenizer.gpt2(), Tokenizer(Tokenizer.gpt2().file.with_special())):
        with pytest.raises(InputError, match="no chat template"):
            prompt_ids([Message("user", "Hi")], tokenizer)


def test_tokenizers_of_earlier_versions_talk_as_they_did() -> None:
    assert OLD.file.with_special() == OLD.file and OLD.file.template == OLD.file.with_template().chat_template
    messages = [Message("system", "Be."), Message("user", "Hi"), Message("assistant", "Yes")]
    assert render(messages, OLD)[0].tolist() == [
        50257, *OLD.encode("Be.").tolist(), 50260, 50258, *OLD.encode("Hi").tolist(), 50260,
        50259, *OLD.encode("Yes").tolist(), 50260,
    ]  # fmt: skip
    assert TOKENIZERS[0].file.extends(OLD.file) and not OLD.file.extends(TOKENIZERS[0].file)


@pytest.mark.parametrize(
    ("message", "named"),
    [
        (Message("tool", "4"), "the result of a tool"),
        (Message("tools", "[]"), "definitions of tools"),
        (Message("assistant", "", (Call("f", "{}"),)), "a call of a tool"),
    ],
)
def test_what_the_markers_cannot_say_is_refused_by_name(message: Message, named: str) -> None:
    with pytest.raises(InputError, match=f"no marker for {named}"):
        render([message], OLD)


def test_every_marker_is_a_special_token_whatever_the_kind() -> None:
    for tokenizer in TOKENIZERS:
        file = tokenizer.file
        assert file.template is not None and set(file.template.markers) < file.special_ids.keys() == {*MARKERS}
        assert [*file.template.roles] == [*ROLES]
        stored = TokenizerFile.model_validate_json(file.model_dump_json())
        assert stored == file and stored.with_special() == file


@pytest.mark.parametrize(
    ("template", "fault"),
    [
        ({"roles": {"user": "<|user|>"}, "end": "<|end|>"}, "no marker for the assistant"),
        ({"roles": {"user": "<|end|>", "assistant": "<|assistant|>"}, "end": "<|end|>"}, "are the same"),
        (
            {"roles": {"assistant": "<|assistant|>"}, "end": "<|stop|>"},
            r"<\|stop\|> of the chat template is no special",
        ),
        ({"roles": {"assistant": "<|assistant|>", "bot": "<|user|>"}, "end": "<|end|>"}, "Input should be"),
    ],
)
def test_a_template_that_cannot_be_written_is_refused(template: dict[str, object], fault: str) -> None:
    content = {**OLD.file.model_dump(), "chat_template": template}
    with pytest.raises(ValidationError, match=fault):
        TokenizerFile.model_validate(content)


def test_the_template_says_nothing_about_the_ids() -> None:
    plain, talks = (Tokenizer.char("ab").file.with_special() for _ in range(2))
    other = ChatTemplate(roles={"assistant": "<|user|>"}, end="<|end|>")
    talks = talks.with_template(other)
    assert plain.extends(talks) and talks.extends(plain) and talks.with_template() == talks


TALK = {"messages": [{"role": "user", "content": "ab"}, {"role": "assistant", "content": "ba"}]}
MODEL = [
    "--n-layer", "1", "--n-head", "2", "--n-embd", "8", "--block-size", "4", "--batch-size", "2", "--eval-iters", "1",
    "--max-iters", "1", "--no-use-amp",
]  # fmt: skip


def test_a_bundle_knows_how_to_talk_where_its_data_do(mypt: Mypt, folder: Path) -> None:
    lines = [
        json.dumps({"messages": [*TALK["messages"], {"role": "user", "content": "ab"[: i % 3]}]}) for i in range(9)
    ]
    (folder / "t.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (folder / "t.txt").write_text("<|endoftext|>".join("ab ba" * i for i in range(20)), encoding="utf-8")
    how = ["--val-share", "0.4", "--workers", "1"]
    mypt("prepare", "t.txt", "--out", "plain", "--tokenization", "char", *how)
    mypt("prepare", "t.jsonl", "--chat", "--tokenizer-of", "plain", "--out", "talks", *how)
    fingerprints = {open_shards(f).fingerprint for f in ("plain", "talks")}
    assert len(fingerprints) == 2
    config = {"curriculum": {"phases": [
        {"name": "a", "dataset_dir": "plain", "until_iter": 1}, {"name": "b", "dataset_dir": "talks"},
    ]}}  # fmt: skip
    (folder / "c.json").write_text(json.dumps(config), encoding="utf-8")
    mypt("train", "base", "--dataset-dir", "plain", *MODEL)
    mypt("train", "talker", "--dataset-dir", "talks", *MODEL)
    mypt("train", "phased", "--config-file", "c.json", *MODEL, "--max-iters", "2")
    mypt("train", "tuned", "--dataset-dir", "plain", "--init-from-model", "talker", "--max-iters", "1")
    bundles = {name: folder / "checkpoints" / name for name in ("base", "talker", "phased", "tuned")}
    talks = {name: read_tokenizer(bundle).template for name, bundle in bundles.items()}
    assert talks["base"] is None
    assert talks["talker"] == talks["phased"] == talks["tuned"] == TOKENIZERS[2].file.template


@pytest.mark.parametrize("tokenization", ["gpt2", "char", "bpe"])
@pytest.mark.parametrize("block_size", [4, 23])
def test_a_loader_gives_exactly_the_targets_that_are_learned(
    mypt: Mypt, folder: Path, tokenization: str, block_size: int
) -> None:
    """Through the files: rows of every kind are prepared, and each target of each window is compared."""
    talks = {name: [READ[key] for key in READ if kind(READ[key][0]) == name] for name in sorted(CHAT_FORMATS)}
    for name, found in talks.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row, _ in found), encoding="utf-8")
    how = ["--tokenization", tokenization, "--bpe-vocab-size", "270", "--workers", "1", "--out", "d"]
    files = [f"{name}.jsonl" for name in talks]
    Path("val.jsonl").write_bytes(Path(files[0]).read_bytes())
    mypt("prepare", *files, "--chat", "--val-input", "val.jsonl", *how)
    tokenizer = Tokenizer(read_dataset_tokenizer(folder / "d"))
    end = (tokenizer.file.special_ids["<|endoftext|>"], 0)

    def tokens(*names: ChatFormat) -> list[tuple[int, int]]:
        rows = [messages for name in names for _, messages in talks[name]]
        return [token for messages in rows for token in (*expected(list(messages), tokenizer), end)]

    config = GPTConfig(
        n_layer=1, n_head=1, n_embd=2, block_size=block_size, batch_size=3, vocab_size=tokenizer.vocab_size
    )
    loader = GPTDataLoader(config, tokenizer, dataset_dir=folder / "d")
    plain = GPTDataLoader(config, tokenizer, dataset_dir=folder / "d", options=LoaderOptions(use_loss_mask=False))
    train, seen = tokens(*talks), set()
    for index in range(len(train) // block_size):
        x, y = loader.batch(index)
        for start, inputs, targets in zip(loader.window_starts(index).tolist(), x.tolist(), y.tolist(), strict=True):
            window = train[start : start + block_size + 1]
            assert inputs == [token for token, _ in window[:-1]]
            assert targets == [token if counts else IGNORED for token, counts in window[1:]]
            seen |= {start + 1 + i for i, target in enumerate(targets) if target != IGNORED}
        assert plain.batch(index)[1].tolist() == [
            [token for token, _ in train[s + 1 : s + block_size + 1]] for s in plain.window_starts(index).tolist()
        ]
    every = {i for i, (_, counts) in enumerate(train) if counts}
    assert seen <= every and len(seen) > 0.9 * len(every)
    val, at = tokens(next(iter(talks))), 0
    for _, y in loader.eval_batches("val", 1000):
        for targets in y.tolist():
            assert targets == [t if counts else IGNORED for t, counts in val[at + 1 : at + block_size + 1]]
            at += block_size
    assert at + block_size >= len(val) - 1


@pytest.mark.parametrize("tokenization", ["char", "bpe"])
def test_a_model_without_room_for_the_markers_is_told_early_and_the_advice_works(
    mypt: Mypt, folder: Path, tokenization: str
) -> None:
    talks = [
        {"messages": [{"role": "user", "content": f"q {i}"}, {"role": "assistant", "content": "a"}]} for i in range(30)
    ]
    (folder / "t.jsonl").write_text("".join(json.dumps(talk) + "\n" for talk in talks), encoding="utf-8")
    (folder / "t.txt").write_text("qa 0123456789\n" * 100, encoding="utf-8")
    small = ["--n-layer", "1", "--n-head", "1", "--n-embd", "8", "--block-size", "8", "--batch-size", "2"]
    how = [*small, "--max-iters", "2", "--eval-interval", "2", "--eval-iters", "1"]
    base = ["--input-file", "t.txt", "--tokenization", tokenization, "--bpe-vocab-size", "257", *how]
    prepare = ["prepare", "t.jsonl", "--chat", "--val-share", "0.3", "--workers", "1", "--tokenizer-of"]
    mypt("train", "full", *base)
    told = flat(mypt(*prepare, "full", "--out", "full").stdout)
    size = next(word for word in told.split("--vocab-size ")[1].split(",") if word.isdecimal())
    failed = mypt("train", "a", "--init-from-model", "full", "--dataset-dir", "full", "--max-iters", "2", ok=False)
    assert failed.exit_code == 2 and f"--vocab-size {size}" in flat(failed.stderr)
    mypt("train", "roomy", *base, "--vocab-size", size)
    assert "These shards are for new models" not in flat(mypt(*prepare, "roomy", "--out", "roomy").stdout)
    mypt("train", "b", "--init-from-model", "roomy", "--dataset-dir", "roomy", *how[-6:])
    mypt("generate", "b", "--chat", "--prompt", "q 1", "--max-new-tokens", "3")
