"""Events of a log: one a row, or as the lines that the run printed, also while it goes on."""

import time
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

from rich.table import Table

from mypt import units
from mypt.cli.render.evaluation import named
from mypt.cli.render.tables import columns_table
from mypt.log.liveness import PATIENCE_S, PATIENT_GAPS, Writer, seconds_since, writer_of
from mypt.log.locate import FoundLog
from mypt.log.messages import eval_lines, evaluation_line, gold_line, remeasured_lines, sample_lines
from mypt.log.reader import whole_bytes
from mypt.log.replay import Replay
from mypt.log.tail import CLOSING_EVENTS, follow
from mypt.schema.files.events import (
    Eval,
    Evaluation,
    GoldBlocked,
    GoldCheckpoint,
    GoldRemeasured,
    Sample,
    eval_sets,
    metrics_of,
)

_LOSSES = {
    "eval": {"val": "val_loss", "±": "val_se", "train": "train_loss", "bpb": "val_bpb"},
    "step": {"train": "loss", "norm": "grad_norm"},
    "gold_checkpoint": {"val": "val_loss"},
    "gold_blocked": {"val": "val_loss"},
    "gold_remeasured": {"val": "val_loss"},
    "training_complete": {"val": "final_val_loss", "train": "final_train_loss"},
    "evaluation": {"loss": "loss", "±": "se", "bpb": "bpb", "perplexity": "perplexity"},
}
"""Figures with four decimals by their headings, and the fields that have them, of each event."""
_ORDER = (
    "step", "day", "time", "session", "run", "event", "val", "±", "train", "loss", "bpb", "perplexity", "lr", "norm",
    "tokens", "tokens/s", "what",
)  # fmt: skip
_TEXTS = ("day", "time", "event", "run", "what")
_SPARE = ("±", "perplexity", "tokens", "norm", "bpb", "day", "run", "tokens/s", "time", "session", "lr")
"""Columns that a narrow terminal does without, the first to go first; then those of eval sets, and train."""
_LEAST = 14
"""How narrow the last column may become."""
CRASHED = "The run ended without a word: no process writes it any more."


def events_table(events: Iterable[dict[str, Any]]) -> Table:
    """Events, one a row, each kind of figure in a column of its own; figures that no event has are no column."""
    rows = [_row(event) for event in events]
    alike = [name for name in ("day", "session", "run", "event") if len({row[name] for row in rows}) < 2]
    sets = list(dict.fromkeys(name for row in rows for name in row if name not in _ORDER))
    place = _ORDER.index("train")
    headings = [
        name
        for name in (*_ORDER[:place], *sets, *_ORDER[place:])
        if name not in alike and any(row.get(name) for row in rows)
    ]
    table = columns_table(
        None, headings, [[row.get(name, "") for name in headings] for row in rows],
        right=[name for name in headings if name not in _TEXTS],
        whole=[name for name in headings if name != "what"],
        spare=(*_SPARE, *sets, "train"),
    )  # fmt: skip
    table.columns[-1].min_width = _LEAST
    return table


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


def _row(event: dict[str, Any]) -> dict[str, str]:
    """An event by the headings of its figures."""
    step = event.get("iter", event.get("total_steps", event.get("config", {}).get("start_step")))
    row = {"step": f"{step:,}", "day": event["timestamp"][:10], "time": event["timestamp"][11:19]}
    row |= {"session": str(event.get("attempt") or ""), "run": (event.get("run_id") or "")[:8], "event": event["event"]}
    row |= {name: _loss(event[field]) for name, field in _LOSSES.get(event["event"], {}).items() if field in event}
    if event["event"] == "eval":
        row |= {name.removeprefix("eval_"): _loss(event[name]) for name in eval_sets(event)}
    if (lr := event.get("lr", event.get("config", {}).get("learning_rate"))) is not None:
        row["lr"] = f"{lr:.2e}"
    if (tokens := event.get("tokens_processed", event.get("total_tokens"))) is not None:
        row["tokens"] = units.count(tokens)
    if (rate := event.get("tokens_per_sec")) is not None:
        row["tokens/s"] = f"{rate:,}"
    return {**row, "what": _what(event)}


def _what(event: dict[str, Any]) -> str:
    """What an event says beyond its figures."""
    match event["event"]:
        case "training_start":
            config = event["config"]
            return f"to step {config['max_iters']:,}, {config['tokens_per_step']:,} tokens a step"
        case "eval":
            return "" if event["phase"] == "main" else f"phase {event['phase']}"
        case "sample":
            return " ".join((event["prompt"] + event["text"]).split())
        case "phase_switch":
            return str(event["new_phase"])
        case "gold_checkpoint":
            return "the first" if event["prev_best"] is None else f"before it {event['prev_best']:.4f}"
        case "gold_remeasured":
            old = "" if event["old_val_loss"] is None else f", gold was {event['old_val_loss']:.4f}"
            return f"{', '.join(event['sets'])}: {event['reason']}{old}"
        case "training_complete":
            gold = "no gold" if event["gold_step"] is None else f"gold at step {event['gold_step']:,}"
            return f"in {units.duration(event['total_elapsed_s'])}, best val {_loss(event['best_val_loss'])}, {gold}"
        case "batch_skipped":
            return "no token counts" if event["loss"] is None else f"loss {event['loss']}"
        case "evaluation":
            metrics = "".join(f", {name} {_loss(value)}" for name, value in metrics_of(event).items())
            return f"{event['bundle']} on {named(event)}{metrics}"
        case _:
            return str(event.get("reason", ""))


def _loss(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
