"""`mypt chat`: a conversation in the terminal."""

import signal
import sys
from contextlib import closing, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import typer

from mypt.checkpoint.atomic import replacing_file
from mypt.checkpoint.layout import bundle_path
from mypt.cli.arguments import BundleName, Device, ModelName, OutDir, chosen_name
from mypt.cli.console import complain, error_console, say
from mypt.cli.options import given_settings
from mypt.cli.verb import verb_with_settings
from mypt.errors import UsageError
from mypt.regular import expanded
from mypt.schema.resolve import resolve_section
from mypt.schema.settings.generation import AnswerConfig, ChatConfig, SystemConfig
from mypt.schema.settings.output import DEFAULT_OUT_DIR
from mypt.signals import hearing, interrupt
from mypt.visible import visible

if TYPE_CHECKING:
    from mypt.run.chat import Conversation

app = typer.Typer(add_completion=False)
PROMPT = "> "
HELP = """/reset       begin a new conversation
/save FILE   write the conversation as a line of JSON that `mypt prepare --chat` reads
/help        show this
/quit        leave, as Ctrl-D does; Ctrl-C stops an answer"""


@app.command(
    cls=verb_with_settings({"Conversation": SystemConfig, "Generation": AnswerConfig}),
    epilog='Example: mypt chat dante --system "Answer in one word." --temperature 0',
)
def chat(
    ctx: typer.Context,
    name: BundleName = None,
    model_name: ModelName = None,
    out_dir: OutDir = DEFAULT_OUT_DIR,
    device: Device = "auto",
) -> None:
    """Talk with a model that was trained on conversations; from a pipe, each line is a message."""
    config = resolve_section(ChatConfig, given_settings(ctx))
    chosen = chosen_name(name, model_name)
    from mypt.cli.next_calls import after_generating
    from mypt.run.chat import open_conversation

    conversation = open_conversation(
        chosen, out_dir, config, config.system, device, lambda line: say(error_console(), line)
    )
    if sys.stdin.isatty() and sys.stdout.isatty():
        bundle = bundle_path(chosen, out_dir)
        _Terminal(conversation).talk()
        say(error_console(), *after_generating(bundle))
    else:
        _pipe(conversation)


def _pipe(conversation: "Conversation") -> None:
    """Answer each line that has something in it."""
    from mypt.data.text import STDIN, decode

    for line in sys.stdin.buffer:
        if message := decode(STDIN, line).strip():
            for piece in conversation.answer(message):
                sys.stdout.write(piece)
                sys.stdout.flush()
            sys.stdout.write("\n")
            sys.stdout.flush()


class _GivenUp(Exception):  # noqa: N818 - nothing went wrong
    """Ctrl-C while a line is typed; `typed` is what there is of it."""

    def __init__(self, typed: str) -> None:
        super().__init__(typed)
        self.typed = typed


class _Terminal:
    """A conversation in a terminal: lines are edited by its own line editing, and Ctrl-C stops what goes on."""

    def __init__(self, conversation: "Conversation") -> None:
        self._conversation = conversation
        self._typing = self._stopped = False
        self._readline = None
        with suppress(ImportError):  # Windows edits lines by itself
            import readline

            self._readline = readline

    def talk(self) -> None:
        """Talk until the user leaves."""
        sys.stdout.write("/help shows what you can do, Ctrl-D leaves.\n")
        with hearing(self._hear):
            while (line := self._line(PROMPT)) is not None and line.split()[:1] != ["/quit"]:
                try:
                    self._take(line.strip())
                except UsageError as error:
                    complain(error.what, error.details, error.todo)

    def _take(self, line: str) -> None:
        word, _, rest = line.partition(" ")
        if word == "/reset":
            self._conversation.reset()
            sys.stdout.write("A new conversation.\n")
        elif word == "/save":
            self._save(rest.strip())
        elif word == "/help":
            sys.stdout.write(f"{HELP}\n")
        elif word.startswith("/"):
            raise UsageError(f"There is no command {word}.", "/help shows those that there are.")
        elif line:
            self._answer(line)

    def _answer(self, message: str) -> None:
        """Show an answer as it comes; Ctrl-C ends it after the token at hand, and a second one the program."""
        self._stopped = False
        with closing(self._conversation.answer(message)) as pieces:
            for piece in pieces:
                sys.stdout.write(visible(piece))
                sys.stdout.flush()
                if self._stopped:
                    break
        sys.stdout.write("\n")

    def _save(self, name: str) -> None:
        if not name:
            raise UsageError("/save needs the name of a file.", "Write it after the command, such as /save talk.jsonl.")
        path = expanded(name)
        content = self._conversation.as_json()
        try:
            if path.exists() and not path.is_file():
                raise UsageError(f"{path} is a folder or a device, not a file.", "Give the name of a file.")
            if path.exists() and (self._line(f"{visible(str(path))} exists. Replace it? [y/N] ") or "").strip() != "y":
                sys.stdout.write("Nothing is saved.\n")
                return
            _write(path, content)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise UsageError(f"{path} cannot be written: {reason}.", "Give another place.") from error
        sys.stdout.write(f"Saved as {visible(str(path))}.\n")

    def _line(self, prompt: str) -> str | None:
        """A line that the user types: empty where it was given up, None at the end."""
        try:
            self._typing, self._stopped = True, False
            return input(prompt)
        except EOFError:
            typed = ""
        except _GivenUp as given_up:
            typed = given_up.typed
        except UnicodeDecodeError:
            complain("The line is not UTF-8.", [], "Type it again.")
            return ""
        finally:
            self._typing = False
        sys.stdout.write("\n")
        return "" if typed else None

    def _hear(self, signum: int, frame: FrameType | None) -> None:
        if signum == signal.SIGINT and self._typing:
            raise _GivenUp(self._readline.get_line_buffer() if self._readline else "")
        if signum != signal.SIGINT or self._stopped:
            interrupt(signum, frame)
        self._stopped = True


def _write(path: Path, content: str) -> None:
    with replacing_file(path) as temporary:
        temporary.write_text(content, encoding="utf-8")
