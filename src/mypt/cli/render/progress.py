"""Shows a run as it goes: a live bar in a terminal, plain lines when piped."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column

from mypt import units
from mypt.checkpoint.changes import Change
from mypt.cli.console import say
from mypt.cli.next_calls import while_training
from mypt.cli.render.plan import changes_table, plan_table
from mypt.cli.shorter import shorter_calls
from mypt.cli.streams import lost_output
from mypt.log.messages import eval_lines, gold_line, sample_lines
from mypt.run.reproduce import Compared, ReproduceObserver
from mypt.schema.files.events import Eval, GoldBlocked, GoldCheckpoint, Sample
from mypt.schema.settings.output import DEFAULT_OUT_DIR
from mypt.train.observer import Observer
from mypt.train.plan import Plan

REFRESH_S = 0.25
"""Least time between two updates of the bar; reading the loss makes a GPU wait."""
_COMPARED = 78
"""Columns of a line that compares an evaluation with the record."""


def bar_columns(width: int, max_iters: int) -> set[str]:
    """What the bar shows of a run in a terminal of so many columns: what matters most, as far as all of it is whole."""
    taken = {
        "steps loss": len("loss 10.1234 ") + 2 * len(f"{max_iters} "),
        "what": len("evaluating 200/200 "),
        "left remaining": len("left 0:00:00 "),
        "rate": len(" | 123.4K tok/s"),
        "bar": len("━━━━ "),
        "elapsed": len("0:00:00 "),
    }
    sums = zip(taken, accumulate(taken.values()), strict=True)
    return {name for names, columns in sums if columns <= width + 1 for name in names.split()}


class ConsoleObserver(Observer):
    """Prints what a run does, under the name of its model."""

    def __init__(self, console: Console, name: str, out_dir: Path = DEFAULT_OUT_DIR) -> None:
        self.console = console
        self.name = name
        self._out_dir = out_dir
        self._bar: Progress | None = None
        self._updated = 0.0
        self._tokens_per_step = 0
        self._steps_since, self._seconds = 0, 0.0
        self._last = 0.0
        self._with_rate = True

    @contextmanager
    def busy(self, what: str) -> Iterator[None]:
        """A spinner that counts seconds in a terminal; nothing when piped."""
        if not self.console.is_terminal:
            yield
            return
        text = TextColumn("{task.description} …", markup=False, table_column=Column(overflow="fold"))
        columns = SpinnerColumn(), text, TimeElapsedColumn()
        with Progress(*columns, console=self.console, transient=True) as progress:
            progress.add_task(what)
            yield

    def notice(self, text: str) -> None:
        """One line."""
        say(self.console, text)

    def planned(self, plan: Plan) -> None:
        """The table before the first step."""
        self.console.print(plan_table(plan))
        say(self.console, *shorter_calls(plan), *while_training(plan, self._out_dir))

    def resuming(self, step: int, changes: Sequence[Change]) -> None:
        """What goes on, from where, and what is different."""
        self.notice(f"Resuming {self.name} from step {step}.")
        if changes:
            self.console.print(changes_table(changes))

    def started(self, step: int, max_iters: int, tokens_per_step: int) -> None:
        """Start the bar in a terminal."""
        self._tokens_per_step = tokens_per_step
        self._last = time.perf_counter()
        if not self.console.is_terminal:
            return
        names = bar_columns(self.console.width, max_iters)
        self._with_rate = "rate" in names
        made = {
            "what": TextColumn("{task.description}"), "bar": BarColumn(bar_width=None), "steps": MofNCompleteColumn(),
            "loss": TextColumn("{task.fields[figures]}"), "elapsed": TimeElapsedColumn(), "left": TextColumn("left"),
            "remaining": TimeRemainingColumn(),
        }  # fmt: skip
        columns = [column for name, column in made.items() if name in names]
        self._bar = Progress(*columns, console=self.console, transient=True)
        self._bar.add_task("training", total=max_iters, completed=step, figures="")
        self._bar.start()

    def stepped(self, step: int, loss: float) -> None:
        """Move the bar, now and then."""
        now = time.perf_counter()
        self._steps_since += 1
        self._seconds += now - self._last
        self._last = now
        if self._bar is None or now - self._updated < REFRESH_S:
            return
        rate = units.count(self._steps_since * self._tokens_per_step / self._seconds)
        self._steps_since, self._seconds, self._updated = 0, 0.0, now
        figures = f"loss {loss:.4f}" + (f" | {rate} tok/s" if self._with_rate else "")
        self._bar.update(self._bar.task_ids[0], completed=step, description="training", figures=figures)

    def evaluating(self, done: int, total: int) -> None:
        """Say in the bar how far the evaluation is."""
        self._last = time.perf_counter()
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], description=f"evaluating {done}/{total}")

    def evaluated(self, event: Eval, max_iters: int, eta_seconds: float) -> None:
        """The two lines of an evaluation."""
        self._last = time.perf_counter()
        for line in eval_lines(event, max_iters, eta_seconds):
            self.notice(line)

    def gold_decided(self, event: GoldCheckpoint | GoldBlocked) -> None:
        """The line of a gold decision."""
        self.notice(gold_line(event))

    def sampled(self, event: Sample) -> None:
        """What the model writes."""
        self._last = time.perf_counter()
        for line in sample_lines(event):
            self.notice(line)

    def saved(self, step: int) -> None:
        """Leave the time of a save out of the speed."""
        del step
        self._last = time.perf_counter()

    def lost(self) -> str | None:
        """What standard output says."""
        return lost_output(self.console.file)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


class ReproduceConsole(ConsoleObserver, ReproduceObserver):
    """Shows a run that is made again: the bar of training, and a line for each comparison."""

    _headed = False

    def begun(self, first: int, last: int, tokens_per_step: int) -> None:
        """A bar for each session."""
        self.close()
        self.started(first, last, tokens_per_step)

    def compared(self, row: Compared) -> None:
        """One line of the table that grows."""
        headings = ("recorded val", "reproduced", "recorded train", "reproduced")
        losses = (row.recorded_val, row.val, row.recorded_train, row.train)
        shown = ["not logged" if loss is None else f"{loss:.6f}" for loss in losses]
        same = "-" if row.recorded_val is None else "yes" if row.same else "NO"
        if self.console.width < _COMPARED:
            self.console.print(
                f"step {row.step}", *map(" ".join, zip(headings, shown, strict=True)), f"same {same}", sep="\n  "
            )
            return
        if not self._headed:
            self._headed = True
            self.notice(f"{'step':>8}" + "".join(f"{h:>16}" for h in headings) + "  same")
        self.notice(f"{row.step:>8}" + "".join(f"{text:>16}" for text in shown) + f"  {same}")
