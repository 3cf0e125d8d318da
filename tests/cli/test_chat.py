"""`mypt chat`: in a pseudo-terminal, with a model whose tokens are written down, and from a pipe."""

import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mypt import GPT, CheckpointManager, GPTConfig, Tokenizer
from mypt.schema.files.state import TrainingState
from mypt.schema.settings.training import TrainingConfig
from tests.conftest import Mypt, flat

LETTERS = "".join(map(chr, range(32, 127))) + "\n"
CHILD = """
import fcntl, signal, sys, termios
import torch
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
script = iter(sys.argv.pop(1))
from mypt.data.tokenizer import Tokenizer
from mypt.model.network import Network
from mypt.checkpoint.files import read_tokenizer
from pathlib import Path
tokenizer = Tokenizer(read_tokenizer(Path("checkpoints/dante")))
ends = {"$": "<|end|>", "@": "<|user|>", "#": "<|endoftext|>"}
def next_logits(self, tokens, cache=None):
    sign = next(script)
    while sign == "^":
        signal.raise_signal(signal.SIGINT)
        sign = next(script)
    token = tokenizer.file.special_ids[ends[sign]] if sign in ends else int(tokenizer.encode(sign)[0])
    return 1000.0 * torch.nn.functional.one_hot(torch.tensor([token]), self.config.vocab_size)
Network.next_logits = next_logits
from mypt.cli.app import main
main()
"""
"""A model that says what the first word of the call says: `$` ends an answer, and `^` is Ctrl-C while it is given."""


def save(tokenizer: Tokenizer) -> None:
    """A bundle with weights of no meaning."""
    config = GPTConfig(n_embd=8, n_head=1, n_layer=1, block_size=64, vocab_size=tokenizer.vocab_size, device="cpu")
    CheckpointManager("dante").save(GPT(config), tokenizer, TrainingState(step=0, training_config=TrainingConfig()))


def save_a_talker(letters: str = LETTERS) -> None:
    """A bundle with a chat template."""
    save(Tokenizer(Tokenizer.char(letters).file.with_special().with_template()))


class Terminal:
    """`mypt chat` in a pseudo-terminal."""

    def __init__(self, script: str, *options: str) -> None:
        self.greeting = ""
        self.master, slave = os.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", CHILD, script, "chat", "dante", *options],
            stdin=slave, stdout=slave, stderr=slave, start_new_session=True, env={**os.environ, "TERM": "xterm"},
        )  # fmt: skip
        os.close(slave)

    def until(self, end: str) -> str:
        """What is shown up to a text that it ends in."""
        shown = b""
        while not shown.decode("utf-8", "ignore").endswith(end):
            assert select.select([self.master], [], [], 60)[0], shown
            try:
                shown += os.read(self.master, 1)
            except OSError:  # the other side is closed
                break
        return shown.decode("utf-8").replace("\r\n", "\n").replace("\x1b[?2004h", "").replace("\x1b[?2004l\r", "")

    def says(self, keys: str, end: str = "\n> ") -> str:
        """What is shown after some keys, without their echo."""
        self.press(keys)
        return self.until(end)

    def press(self, keys: str) -> None:
        """Press keys once the program waits for them: Python hears a signal while it waits, or with the next key."""
        while Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(") ")[2][0] != "S":
            os.sched_yield()
        os.write(self.master, keys.encode("utf-8"))

    def left(self) -> int:
        """The exit code, once the program has ended."""
        self.until("never shown")
        return self.process.wait(60)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)


@pytest.fixture
def talk(folder: Path) -> Iterator[type[Terminal]]:
    assert folder == Path.cwd()
    save_a_talker()
    opened: list[Terminal] = []

    class Closing(Terminal):
        def __init__(self, script: str, *options: str) -> None:
            super().__init__(script, *options)
            opened.append(self)
            self.greeting = self.until("> ")

    yield Closing
    for terminal in opened:
        terminal.close()


in_a_terminal = pytest.mark.skipif(sys.platform != "linux", reason="looks in /proc whether the program waits")


@in_a_terminal
def test_an_answer_streams_and_ends_at_the_end_of_the_turn(talk: type[Terminal]) -> None:
    terminal = talk("seven$eight@nine#ten$")
    assert "/help" in terminal.greeting
    assert terminal.says("3 plus 4?\n").endswith("\nseven\n> ")
    assert terminal.says("and 1?\n").endswith("\neight\n> ")  # a turn of the user ends an answer as well
    assert terminal.says("and 1?\n").endswith("\nnine\n> ")
    assert terminal.says("/help\n").count("/save") == 1
    assert terminal.says("/nonsense\n").count("There is no command /nonsense.") == 1
    assert terminal.says("\n").endswith("> ")
    assert "Next:" in terminal.says("/quit\n", "  mypt export dante\n")
    assert terminal.left() == 0


@in_a_terminal
def test_ctrl_c_stops_an_answer_and_not_the_program(talk: type[Terminal]) -> None:
    terminal = talk("abc^def$second$")
    assert terminal.says("one\n").endswith("\nabcd\n> ")
    assert "Saved" in terminal.says("/save talk.jsonl\n")
    (line,) = Path("talk.jsonl").read_text(encoding="utf-8").splitlines()
    assert [m["content"] for m in json.loads(line)["messages"]] == ["one", "abcd"]
    assert terminal.process.poll() is None


@in_a_terminal
def test_ctrl_c_twice_in_an_answer_ends_the_program(talk: type[Terminal]) -> None:
    terminal = talk("ab^^c")
    assert "Interrupted by SIGINT" in terminal.says("one\n", "SIGINT.")
    assert terminal.left() == 130


@in_a_terminal
@pytest.mark.parametrize("key", ["\x03", "\x04"])
def test_ctrl_c_and_ctrl_d_leave_at_an_empty_prompt(key: str, talk: type[Terminal]) -> None:
    terminal = talk("a$")
    if key == "\x03":  # of a line that is begun, Ctrl-C leaves the line alone
        assert terminal.says("half", "half") and terminal.says(key).endswith("\n> ")
    terminal.press(key)
    assert terminal.left() == 0


@in_a_terminal
def test_reset_save_and_the_system_message(talk: type[Terminal], mypt: Mypt) -> None:
    terminal = talk("one$two$three$", "--system", "Be short.")
    terminal.says("a\n")
    assert "A new conversation" in terminal.says("/reset\n")
    terminal.says("b\n")
    terminal.says("c\n")
    terminal.says("/save talk.jsonl\n")
    content = Path("talk.jsonl").read_bytes()
    roles = [(m["role"], m["content"]) for m in json.loads(content)["messages"]]
    assert roles == [
        ("system", "Be short."),
        ("user", "b"),
        ("assistant", "two"),
        ("user", "c"),
        ("assistant", "three"),
    ]
    Path("talk.jsonl").write_text("kept")
    for answer in ("n", "", "\x03"):
        terminal.says("/save talk.jsonl\n", "[y/N] ")
        assert "Nothing is saved" in terminal.says(answer if answer == "\x03" else f"{answer}\n")
        assert Path("talk.jsonl").read_text() == "kept"
    terminal.says("/save talk.jsonl\n", "[y/N] ")
    assert "Saved" in terminal.says("y\n") and Path("talk.jsonl").read_bytes() == content
    assert "cannot be written" in terminal.says("/save no/folder/x\n")
    assert "needs the name" in terminal.says("/save\n")
    Path("talks").mkdir()
    for name in ("talks", "/dev/null"):  # nothing but a file is ever replaced
        assert f"{name} is a folder or a device" in terminal.says(f"/save {name}\n")
    others = (content.replace(b"Be", str(n).encode()) for n in range(60))
    Path("many.jsonl").write_bytes(content + b"".join(others))
    mypt("prepare", "many.jsonl", "--chat", "--out", "d", "--tokenization", "char", "--workers", "1")


@in_a_terminal
def test_lines_are_edited_and_come_back(talk: type[Terminal]) -> None:
    terminal = talk("a$b$")
    terminal.says("helo\x1b[D\x7flo\n")  # left, rubbed out: he|o -> helo with the cursor before the last letter
    terminal.says("\x1b[A!\n")  # the line before, and one letter more
    terminal.says("/save talk.jsonl\n")
    messages = json.loads(Path("talk.jsonl").read_text(encoding="utf-8"))["messages"]
    assert [m["content"] for m in messages if m["role"] == "user"] == ["heloo", "heloo!"]


@in_a_terminal
def test_what_the_model_says_does_not_act_on_the_terminal(talk: type[Terminal]) -> None:
    save_a_talker(LETTERS + "\x1b")
    assert "\\x1b[31m" in talk("\x1b[31m$").says("a\n")


@in_a_terminal
def test_the_oldest_exchanges_are_left_out_which_is_said_once(talk: type[Terminal]) -> None:
    terminal = talk("first$second$third$fourth$", "--system", "S")
    shown = [terminal.says(f"{letter * 9}\n") for letter in "abcd"]
    assert ["left out" in one for one in shown] == [False, False, True, False]
    refused = terminal.says("x" * 60 + "\n")
    assert "The message takes" in flat(refused) and "fourth" in shown[3]
    assert "A new" in terminal.says("/reset\n") and terminal.process.poll() is None


def test_each_line_of_a_pipe_is_a_message(mypt: Mypt) -> None:
    save_a_talker()
    call = ["chat", "dante", "--max-new-tokens", "5", "--seed", "3"]
    result = mypt(*call, stdin="hello\n\n/reset\n")
    first, second = result.stdout.split("\n", 1)[0], result.stdout
    assert "not trained on the answers" in flat(result.stderr)
    assert mypt(*call, stdin="hello\n").stdout.rstrip("\n") in second and len(first) <= 60
    alone = mypt("generate", "dante", "--chat", "--prompt", "hello", "--max-new-tokens", "5", "--seed", "3").stdout
    assert alone == mypt(*call, stdin="hello\n").stdout
    samples = mypt("generate", "dante", "--chat", "--prompt", "hello", "--num-samples", "2", "--seed", "3").stdout
    assert len(samples.split("\0")) == 3


@pytest.mark.parametrize("verb", [["chat", "dante"], ["generate", "dante", "--chat", "--prompt", "a"]])
def test_what_cannot_be_answered_is_told(verb: list[str], mypt: Mypt) -> None:
    plain = Tokenizer.char(LETTERS)
    config = GPTConfig(n_embd=8, n_head=1, n_layer=1, block_size=64, vocab_size=plain.vocab_size, device="cpu")
    CheckpointManager("dante").save(GPT(config), plain, TrainingState(step=0, training_config=TrainingConfig()))
    result = mypt(*verb, ok=False, stdin="a\n")
    assert (
        result.exit_code == 2 and "no chat template" in flat(result.stderr) and "prepare --chat" in flat(result.stderr)
    )
    save_a_talker()
    for message in ("x" * 64, "Ж"):
        result = mypt(*verb[:-1], message, ok=False) if verb[0] == "generate" else mypt(*verb, ok=False, stdin=message)
        assert result.exit_code == 2 and not result.stdout.strip()


@pytest.mark.parametrize("verb", [["chat", "dante"], ["generate", "dante", "--chat", "--prompt", "a"]])
@pytest.mark.parametrize(
    ("system", "told"),
    [("s" * 60, "The system message takes 65 tokens"), ("Ж", "The system message cannot be written: The vocabulary")],
)
def test_a_system_message_that_no_message_fits_beside_is_told_as_such(
    verb: list[str], system: str, told: str, mypt: Mypt
) -> None:
    save_a_talker()
    result = mypt(*verb, "--system", system, ok=False, stdin="")
    assert result.exit_code == 2 and told in flat(result.stderr) and "Give a shorter message" not in result.stderr
    mypt(*verb, "--system", "s" * 44, "--max-new-tokens", "2", stdin="")
