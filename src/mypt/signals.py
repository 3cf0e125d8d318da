"""The signals that ask a process to end: which they are, and who hears them."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU", "SIGBREAK")
STOP_SIGNALS: tuple[signal.Signals, ...] = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))
"""What terminals, queues and limits send before they kill: those of them that this system has."""

Handler = Callable[[int, FrameType | None], None]
AGAIN_S = 0.01
"""After which a signal comes once more: long enough to be out of most finalizers, and too short to be noticed."""
_own: list[Handler] = []
"""Handlers of mypt that are in force, the latest last."""


class Interrupted(SystemExit):
    """A signal ends the process, with the exit code that shells use for it; its notes say what is to be done.

    No handler of errors takes it, as it is no `Exception`.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(128 + signum)
        self.signum = signum

    def __str__(self) -> str:
        return " ".join([f"Interrupted by {signal.Signals(self.signum).name}.", *getattr(self, "__notes__", ())])


def interrupt(signum: int, _: FrameType | None) -> None:
    """Handler of a signal that interrupts whatever runs, as Ctrl-C does."""
    raise Interrupted(signum)


@contextmanager
def hearing(handler: Handler) -> Iterator[dict[int, Any]]:
    """Let `handler` hear the signals that ask to end, and yield the handlers before, which come back afterwards.

    What the caller decided stays: a signal with a handler of the caller's own, and one that is ignored, as `nohup`
    has it for SIGHUP. SIGINT is heard even where it is ignored, as in what a script starts in the background. In
    other threads than the main one Python allows no handlers, so nothing is heard.
    """
    heard = threading.current_thread() is threading.main_thread()
    before: dict[int, Any] = {s: signal.getsignal(s) for s in STOP_SIGNALS if heard and _may_be_taken(s)}
    _own.append(handler)
    try:
        for signum in before:
            signal.signal(signum, handler)
        yield before
    finally:
        for signum, earlier in before.items():
            signal.signal(signum, earlier)
        _own.remove(handler)


@contextmanager
def interruptible() -> Iterator[None]:
    """Let a signal interrupt the block wherever it is.

    What a handler raises in the finalizer of an object, or in another call that nobody waits for, Python prints and
    drops. There the signal comes once more, shortly afterwards.
    """
    shown, repeats = sys.unraisablehook, list[threading.Timer]()

    def dropped(lost: "sys.UnraisableHookArgs") -> None:
        if isinstance(lost.exc_value, Interrupted):
            repeats.append(threading.Timer(AGAIN_S, _send, [lost.exc_value.signum]))
            repeats[-1].start()
        else:
            shown(lost)

    with hearing(interrupt):
        sys.unraisablehook = dropped
        try:
            yield
        finally:
            sys.unraisablehook = shown
            for repeat in repeats:
                repeat.join()


@contextmanager
def held_back() -> Iterator[None]:
    """Let no signal interrupt the block; the first that came meanwhile is heard at its end."""
    waiting: list[int] = []
    with hearing(lambda signum, _: waiting.append(signum)):
        yield
    if waiting:
        signal.raise_signal(waiting[0])


def _send(signum: int) -> None:
    """Send a signal to the main thread, as the system does: what it waits for is interrupted too."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, signum)
    else:
        signal.raise_signal(signum)


def _may_be_taken(signum: signal.Signals) -> bool:
    now = signal.getsignal(signum)
    if now is signal.SIG_IGN:
        return signum == signal.SIGINT
    return now in (signal.SIG_DFL, signal.default_int_handler, *_own)
