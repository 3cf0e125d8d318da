"""Events of a log: one a row, or as the lines that the run printed, also while it goes on."""

import time
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

from rich.table import Table

from mypt import units
from mypt.cli.render.tables import columns_table
from mypt.log.liveness import PATIENCE_S, PATIENT_GAPS, Writer, seconds_since, writer_of
from mypt.log.locate import FoundLog
from mypt.log.messages import eval_lines, evaluation_line, gold_line, remeasured_lines, sample_lines
from mypt.log.reader import whole_bytes
from mypt.log.replay import Replay
from mypt.log.tail import CLOSING_EVENTS, follow
from mypt.schema.files.events import Eval, Evaluation, GoldBlocked, GoldCheckpoint, GoldRemeasured, Sample

CRASHED = "The run ended without a word: no process writes it any more."


def events_table(events: Iterable[dict[str, Any]]) -> Table:
    """Events, one a row."""
    whole = ("step", "time", "event")
    return columns_table(None, (*whole, "what"), map(_row, events), right=("step",), whole=whole)


class Follower:
    """Turns the events of a run into the lines that it printed.

    Args:
        log: which one, and which run of it; the last one that started where it does not say.
        last: evaluations to begin with.
    """

    def __init__(self, log: FoundLog, last: int) -> None:
        self.log = log
        self.last = last
        self._start_step, self._max_iters = 0, 0
        self._elapsed = self._longest_gap = self._silent = 0.0
        self._writer = Writer(None)

    def lines(self, on: bool) -> Iterator[str]:
        """The lines of the last evaluations and all after them; if `on`, also those to come until the run ends."""
        log, on = self.log, on and self.log.upto is None  # nothing more comes to what others go on from
        offset = whole_bytes(log.path)
        replay = Replay(log.path, log.run_id, offset, log.upto)
        recent: deque[list[str]] = deque(maxlen=self.last)
        ended, word = False, ""
        for event in replay.live():
            lines = list(self._told(event))
            if event["event"] != "evaluation":  # no word of the run
                word, ended = event["timestamp"], event["event"] in CLOSING_EVENTS
            if event["event"] == "eval" or not recent:
                recent.append(lines)
            else:
                recent[-1] += lines
        yield from (line for lines in recent for line in lines)
        over = self._is_over(self._silence(word))
        for event in follow(log.path, offset, replay.run_id, self._is_over, self._silent) if on and not ended else ():
            yield from self._told(event)
            ended = event["event"] in CLOSING_EVENTS
        if not ended and log.upto is None and (on or over):
            yield CRASHED if self._writer.alive is False else self._silence_told()

    def _silence(self, word: str) -> float:
        """Seconds since the last word: by the log's own time, or by that of its file where the clocks differ."""
        by_file = max(0.0, time.time() - self.log.path.stat().st_mtime)
        by_word = seconds_since(word)
        return by_file if by_word is None else min(by_word, by_file)

    def _is_over(self, silent_s: float) -> bool:
        """Whether nothing more is to be expected of a run that has said nothing for so long."""
        self._silent, self._writer = silent_s, writer_of(self.log.bundle)
        if self._writer.alive is None:
            return silent_s > max(PATIENCE_S, PATIENT_GAPS * self._longest_gap)
        return not self._writer.alive

    def _silence_told(self) -> str:
        of = f" from {self._writer.host}" if self._writer.host else ""
        return f"No word{of} for {units.duration(self._silent)}; from here it cannot be told whether the run goes on."

    def _told(self, event: dict[str, Any]) -> Iterator[str]:
        elapsed = 0.0 if event["event"] == "training_start" else event.get("elapsed_s", self._elapsed)
        self._longest_gap, self._elapsed = max(self._longest_gap, elapsed - self._elapsed), elapsed
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
            case "gold_remeasured":
                yield from remeasured_lines(GoldRemeasured.model_validate(event))
            case "sample":
                yield from sample_lines(Sample.model_validate(event))
            case "evaluation":
                yield evaluation_line(Evaluation.model_validate(event))
            case "training_stopped":
                yield f"Training stopped at step {event['iter']} ({event['reason']})."
            case "training_complete":
                yield f"Training complete at step {event['total_steps']}."


def _row(event: dict[str, Any]) -> tuple[str, ...]:
    step = event.get("iter", event.get("total_steps", event.get("config", {}).get("start_step")))
    when = event["timestamp"][:19].replace("T", " ")
    return f"{step:,}", when, event["event"], ", ".join(_what(event))


def _what(event: dict[str, Any]) -> list[str]:
    """What an event says beyond step and time."""
    if event["event"] == "training_start":
        config = event["config"]
        return [f"to step {config['max_iters']:,}", *(f"{n} {config[n]}" for n in ("learning_rate",) if n in config)]
    if event["event"] == "sample":
        return [" ".join((event["prompt"] + event["text"]).split())]
    left_out = {"event", "measures", "iter", "timestamp", "run_id", "attempt", "progress_pct", "windows", "started_at"}
    left_out |= {"weights_sha256", "model_sha256", "sha256"}
    return [f"{n} {v}" for n, v in event.items() if n not in left_out and v is not None]
