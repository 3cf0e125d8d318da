"""Calls every verb with values, logs, bundles and datasets that nobody meant, and looks at how each call ends.

    python benchmarks/fuzz_calls.py --calls 10000 --seed 0

A call is at fault if it ends with another code than 0, 1 or 2, shows a traceback or "failed unexpectedly", takes over
ten seconds or more memory than the bound, lets a terminal act, or writes outside of the folder that it is called in.
"""

import argparse
import hashlib
import json
import os
import random
import re
import resource
import shutil
import signal
import tempfile
import traceback
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from typer.main import get_command
from typer.testing import CliRunner

from mypt.board import serve as serving
from mypt.board.folder import Board
from mypt.board.series import View
from mypt.board.serve import serve
from mypt.checkpoint.manifest import write_manifest
from mypt.cli.app import VERBS, app
from mypt.schema.resolve import setting_names
from mypt.schema.settings.output import Axis

HANG_S = 10
MEMORY_BYTES = 1 << 30
"""What one call may take beyond what the process has already."""
TEXT = "nel mezzo del cammin di nostra vita mi ritrovai per una selva oscura\n" * 60
TINY = [
    "--tokenization", "char", "--n-layer", "1", "--n-head", "1", "--n-embd", "8", "--block-size", "8",
    "--batch-size", "2", "--eval-iters", "1", "--eval-interval", "2", "--no-use-amp",
]  # fmt: skip
VALUES = [
    "", " ", "-", "--", "0", "1", "-1", "1e400", "1e-320", "9" * 400, "nan", "inf", "1e-40", "9" * 30,
    str(2**63), "0x10", "1_000", "½",
    "true", "a\0b", "caf\udce9", "\x1b]52;c;eA==\x07", "[red]x[/y]", "{x}", "%s", "$(touch pwned)", "~nosuchuser/x",
    "~", "/", "..", "../../x", "a" * 300, "a/" * 3000, "con", "NAME=", "=PATH", "a=b=c", "cuda:99", "mps",
    "file:///etc/passwd", "http://127.0.0.1:1/x", "input.txt", "binary.bin", "utf16.txt", "empty", "folder", "pipe",
    "endless", "link", "deep.json", "config.json", "shards", "d", "checkpoints", "checkpoints/dante", "dante",
    "dante_gold", "dante_fp16", "other", "logs/train/dante_eval.jsonl", "cpu", "2", "8", "0.5", "gpt2", "bpe", "char",
    "\u202egpj.x", "*", "**/*", "x" * 70000,
]  # fmt: skip
NODES: list[Any] = [
    None, True, 0, -1, 2**63, 10**400, 1e308, -0.0, "", "x", "\0", "\x1b[2J", "\ud800", "../x", "/dev/zero", [], {},
    [[]] * 3, {"a": {"b": {}}}, "9" * 5000, float("nan"), float("inf"), ["x"] * 1000, "~nosuchuser", "cuda:7", "gpt2",
]  # fmt: skip
OUTPUTS = {"--json", "--width", "--debug", "--help", "--install-completion", "--show-completion"}


@dataclass(frozen=True)
class Fault:
    """One call that ended as none may."""

    number: int
    words: list[str]
    change: str
    why: str


def make_world(folder: Path) -> None:
    """A folder as a person has it after some work, and with things in it that are no files."""
    os.chdir(folder)
    Path("input.txt").write_text(TEXT, encoding="utf-8")
    Path("utf16.txt").write_text(TEXT, encoding="utf-16")
    Path("binary.bin").write_bytes(bytes(range(256)) * 20)
    Path("empty").touch()
    Path("folder").mkdir()
    os.mkfifo("pipe")
    Path("endless").symlink_to("/dev/zero")
    Path("link").symlink_to("nowhere")
    Path("deep.json").write_text("[" * 100_000, encoding="utf-8")
    Path("config.json").write_text(json.dumps({"n_layer": 1, "max_iters": 2}), encoding="utf-8")
    Path("shards").mkdir()
    for name in ("train", "val"):
        Path(f"shards/{name}.bin").write_bytes(bytes([1, 0, 2, 0]) * 200)
    for call in (
        ["train", "dante", "--input-file", "input.txt", *TINY, "--max-iters", "4"],
        ["train", "other", "--dataset-dir", "shards", *TINY[2:], "--max-iters", "2"],
        ["prepare", "input.txt", "--out", "d", "--tokenization", "char", "--workers", "1"],
    ):
        result = CliRunner().invoke(app, call)
        if result.exit_code and call[0] != "prepare":
            raise SystemExit(f"{call} ended with {result.exit_code}: {result.output}{result.stderr}")


def commands() -> dict[tuple[str, ...], Any]:
    """Every verb by the words that call it."""
    found: dict[tuple[str, ...], Any] = {}
    top = get_command(app)
    for name in VERBS:
        command = top.commands[name]  # type: ignore[attr-defined]
        inner = getattr(command, "commands", None)
        found |= {(name, n): c for n, c in inner.items()} if inner else {(name,): command}
    return found


def words_of(call: tuple[str, ...], command: Any, rng: random.Random) -> list[str]:
    """A call of a verb: its arguments, plausible or not, and up to three options."""
    words, options = list(call), [p for p in command.params if p.opts[0].startswith("-") and p.opts[0] not in OUTPUTS]
    for parameter in command.params:
        if not parameter.opts[0].startswith("-"):
            plausible = {"dir": ["shards", "d"], "file": ["config.json"], "input": ["input.txt", "binary.bin"]}
            names = plausible.get(
                (parameter.metavar or "").lower().strip("[].…"), ["dante", "other", "dante_gold", "new"]
            )
            several = rng.randrange(1, 3) if parameter.nargs == -1 or call[0] == "compare" else 1
            chosen = [rng.choice(names if rng.random() < 0.7 else VALUES) for _ in range(several)]
            words += ["..." if call == ("prepare",) and word == "/" else word for word in chosen]  # all of the disk
    if call[0] in ("train", "resume"):
        words += ["--max-minutes", "0.02"]
        words += (
            ["--input-file", "input.txt", *TINY, "--max-iters", "2"] if call[0] == "train" else ["--max-iters", "5"]
        )
    if call[0] == "generate":
        words += ["--max-new-tokens", "3"]
    if call[0] == "prepare":
        words += ["--out", rng.choice(["new_d", "d", "folder"]), "--workers", "1"]
    if call == ("logs", "tail"):
        words.append("--no-follow")
    for option in rng.sample(options, min(len(options), rng.randrange(4))):
        if option.name in ("max_iters", "max_minutes", "max_new_tokens", "workers", "follow"):
            continue
        words.append(rng.choice([*option.opts, *option.secondary_opts]))
        if not option.is_flag:
            words.append(rng.choice(VALUES))
    return [*words, *(["--json"] if rng.random() < 0.1 else [])]


def write_config(rng: random.Random) -> str:
    """Make a config file of settings that exist and values that nobody meant; some settings of a call stand over it."""
    names = [name for name in setting_names() if name not in ("max_iters", "max_minutes")]
    content = {name: rng.choice([*NODES, *VALUES]) for name in rng.sample(names, rng.randrange(1, 4))}
    text = json.dumps({"max_iters": 2, **content}, default=str)
    Path("config.json").write_text(text, encoding="utf-8", errors="surrogatepass")
    return f"config.json is {text[:200]}"


def change_json(path: Path, rng: random.Random) -> str:
    """Put something else at a random place of a JSON file."""
    content = json.loads(path.read_bytes())
    holder, key, node = None, None, content
    for _ in range(rng.randrange(1, 6)):
        if not isinstance(node, dict | list) or not node:
            break
        holder, key = node, rng.choice(list(node) if isinstance(node, dict) else range(len(node)))
        node = holder[key]
    value = rng.choice(NODES)
    if holder is None:
        content = value
    else:
        holder[key] = value
    path.write_text(json.dumps(content, default=str), encoding="utf-8", errors="surrogatepass")
    return f"{path}: {key} is {str(value)[:40]!r}"


def change_bytes(path: Path, rng: random.Random) -> str:
    """Flip, cut, repeat or replace bytes of a file."""
    data = bytearray(path.read_bytes())
    how = rng.choice(["flip", "cut", "noise", "repeat", "empty"])
    at = rng.randrange(len(data)) if data else 0
    if how == "flip" and data:
        for _ in range(rng.randrange(1, 5)):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif how == "cut":
        del data[at:]
    elif how == "noise":
        data[at : at + 50] = rng.randbytes(50)
    elif how == "repeat":
        data[at:at] = data[max(0, at - 200) : at] * 20
    else:
        data.clear()
    path.write_bytes(bytes(data))
    return f"{path}: {how} at {at}"


def replace_file(path: Path, rng: random.Random) -> str:
    """Put something in a file's place that is no file."""
    how = rng.choice(["nothing", "folder", "pipe", "endless", "link to nowhere"])
    path.unlink()
    if how == "folder":
        path.mkdir()
    elif how == "pipe":
        os.mkfifo(path)
    elif how != "nothing":
        path.symlink_to("/dev/zero" if how == "endless" else "nowhere")
    return f"{path} is {how}"


def change_world(rng: random.Random) -> str:
    """One change of a bundle, a log, a dataset or a config file; those of a bundle with a manifest that fits them."""
    files = [
        p
        for p in Path().rglob("*")
        if p.is_file() and not p.is_symlink() and p.suffix not in (".txt", "") and p.stem != "deep"
    ]
    bundles = [p for p in files if p.parts[0] == "checkpoints" and p.name != "manifest.json"]
    path = rng.choice(bundles if rng.random() < 0.6 else files)
    kinds: list[Callable[[Path, random.Random], str]] = [change_bytes, replace_file]
    kinds += [change_json] * 6 if path.suffix == ".json" else []
    if path.suffix == ".jsonl":
        kinds += [change_log] * 6
    told = rng.choice(kinds)(path, rng)
    if path.parts[0] == "checkpoints" and rng.random() < 0.9:
        with suppress(OSError):
            (path.parent / "manifest.json").unlink(missing_ok=True)
            write_manifest(path.parent, 4 if "dante" in path.parts[1] else 2)
    return told


def change_log(path: Path, rng: random.Random) -> str:
    """Change one line of a log."""
    lines = path.read_text(encoding="utf-8").splitlines()
    at = rng.randrange(len(lines))
    event = json.loads(lines[at])
    key = rng.choice([*event, "eval_x", "event", "iter"])
    value = rng.choice(NODES)
    event[key] = value
    lines[at] = json.dumps(event)
    if rng.random() < 0.2:
        lines.insert(at, rng.choice(["{" * 5000, "\x00\x1b[2J", "[]", '{"event": "eval"}', "null", lines[at] * 2]))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", errors="surrogatepass")
    return f"{path}: line {at}, {key} is {str(value)[:40]!r}"


def acting(text: str) -> set[str]:
    """Characters by which a terminal would do something."""
    return {
        c for c in text if (unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t") or "\u202a" <= c <= "\u202e"
    }


class HangError(BaseException):
    """A call takes too long."""


@contextmanager
def limits() -> Iterator[None]:
    """End a call that takes too long or too much memory."""

    def late(*_: object) -> None:
        raise HangError

    used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    before, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_BYTES, hard))
    handler = signal.signal(signal.SIGALRM, late)
    signal.alarm(HANG_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, handler)
        resource.setrlimit(resource.RLIMIT_AS, (before, hard))


def fault_of(words: list[str]) -> str | None:
    """Call mypt; what is wrong with how it ended."""
    try:
        with limits():
            result = CliRunner().invoke(app, words, input="")
    except HangError:
        return f"takes more than {HANG_S} s"
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # such as a panic of a library in another language
        return "".join(traceback.format_exception(error)[-3:])
    said = result.output + result.stderr
    if isinstance(result.exception, HangError):
        return f"takes more than {HANG_S} s"
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        return "".join(traceback.format_exception(result.exception)[-3:])
    if "failed unexpectedly" in said or "Traceback" in said:
        return re.sub(r"\s+", " ", said[said.find("failed unexpectedly") :])[:300]
    if result.exit_code not in (0, 1, 2):
        return f"ends with {result.exit_code}: {said[-200:]}"
    shown = said.replace("\x1b[0m", "") if words[0] in ("generate",) else said
    if words[0] != "generate" and acting(shown):
        return f"lets a terminal act: {acting(shown)}"
    return None


def content_of(folder: Path) -> str:
    """A hash of everything in a folder."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return hashlib.sha256(repr([(p, p.read_bytes()) for p in files]).encode()).hexdigest()


def answer_all(out_dir: Path, pages: Any, port: int, ready: Callable[[str], None], *, show: bool = False) -> None:
    """In place of a board that serves until a signal ends it: give every answer that a page can ask for."""
    del port, show
    board = Board(out_dir, pages)
    ready("http://127.0.0.1:1/")
    runs = [row["id"] for row in board.changes()[1]]
    for run in runs:
        for axis in get_args(Axis):
            json.dumps(board.series([run], View(axis, smooth=0.5)), allow_nan=False)
        json.dumps(board.run(run), allow_nan=False)
    if len(runs) > 1:
        json.dumps(board.compare(runs), allow_nan=False)


def fuzz(calls: int, seed: int, tell: Callable[[int], None] = lambda _: None) -> list[Fault]:
    """Make calls, each in a fresh copy of one folder; those at fault."""
    base, back = Path(tempfile.mkdtemp()), Path.cwd()
    home, world = base / "home", base / "made"
    home.mkdir()
    (home / ".bashrc").write_text("alias ll='ls -l'\n", encoding="utf-8")
    world.mkdir()
    old_home, os.environ["HOME"] = os.environ.get("HOME", ""), str(home)
    faults, before = [], content_of(home)
    try:
        make_world(world)
        serving.serve = answer_all
        known = commands()
        for number in range(calls):
            tell(number)
            rng = random.Random(f"{seed} {number}")
            here = base / "parent" / "here"
            copy_world(world, here)
            os.chdir(here)
            change = change_world(rng) if rng.random() < 0.7 else ""
            call = rng.choice(list(known))
            words = words_of(call, known[call], rng)
            if call in (("train",), ("config", "check")) and rng.random() < 0.5:
                change += f" and {write_config(rng)}"
                words = [*words, "--config-file", "config.json"] if call == ("train",) else [*call, "config.json"]
            why = fault_of(words)
            os.chdir(base)
            if why is None and content_of(home) != before:
                why = "writes into the home"
            if why is None and [p.name for p in here.parent.iterdir()] != ["here"] and not {"..", "../../x"} & {*words}:
                why = f"writes beside the folder: {sorted(p.name for p in here.parent.iterdir())}"
            if why is not None:
                faults.append(Fault(number, words, change, why))
            shutil.rmtree(here.parent)
    finally:
        serving.serve = serve
        os.environ["HOME"] = old_home
        os.chdir(back)
        shutil.rmtree(base, ignore_errors=True)
    return faults


def copy_world(world: Path, here: Path) -> None:
    """A copy in which pipes are pipes."""
    shutil.copytree(world, here, symlinks=True, ignore=shutil.ignore_patterns("pipe"))
    os.mkfifo(here / "pipe")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--calls", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    faults = fuzz(given.calls, given.seed, lambda n: print(f"\r{n}", end="", flush=True))
    print(f"\r{given.calls} calls with seed {given.seed}: {len(faults)} at fault")
    for fault in faults:
        print(
            f"\n#{fault.number} mypt {' '.join(repr(w)[:80] for w in fault.words)}\n   {fault.change}\n   {fault.why}"
        )


if __name__ == "__main__":
    main()
