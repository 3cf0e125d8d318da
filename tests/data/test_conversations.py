"""Conversations as others write them: each kind is read whole, what cannot be kept is refused, the rest is listed."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mypt.data.chat import Call, Message
from mypt.data.prepare.conversations import EXAMPLES, kind_of, read_conversation
from mypt.data.shards import open_shards
from mypt.schema.settings.prepare import ChatFormat
from tests.conftest import Mypt, flat

KINDS: tuple[ChatFormat, ...] = get_args(ChatFormat)
CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at": "sky"}'}}
LOOK = Call("look", '{"at": "sky"}')
ASKED, SAID, UNLEARNED = Message("user", "q"), Message("assistant", "a"), Message("assistant", "a", learned=False)
SYSTEM, CALLING, NO = Message("system", "s"), Message("assistant", "", (LOOK,)), Message("assistant", "no")
TEXT = {"type": "text", "text": "q", "image": None}
Q, A = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}


def talk(*messages: Mapping[str, Any], **fields: Any) -> dict[str, Any]:
    return {"messages": list(messages), **fields}


def gpt(*turns: tuple[str, str], **fields: Any) -> dict[str, Any]:
    return {"conversations": [{"from": who, "value": text} for who, text in turns], **fields}


def answer(**fields: Any) -> dict[str, Any]:
    return {"role": "assistant", **fields}


READ: dict[str, tuple[dict[str, Any], tuple[Message, ...]]] = {
    "messages": (talk(Q, A), (ASKED, SAID)),
    "developer": (talk({"role": "developer", "content": "s"}, Q), (SYSTEM, ASKED)),
    "tool": (talk(Q, {"role": "tool", "content": "r", "tool_call_id": "c1"}), (ASKED, Message("tool", "r"))),
    "function": (talk(Q, {"role": "function", "name": "f", "content": "r"}), (ASKED, Message("tool", "r"))),
    "parts": (
        talk({"role": "user", "content": [TEXT, TEXT]}),
        (Message("user", "qq"),),
    ),
    "calls": (talk(Q, answer(content=None, tool_calls=[CALL])), (ASKED, CALLING)),
    "calls with text": (talk(Q, answer(content="a", tool_calls=[CALL])), (ASKED, Message("assistant", "a", (LOOK,)))),
    "calls as objects": (
        talk(Q, answer(content="", tool_calls=[{"name": "look", "arguments": {"at": "sky"}}])),
        (ASKED, CALLING),
    ),
    "calls as text": (talk(Q, answer(content="", tool_calls=json.dumps([CALL]))), (ASKED, CALLING)),
    "function_call": (
        talk(Q, answer(content=None, function_call={"name": "look", "arguments": '{"at": "sky"}'})),
        (ASKED, CALLING),
    ),
    "refusal": (talk(Q, answer(content=None, refusal="no")), (ASKED, NO)),
    "refusal part": (talk(Q, answer(content=[{"type": "refusal", "refusal": "no"}])), (ASKED, NO)),
    "weight 0": (talk(Q, answer(content="a", weight=0)), (ASKED, UNLEARNED)),
    "weight 1": (talk(Q, answer(content="a", weight=1)), (ASKED, SAID)),
    "not to train": (talk(Q, answer(content="a", train=False)), (ASKED, UNLEARNED)),
    "not trainable": (talk(Q, answer(content="a", trainable=False)), (ASKED, UNLEARNED)),
    "no training": (talk(Q, answer(content="a", training=False)), (ASKED, UNLEARNED)),
    "a row without weight": (
        talk(Q, A, weight=0),
        (Message("user", "q", learned=False), UNLEARNED),
    ),
    "tools": (talk(Q, A, tools=[{"name": "look"}]), (Message("tools", '[{"name": "look"}]'), ASKED, SAID)),
    "weight of text": (talk(Q, answer(content="a", weight="0")), (ASKED, UNLEARNED)),
    "true of text": (talk(Q, answer(content="a", train="True"), weight=""), (ASKED, SAID)),
    "messages as text": ({"messages": json.dumps([Q, A])}, (ASKED, SAID)),
    "turns as text": ({"conversations": json.dumps(gpt(("human", "q"), ("gpt", "a"))["conversations"])}, (ASKED, SAID)),
    "turns of both kinds in a table": (talk({**Q, "from": None}, {**A, "from": None}), (ASKED, SAID)),
    "calls with parameters": (
        talk(Q, answer(content="", tool_calls=[{"name": "look", "parameters": {"at": "sky"}}])),
        (ASKED, CALLING),
    ),
    "no tools as text": (talk(Q, A, tools="[]", functions=""), (ASKED, SAID)),
    "tools as text": (talk(Q, A, tools='[{"name":"look"}]'), (Message("tools", '[{"name":"look"}]'), ASKED, SAID)),
    "functions": (talk(Q, A, functions=[{"name": "f"}]), (Message("tools", '[{"name": "f"}]'), ASKED, SAID)),
    "no tools": (talk(Q, A, tools=[], functions=None), (ASKED, SAID)),
    "other name of the list": ({"conversations": [Q, A]}, (ASKED, SAID)),
    "sharegpt": (gpt(("human", "q"), ("gpt", "a")), (ASKED, SAID)),
    "sharegpt with a system": (gpt(("system", "s"), ("user", "q"), ("assistant", "a")), (SYSTEM, ASKED, SAID)),
    "sharegpt, system beside it": (gpt(("human", "q"), ("bing", "a"), system="s"), (SYSTEM, ASKED, SAID)),
    "sharegpt with tools": (
        gpt(("human", "q"), ("function_call", '{"name": "look", "arguments": {"at": "sky"}}'), ("observation", "r"),
            ("gpt", "a"), tools='[{"name": "look"}]'),
        (Message("tools", '[{"name": "look"}]'), ASKED, CALLING, Message("tool", "r"), SAID),
    ),
    "sharegpt with weights": (
        {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a", "weight": 0}]},
        (ASKED, UNLEARNED),
    ),
    "alpaca": ({"instruction": "q", "input": "", "output": "a"}, (ASKED, SAID)),
    "alpaca with an input alone": ({"instruction": "", "input": "q", "output": "a"}, (ASKED, SAID)),
    "alpaca with input": ({"instruction": "q", "input": "i", "output": "a"}, (Message("user", "q\n\ni"), SAID)),
    "alpaca with history": (
        {"instruction": "q", "output": "a", "history": [["p", "b"]], "system": "s"},
        (SYSTEM, Message("user", "p"), Message("assistant", "b"), ASKED, SAID),
    ),
    "dolly": ({"instruction": "q", "context": "i", "response": "a"}, (Message("user", "q\n\ni"), SAID)),
    "prompt and completion": ({"prompt": "q", "completion": "a"}, (ASKED, SAID)),
    "prompt and response": ({"prompt": "q", "response": "a"}, (ASKED, SAID)),
    "question and answer": ({"question": "q", "answer": "a"}, (ASKED, SAID)),
    "system_prompt": ({"system_prompt": "s", "question": "q", "response": "a"}, (SYSTEM, ASKED, SAID)),
    "prompt of messages": ({"prompt": [Q], "completion": [A]}, (ASKED, SAID)),
    "prompt of messages, completion of text": ({"prompt": [Q], "completion": "a"}, (ASKED, SAID)),
    "prompt with an answer": ({"prompt": [Q, A, Q], "completion": [A]}, (ASKED, UNLEARNED, ASKED, SAID)),
    "prompt that looks like messages": (
        {"prompt": '[{"a": 1}]', "completion": "a"},
        (Message("user", '[{"a": 1}]'), SAID),
    ),
    "wanted": ({"prompt": "q", "completion": "a", "label": True}, (ASKED, SAID)),
}  # fmt: skip


def kind(row: Mapping[str, Any]) -> ChatFormat:
    found = kind_of(row)
    assert found is not None
    return found


@pytest.mark.parametrize("name", READ)
def test_every_kind_of_row_is_read_whole(name: str) -> None:
    row, expected = READ[name]
    assert read_conversation(row, kind(row)).messages == expected
    empty = {"id": None, **row, "source": None}  # as a table has it
    assert read_conversation(empty, kind(empty)).messages == expected
    beside = {**row, "id": 7, "dataset": "x"}
    found = read_conversation(beside, kind(beside))
    assert found.messages == expected
    assert found.left_out - read_conversation(row, kind(row)).left_out == Counter(id=1, dataset=1)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_example_of_a_kind_is_of_this_kind(name: ChatFormat) -> None:
    row = json.loads(EXAMPLES[name])
    assert kind_of(row) == name
    assert [m.role for m in read_conversation(row, name).messages] == ["user", "assistant"]


@pytest.mark.parametrize("own", EXAMPLES)
@pytest.mark.parametrize("other", EXAMPLES)
def test_a_row_of_another_kind_is_refused_by_name(own: ChatFormat, other: ChatFormat) -> None:
    row = json.loads(EXAMPLES[own])
    if own == other:
        assert read_conversation(row, other).left_out == Counter()
        return
    with pytest.raises(ValueError, match=f"kind {own}, and the file is read as {other}"):
        read_conversation(row, other)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "image part": (talk({"role": "user", "content": [{"type": "image_url", "image_url": {}}]}), "'image_url'"),
    "audio part": (talk({"role": "user", "content": [{"type": "input_audio"}]}), "'input_audio'"),
    "image beside": (talk(Q, A, images=["a.png"]), "it has images, and only text"),
    "part of a type that is a list": (talk({"role": "user", "content": [{"type": ["text"]}]}), "part of the type"),
    "part without a type": (talk({"role": "user", "content": [{"text": "q"}]}), "type None"),
    "part that is a number": (talk({"role": "user", "content": [3]}), "a part of message 1 is no object"),
    "content that is an object": (talk({"role": "user", "content": {"a": 1}}), "in a field 'content', but an object"),
    "content that is a number": (talk({"role": "user", "content": 3}), "'content', but a number"),
    "no content": (talk(Q, {"role": "assistant"}), "message 2 has no text in a field 'content'"),
    "null content": (talk({"role": "user", "content": None}), "message 1 has no text in a field 'content'"),
    "a wrong role": (talk(Q, {"role": "bot", "content": "a"}), "message 2 has the role 'bot'"),
    "no role": (talk({"content": "a"}), "message 1 has the role None"),
    "half a weight": (talk(Q, answer(content="a", weight=0.5)), "message 2 has the weight 0.5, which is not 0 or 1"),
    "a weight of text": (talk(Q, answer(content="a", train="no")), 'message 2 has the train "no"'),
    "a weight of the row": (talk(Q, A, weight=2), "it has the weight 2"),
    "a call of a user": (talk({"role": "user", "content": "q", "tool_calls": [CALL]}), "message 1 calls a tool"),
    "a custom call": (talk(Q, answer(tool_calls=[{"type": "custom", "custom": {}}])), "a call of the type 'custom'"),
    "a call without a name": (talk(Q, answer(tool_calls=[{"function": {}}])), "names no function"),
    "calls that are no list": (talk(Q, answer(tool_calls={"a": 1})), "no list in tool_calls"),
    "calls that are no JSON": (talk(Q, answer(tool_calls="[look")), "that is not JSON"),
    "function_call that is text": (talk(Q, answer(content="", function_call="auto")), "of message 2 is no"),
    "no messages": (talk(), "no list of messages in a field 'messages'"),
    "a message that is text": (talk(*["hi"]), "message 1 is no object"),  # type: ignore[arg-type]
    "half a character": (talk({"role": "user", "content": "\ud800"}), "surrogates not allowed"),
    "half a character of a call": (talk(Q, answer(tool_calls=[{"name": "\ud800", "arguments": {}}])), "surrogates"),
    "half of one in arguments": (talk(Q, answer(function_call={"name": "f", "arguments": "\ud800"})), "surrogates"),
    "no turns": ({"conversations": []}, "no list of messages in a field 'conversations'"),
    "a wrong speaker": (gpt(("human", "q"), ("narrator", "a")), "message 2 has a field 'from' of 'narrator'"),
    "no value": ({"conversations": [{"from": "human"}]}, "message 1 has no text in a field 'value'"),
    "a value that is a list": ({"conversations": [{"from": "human", "value": ["q"]}]}, "'value', but a list"),
    "a function_call that is no JSON": (gpt(("function_call", "look")), "function_call that is not JSON"),
    "an instruction that is a list": ({"instruction": ["q"], "output": "a"}, "'instruction', but a list"),
    "history of texts": ({"instruction": "q", "output": "a", "history": ["p"]}, "no list of pairs"),
    "completion that is a number": ({"prompt": "q", "completion": 3}, "'completion', but a number"),
    "a prompt without messages": ({"prompt": [], "completion": "a"}, "no list of messages in a field 'prompt'"),
    "preferences beside messages": (talk(Q, A, chosen=[Q, A], rejected=[Q, A]), "it has chosen and rejected"),
    "preferences beside a completion": ({"prompt": "q", "completion": "a", "rejected": "b"}, "it has rejected"),
    "an answer that is not wanted": ({"prompt": "q", "completion": "a", "label": False}, "it has the label false"),
    "system that is a list": (gpt(("human", "q"), system=["s"]), "'system', but a list"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_kept_is_refused_by_name(name: str) -> None:
    row, fault = REFUSED[name]
    with pytest.raises(ValueError, match=fault):
        read_conversation(row, kind(row))


def test_what_tokens_do_not_say_is_counted() -> None:
    row = talk(
        {**Q, "name": "Ann", "weight": 1, "id": 1},
        answer(content=[{"type": "text", "text": "a", "annotations": []}], reasoning_content="hm", tool_calls=[CALL]),
        id="x", source="web", parallel_tool_calls=True,
    )  # fmt: skip
    assert read_conversation(row, "messages").left_out == Counter(
        {"name": 1, "weight of user": 1, "id": 2, "content.annotations": 1, "reasoning_content": 1, "tool_calls.id": 1,
         "source": 1, "parallel_tool_calls": 1}
    )  # fmt: skip


SCALARS = st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from(["q", "", "user", "gpt", "text"])
NAMES = st.sampled_from(
    ["messages", "conversations", "role", "content", "from", "value", "type", "text", "tool_calls", "function", "name",
     "arguments", "weight", "prompt", "completion", "instruction", "output", "tools", "system", "refusal", "history"]
)  # fmt: skip
VALUES = st.recursive(SCALARS, lambda v: st.lists(v, max_size=3) | st.dictionaries(NAMES, v, max_size=4), max_leaves=12)


@given(row=st.dictionaries(NAMES, VALUES, max_size=5))
def test_any_row_is_read_or_refused_in_words(row: dict[str, Any]) -> None:
    for name in KINDS:
        try:
            found = read_conversation(row, name)
        except ValueError as error:
            assert len(str(error)) > 10
            continue
        assert found.messages and all(isinstance(text, str) for m in found.messages for text in m.texts)


HOW = ["--chat", "--workers", "1", "--val-share", "0.4"]


def rows(count: int, make: Any) -> list[dict[str, Any]]:
    return [make(f"question {i}", f"answer {i}") for i in range(count)]


MAKERS: dict[ChatFormat, Any] = {
    "messages": lambda q, a: {
        "messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}],
        "id": 1,
    },
    "sharegpt": lambda q, a: {"conversations": [{"from": "human", "value": q}, {"from": "gpt", "value": a}], "id": 1},
    "alpaca": lambda q, a: {"instruction": q, "input": "", "output": a, "id": 1},
    "prompt-completion": lambda q, a: {"prompt": q, "completion": a, "id": 1},
}


def shards_of(out: str) -> list[bytes]:
    return [p.read_bytes() for p in sorted(Path(out).rglob("*.bin"))]


@pytest.mark.parametrize("form", ["jsonl", "json", "parquet"])
def test_all_kinds_and_forms_make_the_same_dataset(mypt: Mypt, folder: Path, form: str) -> None:
    found = []
    for name, make in MAKERS.items():
        file = folder / f"{name}.{form}"
        if form == "json":
            file.write_text(json.dumps(rows(30, make)), encoding="utf-8")
        elif form == "jsonl":
            file.write_text("".join(json.dumps(row) + "\n" for row in rows(30, make)), encoding="utf-8")
        else:
            arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
            parquet.write_table(arrow.Table.from_pylist(rows(30, make)), file)
        told = flat(mypt("prepare", file.name, "--out", name, *HOW).stdout)
        assert f"Conversations of the kind {name}: {file}." in told
        assert "Left out of conversations: id (30)." in told
        found.append(shards_of(name))
    assert found[0] and all(shards == found[0] for shards in found)


def test_a_kind_can_be_forced_and_a_row_of_another_is_named(mypt: Mypt, folder: Path) -> None:
    mixed = [MAKERS["messages"]("q", "a"), MAKERS["alpaca"]("q", "a")]
    (folder / "m.jsonl").write_text("\n".join(map(json.dumps, mixed)), encoding="utf-8")
    failed = mypt("prepare", "m.jsonl", "--out", "d", *HOW, ok=False)
    assert failed.exit_code == 2 and "m.jsonl, line 2: this is a conversation of the kind alpaca" in flat(failed.stderr)
    failed = mypt("prepare", "m.jsonl", "--out", "d", *HOW, "--chat-format", "alpaca", ok=False)
    assert failed.exit_code == 2 and "m.jsonl, line 1: this is a conversation of the kind messages" in flat(
        failed.stderr
    )
    failed = mypt("prepare", "m.jsonl", "--out", "d", "--chat-format", "alpaca", ok=False)
    assert failed.exit_code == 2 and "give chat too" in failed.stderr
    (folder / "p.jsonl").write_text('{"prompt": "q", "chosen": "a", "rejected": "b"}\n', encoding="utf-8")
    failed = mypt("prepare", "p.jsonl", "--out", "d", *HOW, ok=False)
    assert failed.exit_code == 2 and "has chosen and rejected, and preferences cannot be learned" in flat(failed.stderr)
    (folder / "n.jsonl").write_text('{"id": 1, "body": "b"}\n', encoding="utf-8")
    failed = mypt("prepare", "n.jsonl", "--out", "d", *HOW, ok=False)
    assert failed.exit_code == 2 and "its fields are 'id', 'body'" in flat(failed.stderr)


def test_what_teaches_nothing_and_what_is_long_is_told(mypt: Mypt, folder: Path) -> None:
    talks = [*rows(20, MAKERS["messages"]), talk(Q), talk(Q, answer(content="a", weight=0)), talk(Q, A, Q, A, Q, A, Q)]
    (folder / "t.jsonl").write_text("".join(json.dumps(t) + "\n" for t in talks), encoding="utf-8")
    told = flat(mypt("prepare", "t.jsonl", "--out", "d", *HOW).stdout)
    assert "2 conversations are without a token that counts in the loss; the first is" in told
    assert "The longest conversation has 21 tokens" in told and "longer than the model" not in told
    splits = open_shards("d").metadata
    assert splits is not None
    for split in (splits.train, splits.val):
        for shard in split.shards:
            mask = np.fromfile(folder / "d" / shard.file.replace(".bin", "_mask.bin"), np.uint8)
            ids = np.fromfile(folder / "d" / shard.file, np.uint16)
            ends = np.flatnonzero(ids == 50256) + 1
            assert shard.counted == int(mask.sum()) > 0
            assert shard.longest == int(np.diff([0, *ends]).max()) - 1
    silent = [talk({"role": "user", "content": f"q{i}"}) for i in range(20)]
    (folder / "s.jsonl").write_text("".join(json.dumps(t) + "\n" for t in silent), encoding="utf-8")
    told = flat(mypt("prepare", "s.jsonl", "--out", "s", *HOW).stdout)
    for name in ("train", "val"):
        assert f"No token of the {name} split counts in the loss" in told


@pytest.mark.parametrize("place", ["arguments", "tools", "content"])
def test_a_row_that_is_nested_too_deeply_is_named_and_can_be_left_out(mypt: Mypt, folder: Path, place: str) -> None:
    deep = "[" * 100_000
    bad = {
        "arguments": talk(Q, answer(content=None, tool_calls=[{"name": "f", "arguments": deep}])),
        "tools": talk(Q, A, tools=deep),
        "content": talk(Q, answer(content=None, tool_calls=deep)),
    }[place]
    (folder / "t.jsonl").write_text("".join(json.dumps(t) + "\n" for t in [*rows(9, MAKERS["messages"]), bad]))
    failed = mypt("prepare", "t.jsonl", "--out", "d", *HOW, ok=False)
    assert failed.exit_code == 2 and "t.jsonl, line 10: " in flat(failed.stderr)
    assert "1 row was left out" in flat(mypt("prepare", "t.jsonl", "--out", "d", *HOW, "--skip-bad-rows").stdout)


def test_what_is_told_of_rows_is_short_whatever_they_hold(mypt: Mypt, folder: Path) -> None:
    many = [{**row, f"k{i}": 1} for i, row in enumerate(rows(30, MAKERS["messages"]))]
    bad = talk({"role": "x" * 100_000, "content": "q"})
    (folder / "t.jsonl").write_text("".join(json.dumps(t) + "\n" for t in [*many, bad]))
    told = mypt("prepare", "t.jsonl", "--out", "d", *HOW, "--skip-bad-rows", "--val-share", "0").stdout
    assert "and 11 more fields." in flat(told) and "has the role 'xxx" in flat(told) and len(told) < 3000
    assert "No token of the val split" not in flat(told)
