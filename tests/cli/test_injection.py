"""What a record, a log, a dataset or a name says is shown, and is no command, markup or formula to anyone."""

import csv
import json
import re
import shutil
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.console import Console

from mypt.checkpoint.files import read_state, write_json
from mypt.checkpoint.lock import locked
from mypt.cli.console import ShownConsole
from mypt.cli.render.comparison import _as_markdown
from mypt.log.export import _cell
from mypt.visible import visible, visible_json
from tests.conftest import SHORT, Mypt, Once, flat, reseal

HOSTILE = {
    "colour": "a\x1b[31mred",
    "clipboard": "\x1b]52;c;cm0gLXJmIH4=\x07",
    "title": "\x9d0;owned\x9c",
    "C1": "\x9b2J\x90\x84",
    "bell and back": "a\x07\x08\x08b\x7f",
    "return": "safe\rEVIL",
    "turned": "gpj.\u202eexe\u2066x\u2069",
    "hidden": "a\u2060b\U000e0041c\u200f",
    "surrogate": "caf\udce9",
    "separators": "one\u2028two\u2029three",
    "markup": "[red]x[/red] [/nothing] [link=file:///etc/passwd]y[/link]",
    "picture": ":memo: :boom:",
    "template": "{task.description} %s %(x)s {0}",
}


def acting(text: str) -> list[str]:
    """The characters of an output to a pipe that a terminal would act on."""
    return [c for c in text if (unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") and c not in "\n\t") or c in BIDI]


BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


@given(st.text())
@example("".join(HOSTILE.values()))
def test_visible_text_has_nothing_acting_and_other_text_is_as_it_is(text: str) -> None:
    shown = visible(text)
    assert not acting(shown)
    if not acting(text) and "\u2060" <= max(text, default="") < "\u206f":
        return
    if text.isprintable():
        assert shown == text
    assert visible(shown) == shown


@given(st.dictionaries(st.text(), st.text() | st.integers() | st.lists(st.text())))
@example({"a": "".join(HOSTILE.values())})
def test_visible_json_has_the_same_content(content: dict[str, Any]) -> None:
    text = json.dumps(content, ensure_ascii=False, indent=1)
    assert not acting(visible_json(text)) and json.loads(visible_json(text)) == content


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_console_shows_brackets_and_colons_as_they_are(text: str) -> None:
    console = ShownConsole(width=10_000, force_terminal=False)
    with console.capture() as shown:
        console.print(text, soft_wrap=True)
    assert not acting(shown.get())
    if text.isprintable():
        assert shown.get() == f"{text}\n"


def told(bundle: Path, word: str) -> None:
    """Let a bundle's record say a word wherever it can, and its log too."""
    state = read_state(bundle)
    session = state.sessions[0].model_copy(
        update={"command": ("mypt", "train", word), "git_commit": word, "started_at": word}
    )
    assert state.data is not None and state.environment is not None
    source = state.data.sources[0].model_copy(update={"path": f"/nowhere/{word}"})
    record = state.data.model_copy(update={"sources": (source,), "fingerprint": word})
    environment = state.environment.model_copy(update=dict.fromkeys(("mypt", "torch", "device", "processor"), word))
    changed = state.model_copy(
        update={
            "sessions": (session,), "data": record, "preset": word, "config_file": word, "saved_at": word,
            "environment": environment, "name": word.replace("/", "_"), "frozen": (word,), "unrecorded_start": word,
            "eval_sets": {word: record},
        }
    )  # fmt: skip
    write_json(bundle / "training_state.json", changed)
    reseal(bundle, state.step)
    log = Path("logs/train/dante_eval.jsonl")
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    for line in lines:
        line |= {n: word for n in ("timestamp", "phase", "new_phase", "reason", "device", "optimizer") if n in line}
        line |= {f"eval_{word}": 1.0} if line["event"] == "eval" else {}
        line |= {"reason": word} if line["event"] == "gold_blocked" else {}
    log.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


LOOKS = [
    ["inspect"], ["inspect", "dante"], ["inspect", "dante", "--tensors"], ["inspect", "dante", "--json"],
    ["inspect", "--json"], ["verify"], ["verify", "--json"], ["compare", "dante", "other"],
    ["compare", "dante", "other", "--json", "--all"], ["compare", "dante", "other", "--plot"],
    ["logs", "summarize", "dante"], ["logs", "summarize", "dante", "--json"], ["logs", "show", "dante"],
    ["logs", "show", "dante", "--json", "--all"], ["logs", "tail", "dante", "--no-follow"], ["logs", "plot", "dante"],
    ["resume", "dante", "--max-iters", "6"], ["reproduce", "dante"], ["train", "dante", "--input-file", "x"],
    ["export-fp16", "dante"], ["generate", "dante", "--max-new-tokens", "2"],
]  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_no_verb_lets_a_record_or_a_log_act_on_the_terminal(kind: str, mypt: Mypt, once: Once) -> None:
    for name in ("dante", "other"):
        once("train", name, *SHORT)
    told(Path("checkpoints/dante"), HOSTILE[kind])
    for look in LOOKS:
        result = mypt(*look, ok=False)
        said = result.output + result.stderr
        assert not acting(said), (look, acting(said))
        assert "failed unexpectedly" not in said and "Traceback" not in said, (look, said)
        if look[0] in ("inspect", "verify", "compare") and "--json" not in look:
            assert result.exit_code in (0, 1), (look, said)
    if kind == "markup":
        assert "[/nothing]" in flat(mypt("inspect", "dante").output)


@pytest.mark.parametrize("kind", HOSTILE)
def test_no_path_or_name_of_a_call_acts_on_the_terminal(kind: str, mypt: Mypt) -> None:
    word = HOSTILE[kind].replace("/", "_")
    if kind != "surrogate":
        Path(word).write_text(Path("input.txt").read_text(encoding="utf-8"), encoding="utf-8")
    calls = [
        ["train", word, *SHORT], ["train", "m", "--input-file", word, *SHORT[2:]], ["train", "n", "--preset", word],
        ["train", "o", "--config-file", word], ["inspect", word], ["compare", word, word], ["logs", "show", word],
        ["logs", "plot", word], ["generate", word], ["verify", word], ["data", "inspect", word],
        ["prepare", word, "--out", f"{word}_d"], ["inspect", "--out-dir", word], ["train", "p", "--lr", word],
        ["train", "q", "--device", word], ["resume", "m", "--init-from-model", word], ["config", "check", word],
        ["train", "m", "--eval-set", f"{word}={word}"], ["train", "m", "--lr-schedule", word],
        ["logs", "export", "m", "--event", word], ["generate", "m", "--prompt", word, "--max-new-tokens", "1"],
        ["train", "--", "a", word], ["inspect", f"--{word}"],
    ]  # fmt: skip
    for call in calls:
        result = mypt(*call, ok=False)
        said = result.output.replace(word, "") if call[0] == "generate" else result.output
        said += result.stderr
        assert not acting(said), (call, acting(said))
        assert result.exit_code in (0, 1, 2) and "failed unexpectedly" not in said, (call, said)


@pytest.mark.parametrize("kind", ["colour", "clipboard", "turned", "C1", "return", "hidden", "surrogate", "separators"])
def test_a_name_cannot_hold_what_acts(kind: str, mypt: Mypt) -> None:
    assert mypt("train", HOSTILE[kind].replace("/", "_"), *SHORT, ok=False).exit_code == 2
    for option in (["--eval-set", f"{HOSTILE[kind]}=input.txt"],):
        assert mypt("train", "m", *SHORT, *option, ok=False).exit_code == 2


def test_who_holds_a_lock_is_told_without_acting(mypt: Mypt, once: Once, tmp_path: Path) -> None:
    once("train", "dante", *SHORT)
    owner = {"name": HOSTILE["clipboard"], "pid": 3, "host": HOSTILE["colour"], "since": HOSTILE["C1"]}
    Path("checkpoints/.dante.owner.json").write_text(json.dumps(owner), encoding="utf-8")
    for call in (["logs", "summarize", "dante"], ["resume", "dante", "--max-iters", "6"]):
        result = mypt(*call)
        assert not acting(result.output + result.stderr)
    with locked(tmp_path / "x", print):
        pass


def test_generate_shows_control_characters_in_a_terminal_and_passes_them_to_a_pipe(
    mypt: Mypt, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mypt.run import generate

    mypt("train", "dante", *SHORT)
    monkeypatch.setattr(generate, "generate_text", lambda *_: iter(["\x1b[31m", "à\n", "\u202e"]))
    assert mypt("generate", "dante").output.endswith("\x1b[31mà\n\u202e\n")
    from typer import testing

    monkeypatch.setattr(testing._NamedTextIOWrapper, "isatty", lambda _: True, raising=False)
    shown = mypt("generate", "dante").stdout
    assert shown.endswith("\\x1b[31mà\n\\u202e\n"), shown


@pytest.mark.parametrize("word", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "a,b\n=c", 'x"y'])
def test_a_text_in_a_csv_file_is_no_formula(word: str, mypt: Mypt, once: Once) -> None:
    once("train", "dante", *SHORT)
    told(Path("checkpoints/dante"), word)
    shutil.rmtree("checkpoints/dante")
    mypt("logs", "export", "logs/train/dante_eval.jsonl", "--csv", "out.csv")
    with Path("out.csv").open(encoding="utf-8", newline="") as file:
        head, *rows = list(csv.reader(file))
    assert len(rows) == 2 and f"eval_{word}" in head
    for cell in [*head, *(cell for row in rows for cell in row)]:
        assert not cell.startswith(("=", "+", "@", "\t", "\r")) and (cell[:1] != "-" or float(cell) < 0)
    assert _cell(-1.5) == -1.5 and _cell(word if word[0] in "=+-@\t\r" else "=") != word


@given(st.text())
@example("|a|\n# b <script>alert(1)</script> [x](javascript:y) `c` *d* _e_ &lt;")
def test_text_in_markdown_is_neither_markup_nor_a_row(text: str) -> None:
    made = _as_markdown(text)
    assert "\n" not in made and not acting(made)
    assert not re.search(r"(?<!\\)(\\\\)*[`*|<>\[\]#&~]", made)


def test_labels_of_a_picture_are_what_they_are(mypt: Mypt) -> None:
    pytest.importorskip("matplotlib")
    mypt("train", "dante", *SHORT)
    label = "_$\\frac{1}{0}$ <script>alert(1)</script> & \x1b[0m"
    for path in (Path("checkpoints/dante"), Path("logs/train/dante_eval.jsonl")):
        path.rename(path.with_name(path.name.replace("dante", "_$x_1$ &")))
    for end in ("html", "svg", "png"):
        mypt("logs", "plot", "logs/train/_$x_1$ &_eval.jsonl", "--out", f"out.{end}")
    page = Path("out.html").read_text(encoding="utf-8")
    assert "<title>_$x_1$ &amp;" in page
    from mypt.cli.draw.picture import _plain

    assert _plain(label).startswith(" _\\$") and "\x1b" not in _plain(label)


def test_an_error_console_is_a_shown_console() -> None:
    from mypt.cli import console

    assert isinstance(console.error_console(), ShownConsole) and issubclass(ShownConsole, Console)
