"""What a run reports while it goes on. The command line draws it; scripts may ignore or print it."""

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

from mypt.checkpoint.changes import MEANINGS, Change
from mypt.log.messages import eval_lines, gold_line
from mypt.schema.files.events import Eval, GoldBlocked, GoldCheckpoint
from mypt.train.plan import Plan


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


class PrintObserver(Observer):
    """Prints what is resumed, the two-line summary of each evaluation, and notices.

    What the encoding of the output lacks is printed as `?`.
    """

    def notice(self, text: str) -> None:
        """Print the line."""
        encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
        shown = text.encode(encoding, "replace").decode(encoding)
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
