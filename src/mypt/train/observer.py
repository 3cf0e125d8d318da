"""What a run reports while it goes on. The command line draws it; scripts may ignore or print it."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import TracebackType
from typing import Any, Self

from mypt.checkpoint.changes import MEANINGS, Change
from mypt.errors import OutputError
from mypt.log.messages import eval_lines, gold_line, sample_lines
from mypt.mirror.live import CLOSE_S, Mirrors
from mypt.schema.files.events import Eval, GoldBlocked, GoldCheckpoint, Sample
from mypt.schema.settings.output import Mirror
from mypt.train.plan import Plan
from mypt.visible import visible


class Observer:
    """Ignores every report; subclasses override what they need."""

    def busy(self, what: str) -> AbstractContextManager[None]:
        """A context around work that may take seconds."""
        del what
        return nullcontext()

    def notice(self, text: str) -> None:
        """A line for the user."""

    def planned(self, plan: Plan) -> None:
        """Everything is ready and a step has been timed."""

    def resuming(self, step: int, changes: Sequence[Change]) -> None:
        """A recorded run is resumed at `step`, with these differences."""

    def started(self, step: int, max_iters: int, tokens_per_step: int) -> None:
        """Training begins after `step` completed steps."""

    def stepped(self, step: int, loss: float) -> None:
        """A step is done; `loss` is that of the latest step whose result is known."""

    def gold_decided(self, event: GoldCheckpoint | GoldBlocked) -> None:
        """An evaluation became gold, or was blocked."""

    def saved(self, step: int) -> None:
        """The bundle holds `step` now."""

    def evaluating(self, done: int, total: int) -> None:
        """An evaluation has finished `done` of its `total` batches."""

    def evaluated(self, event: Eval, max_iters: int, eta_seconds: float) -> None:
        """An evaluation is done and logged."""

    def sampled(self, event: Sample) -> None:
        """The model has continued the prompt of the settings."""

    def logged(self, event: Mapping[str, Any]) -> None:
        """An event is in the log, as its line has it."""

    def lost(self) -> str | None:
        """Why nothing can be shown any more; None while it can."""
        return None


class Guarded(Observer):
    """Passes reports on to an observer whose output may fail: no report of a run ends the run.

    Args:
        observer: hears every report, those after a failure too; what it raises for another reason is raised.
    """

    def __init__(self, observer: Observer) -> None:
        self.observer = observer
        self._lost: str | None = None

    @contextmanager
    def busy(self, what: str) -> Iterator[None]:
        """Around work, as the observer has it."""
        shown = self.observer.busy(what)
        self._tell(shown.__enter__)
        try:
            yield
        finally:
            self._tell(shown.__exit__, *sys.exc_info())

    def notice(self, text: str) -> None:
        """Pass on."""
        self._tell(self.observer.notice, text)

    def planned(self, plan: Plan) -> None:
        """Pass on."""
        self._tell(self.observer.planned, plan)

    def resuming(self, step: int, changes: Sequence[Change]) -> None:
        """Pass on."""
        self._tell(self.observer.resuming, step, changes)

    def started(self, step: int, max_iters: int, tokens_per_step: int) -> None:
        """Pass on."""
        self._tell(self.observer.started, step, max_iters, tokens_per_step)

    def stepped(self, step: int, loss: float) -> None:
        """Pass on."""
        self._tell(self.observer.stepped, step, loss)

    def gold_decided(self, event: GoldCheckpoint | GoldBlocked) -> None:
        """Pass on."""
        self._tell(self.observer.gold_decided, event)

    def saved(self, step: int) -> None:
        """Pass on."""
        self._tell(self.observer.saved, step)

    def evaluating(self, done: int, total: int) -> None:
        """Pass on."""
        self._tell(self.observer.evaluating, done, total)

    def evaluated(self, event: Eval, max_iters: int, eta_seconds: float) -> None:
        """Pass on."""
        self._tell(self.observer.evaluated, event, max_iters, eta_seconds)

    def sampled(self, event: Sample) -> None:
        """Pass on."""
        self._tell(self.observer.sampled, event)

    def logged(self, event: Mapping[str, Any]) -> None:
        """Pass on."""
        self._tell(self.observer.logged, event)

    def lost(self) -> str | None:
        """The first failure."""
        return self._lost or self.observer.lost()

    def _tell(self, report: Callable[..., object], *what: object) -> None:
        try:
            report(*what)
        except Exception as error:
            if not _is_of_output(error):
                raise
            self._lost = self._lost or getattr(error, "strerror", None) or str(error)


class Mirrored(Guarded):
    """Sends every event to trackers too, which end with the block that this is a context of.

    Args:
        observer: hears every report.
        kinds: the trackers.
        name: of the model.

    Raises:
        UsageError: a tracker is not installed.
    """

    def __init__(self, observer: Observer, kinds: Sequence[Mirror], name: str) -> None:
        super().__init__(observer)
        self._mirrors = Mirrors(kinds, name, self.notice)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: BaseException | TracebackType | None) -> None:
        wanted_at_once = kind is not None and not issubclass(kind, Exception)
        self._mirrors.close(within=0.0 if wanted_at_once else CLOSE_S)

    def logged(self, event: Mapping[str, Any]) -> None:
        """Pass on, to the trackers too."""
        super().logged(event)
        self._mirrors.send(event)


def _is_of_output(error: Exception) -> bool:
    """Whether an error says that a stream takes nothing, which of a closed one Python calls a wrong value."""
    return isinstance(error, OSError | UnicodeEncodeError | OutputError) or (
        isinstance(error, ValueError) and "closed file" in str(error)
    )


class PrintObserver(Observer):
    """Prints what is resumed, the two-line summary of each evaluation, and notices.

    What the encoding of the output lacks is printed as `?`.
    """

    def notice(self, text: str) -> None:
        """Print the line."""
        encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
        shown = visible(text).encode(encoding, "replace").decode(encoding)
        print(shown, flush=True)  # noqa: T201 - printing is what this observer is for

    def planned(self, plan: Plan) -> None:
        """Print what a setting will not do."""
        for note in plan.notes:
            self.notice(note)

    def resuming(self, step: int, changes: Sequence[Change]) -> None:
        """Print the step, and a line for each difference."""
        self.notice(f"Resuming from step {step}.")
        for change in changes:
            self.notice(f"  {change.name}: {change.recorded} -> {change.now} ({MEANINGS[change.meaning]})")

    def gold_decided(self, event: GoldCheckpoint | GoldBlocked) -> None:
        """Print the line."""
        self.notice(gold_line(event))

    def evaluated(self, event: Eval, max_iters: int, eta_seconds: float) -> None:
        """Print the two lines."""
        self.notice("\n".join(eval_lines(event, max_iters, eta_seconds)))

    def sampled(self, event: Sample) -> None:
        """Print what the model writes."""
        self.notice("\n".join(sample_lines(event)))
