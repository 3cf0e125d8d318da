"""Events of a log: one a row, or as the lines that the run printed, also while it goes on."""

from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from mypt.checkpoint.lock import is_abandoned
from mypt.cli.render.tables import columns_table
from mypt.log.messages import eval_lines, gold_line
from mypt.log.reader import whole_bytes
from mypt.log.replay import Replay
from mypt.log.tail import CLOSING_EVENTS, follow
from mypt.schema.files.events import Eval, GoldBlocked, GoldCheckpoint

CRASHED = "The run ended without a word: no process writes it any more."


def events_table(events: Iterable[dict[str, Any]]) -> Table:
    """Events, one a row."""
    whole = ("step", "time", "event")
    return columns_table(None, (*whole, "what"), map(_row, events), right=("step",), whole=whole)


class Follower:
    """Turns the events of a run into the lines that it printed.

    Args:
        path: the log.
        run_id: which run of it; the last one that started where nothing is said.
        last: evaluations to begin with.
        bundle: the folder that the run writes to, which tells whether it is still going on.
    """

    def __init__(self, path: Path, run_id: str | None, last: int, bundle: Path | None = None) -> None:
        self.path = path
        self.run_id = run_id
        self.last = last
        self.bundle = bundle
        self._start_step, self._max_iters = 0, 0

    def lines(self, on: bool) -> Iterator[str]:
        """The lines of the last evaluations and all after them; if `on`, also those to come until the run ends."""
        offset = whole_bytes(self.path)
        replay = Replay(self.path, self.run_id, offset)
        recent: deque[list[str]] = deque(maxlen=self.last)
        ended = False
        for event in replay.live():
            lines = list(self._told(event))
            ended = event["event"] in CLOSING_EVENTS
            if event["event"] == "eval" or not recent:
                recent.append(lines)
            else:
                recent[-1] += lines
        yield from (line for lines in recent for line in lines)
        for event in follow(self.path, offset, replay.run_id, self.bundle) if on and not ended else ():
            yield from self._told(event)
            ended = event["event"] in CLOSING_EVENTS
        if not ended and is_abandoned(self.bundle):
            yield CRASHED

    def _told(self, event: dict[str, Any]) -> Iterator[str]:
        match event["event"]:
            case "training_start":
                self._start_step, self._max_iters = event["config"]["start_step"], event["config"]["max_iters"]
            case "eval":
                done = max(1, event["iter"] - self._start_step)
                goal = self._max_iters or event["iter"]
                left = event["elapsed_s"] / done * max(0, goal - event["iter"])
                yield from eval_lines(Eval.model_validate(event), max(1, goal), left)
            case "gold_checkpoint":
                yield gold_line(GoldCheckpoint.model_validate(event))
            case "gold_blocked":
                yield gold_line(GoldBlocked.model_validate(event))
            case "training_stopped":
                yield f"Training stopped at step {event['iter']} ({event['reason']})."
            case "training_complete":
                yield f"Training complete at step {event['total_steps']}."


def _row(event: dict[str, Any]) -> tuple[str, ...]:
    step = event.get("iter", event.get("total_steps", event.get("config", {}).get("start_step")))
    when = event["timestamp"][:19].replace("T", " ")
    return f"{step:,}", escape(when), event["event"], escape(", ".join(_what(event)))


def _what(event: dict[str, Any]) -> list[str]:
    """What an event says beyond step and time."""
    if event["event"] == "training_start":
        config = event["config"]
        return [f"to step {config['max_iters']:,}", *(f"{n} {config[n]}" for n in ("learning_rate",) if n in config)]
    left_out = {"event", "iter", "timestamp", "run_id", "attempt", "progress_pct", "windows", "started_at"}
    return [f"{n} {v}" for n, v in event.items() if n not in left_out and v is not None]
