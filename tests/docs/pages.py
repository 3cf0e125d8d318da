"""What the pages hold: blocks of code, the commands in them, and how a command of a page is run in a moment."""

import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.main import get_command

from mypt.checkpoint.files import read_state
from mypt.cli.app import app
from tests.conftest import Mypt

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
SHELL = ("bash", "sh", "console")
TOP = get_command(app).commands  # type: ignore[attr-defined]
COMMANDS = {name: command for name, command in TOP.items() if not hasattr(command, "commands")} | {
    f"{group} {name}": command
    for group, commands in TOP.items()
    for name, command in getattr(commands, "commands", {}).items()
}
"""Every verb; those of a group, such as `data inspect`, with both words."""


@dataclass(frozen=True)
class Block:
    """What stands between two fences of a page."""

    page: str
    language: str
    text: str


def blocks(page: Path) -> list[Block]:
    found = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)
    return [Block(page.name, language, text) for language, text in found]


def lines(block: Block) -> list[Block]:
    """The commands of a block for a shell, each in one line, without what is said about it."""
    joined = block.text.replace("\\\n", " ").splitlines()
    stripped = (re.sub(r"\s+# .*", "", line.removeprefix("$ ")).strip() for line in joined)
    return [replace(block, text=re.sub(r" +", " ", line)) for line in stripped if line]


def pipeline(line: str) -> tuple[list[list[str]], str | None]:
    """The words of each program of a line, and the file that the last one's output goes to."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|>")
    lexer.whitespace_split, lexer.commenters = True, ""
    programs: list[list[str]] = [[]]
    words = list(lexer)
    target = words[-1] if ">" in words else None
    for word in words[: words.index(">")] if target else words:
        if word == "|":
            programs.append([])
        else:
            programs[-1].append(word)
    return programs, target


def mypt_words(program: list[str]) -> list[str] | None:
    """The words after `mypt`, also where torchrun starts it; None where it is another program."""
    if "torchrun" in program[:1] and "mypt" in program:
        return program[program.index("mypt") + 1 :]
    return program[1:] if program[:1] == ["mypt"] else None


def parameters_of(verb: str) -> list[Any]:
    """Its arguments and options, those of the schema's settings among them; all but `--help`."""
    parameters: list[Any] = COMMANDS[verb].get_params(typer.Context(COMMANDS[verb]))
    return parameters[:-1]


def verb_of(words: list[str]) -> str:
    return " ".join(words[:2]) if words[0] in TOP and words[0] not in COMMANDS else words[0]


def parse(words: list[str]) -> None:
    """Let the command line itself read a call, without doing what it says."""
    command: Any = COMMANDS[verb := verb_of(words)]
    command.make_context(verb, words[len(verb.split()) :], parent=typer.Context(get_command(app)))


STEPS = {"--max-iters": "4", "--eval-interval": "2", "--eval-iters": "2"}
SIZES = {"--n-layer": "1", "--n-head": "2", "--n-embd": "16", "--block-size": "32", "--batch-size": "4"}


def lighter(words: list[str], as_given: bool) -> list[str]:
    """The same call on a model that trains in milliseconds a step, and for a few steps.

    What the page says of a size stands. The number of steps, of tokens written and of steps reproduced does only if it
    is to be `as_given`.
    """
    verb, given = verb_of(words), {word.partition("=")[0] for word in words}
    more: dict[str, str] = {}
    if verb == "train":
        new = not given & {"--init-from-model", "--dataset-dir", "--preset"}
        sizes = SIZES if "--init-from-model" not in given else {"--batch-size": "4", "--block-size": "32"}
        if "--preset" in given:  # the smallest has the size of its own
            sizes = {"--warmup-iters": "0.05"}
        more = {**STEPS, **{n: v for n, v in sizes.items() if n not in given}}
        more |= {"--tokenization": "char"} if new and "--tokenization" not in given else {}
    elif verb == "resume" and "--max-iters" in given:
        more = {"--max-iters": str(read_state(Path("checkpoints", words[1])).step + 4)}
    elif verb in ("generate", "chat"):
        more = {"--max-new-tokens": "8"}
    elif verb == "reproduce" and "--steps" in given:
        more = {"--steps": "2"}
    extra = [word for name, value in more.items() if not as_given or name not in given for word in (name, value)]
    if verb == "train" and Path("checkpoints", words[1]).exists():
        extra += ["--fresh"]  # calls of one block are other ways to do the same
    return [*words, *extra, *(["--no-use-amp"] if verb == "train" else [])]


MEASURED = re.compile(r"^  hint .*\n(?:   .*\n)*|^\* better .*\n", re.M)
"""A row of the plan and a line of a comparison that depend on what was measured."""


@dataclass
class Shell:
    """Runs lines of pages in the working folder, those of mypt within this process, and keeps what they print."""

    mypt: Mypt
    patch: pytest.MonkeyPatch
    printed: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def run(self, line: str, as_given: bool = False) -> str:
        """What a line prints; one that begins with `!` has to be refused, or to find a fault."""
        programs, target = pipeline(line.removeprefix("! "))
        said = ""
        for words in programs:
            said = self.program(words, said, not line.startswith("! "), as_given)
        if target:
            Path(target).write_text(said, encoding="utf-8")
        self.printed.append(MEASURED.sub("", said.replace(f"{Path.cwd()}/", "")))
        return said

    def program(self, words: list[str], stdin: str, ok: bool, as_given: bool) -> str:
        if words[0].startswith("COLUMNS="):
            with self.patch.context() as wide:
                wide.setenv(*words[0].split("="))
                return self.program(words[1:], stdin, ok, as_given)
        ours = mypt_words(words)
        if ours is None:
            return OTHERS[words[0]](words[1:], stdin)
        self.patch.setattr(sys, "argv", words)  # which the record names
        done = self.mypt(*(lighter(ours, as_given) if ok else ours), stdin=stdin or None, ok=False)
        if (done.exit_code == 0) is not ok:
            self.failed.append(f"{shlex.join(words)}: exit code {done.exit_code}\n{done.output[-2000:]}")
        return str(done.output)


def printf(words: list[str], _: str) -> str:
    return words[0].replace(r"\n", "\n")


def echo(words: list[str], _: str) -> str:
    return " ".join(words) + "\n"


def cp(words: list[str], _: str) -> str:
    shutil.copytree(words[-2], words[-1])
    return ""


def python(words: list[str], stdin: str) -> str:
    utf8 = {**os.environ, "PYTHONUTF8": "1"}
    call = [sys.executable, *words]
    return subprocess.run(call, input=stdin, stdout=subprocess.PIPE, encoding="utf-8", check=True, env=utf8).stdout


OTHERS: dict[str, Callable[[list[str], str], str]] = {"printf": printf, "echo": echo, "cp": cp, "python": python}
"""Programs of the pages that are none of mypt's, as far as the pages use them."""


def python_block(block: Block, names: dict[str, object]) -> str:
    """What a block of Python prints, with the names that those before it have made."""
    with redirect_stdout(io.StringIO()) as said:
        exec(compile(block.text, f"docs/{block.page}", "exec"), names)
    return said.getvalue()


NUMBER = re.compile(
    r"(?<![\w.#])[+-]?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?"
    r"(?: ?(?:[kKMGT]?B|ms|[kKMGT]?FLOP|%)(?!\w)|[KMGTsmhdx](?!\w))*"
)
COUNTED = re.compile(r" (?:of (?:architecture|training|data)|other|checks|bundles|faults|settings|layers|heads)\b")
"""What is counted where a figure is no measurement: by the form of a model and of its record."""


def plain(text: str) -> str:
    """The words of a paragraph as they come, with measured figures, bars and lengths of rules made alike."""
    text = re.sub(r"[─━]+", "─", text)
    text = re.sub(r"[▁▂▃▄▅▆▇█]+", "▂", text)
    text = re.sub(r"\b[0-9a-f]{10,}(…|\b)", "#", text)
    text = re.sub(r"\b\d\d:\d\d:\d\d\b", "#", text)
    text = re.sub(r"\b[\w.]+\.(?:weight|bias)\b", "TENSOR", text)
    text = NUMBER.sub(lambda found: found[0] if COUNTED.match(found.string, found.end()) else "#", text)
    return " ".join(text.replace("#*", "#").split())


def pieces(text: str) -> list[str]:
    """What may be shown without the rest: a line at the margin or a notice, with what is indented below it; a table."""
    found: list[list[str]] = [[]]
    for line in text.splitlines():
        if line[:1] != " " or not line.strip() or re.match(r"  [^\w\s─│└├✎]", line):
            found.append([])
        found[-1].append(line)
    return [plain("\n".join(piece)) for piece in found if "".join(piece).strip()]


def within(shown: str, printed: str) -> bool:
    """Whether a page shows whole pieces of what was printed, one after the other; `...` stands for any more."""
    shown = MEASURED.sub("", shown)
    wanted = re.compile(re.escape(plain(shown)).replace(r"\ \.\.\.", ".*"))
    first, had = plain(shown).split()[0], pieces(printed)
    starts = [i for i, piece in enumerate(had) if piece.split()[0] == first]
    return any(wanted.fullmatch(" ".join(had[i:end])) for i in starts for end in range(i + 1, len(had) + 1))


def inline_calls(page: Path) -> Iterator[list[str]]:
    """Calls that stand within sentences and tables."""
    prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    for code in re.findall(r"`(mypt [^`]+)`", prose):
        yield shlex.split(code.replace("\n", " "))[1:]
