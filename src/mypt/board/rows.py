"""The line of a run in the table: its record, and the last words of its log."""

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any, TypeVar

from mypt.board.places import Places, RunPlace
from mypt.log.reader import LineParser, SkippedLines, reading
from mypt.log.tail import CLOSING_EVENTS
from mypt.visible import visible

TAIL_BYTES = 1 << 14
TAIL_BYTES_ALONE = 1 << 20
"""What is read of the end of a log, and of one whose run has no record that tells the rest."""
T = TypeVar("T")


@dataclass(kw_only=True)
class Row:
    """One run, as the table shows it; None for what is unknown.

    Attributes:
        state: as `mypt logs summarize` has it, `imported` for a model that no run made, or `damaged`.
        why: what ended the run, or what is wrong with it.
        eta_s: seconds until `max_iters`, at the pace of this session.
        val: val loss of the last evaluation; `best_val` is the lowest.
        bytes: of its bundles and its log.
        last_word: local time of the last event, or of the last save.
        tags: what the run is looked for by.
    """

    id: str
    name: str
    state: str
    why: str | None = None
    step: int | None = None
    max_iters: int | None = None
    tokens: int | None = None
    eta_s: float | None = None
    val: float | None = None
    best_val: float | None = None
    bpb: float | None = None
    tokens_per_sec: float | None = None
    bytes: int = 0
    last_word: str | None = None
    has_log: bool = False
    tags: list[str] = field(default_factory=list)


def rows_by_bundle(out_dir: Path) -> dict[str, Row]:
    """The line of the run of each bundle of a folder."""
    return {part.name: row for place in Places(out_dir).find() for row in [row_of(place)] for part in place.parts}


def row_of(place: RunPlace) -> Row:
    """Read the line of a run."""
    row = Row(id=place.id, name=visible(place.name), state="unfinished", has_log=place.log is not None)
    row.bytes = sum(map(_size, place.parts)) + (_size(place.log) if place.log else 0)
    if place.state is not None:
        _from_record(row, place)
    elif place.fault:
        row.why = visible(place.fault)
    if place.log is not None and place.upto is None:
        _from_tail(row, place, last_events(place.log, place.run_id, alone=place.state is None))
    if place.fault:
        row.state = "damaged"
    elif place.state is not None and place.state.imported:
        row.state = "imported"
    if row.state != "running":
        row.eta_s = None
    return row


def last_events(log: Path, run_id: str | None, *, alone: bool) -> list[dict[str, Any]]:
    """The events of a run among the last bytes of its log; of its last run where none is named."""
    parser = LineParser(SkippedLines())
    with reading(log) as file:
        size = file.seek(0, os.SEEK_END)
        start = max(0, size - (TAIL_BYTES_ALONE if alone else TAIL_BYTES))
        file.seek(start)
        if start:
            file.readline()  # which began before
        events = [event for line in file if (event := parser.parse(line)) is not None]
    wanted = events[-1].get("run_id") if run_id is None and events else run_id
    return [event for event in events if event.get("run_id") == wanted]


def _from_record(row: Row, place: RunPlace) -> None:
    state = place.state
    assert state is not None
    progress = state.progress
    row.step, row.max_iters, row.tokens = state.step, state.training_config.max_iters, progress.tokens_processed
    row.val, row.best_val, row.bpb = progress.last_val_loss, progress.best_val_loss, progress.last_val_bpb
    row.val, row.best_val, row.bpb = map(_number, (row.val, row.best_val, row.bpb))
    row.last_word, row.tags = state.saved_at, [*state.tags]


def _from_tail(row: Row, place: RunPlace, events: list[dict[str, Any]]) -> None:
    """What the log knows better than the record, which is as old as the last save."""
    told = [event for event in events if event["event"] != "evaluation"]
    row.state = {True: "running", False: "crashed", None: "unfinished"}[place.writer.alive]
    if not told:
        return
    last, start = told[-1], _last(told, "training_start")
    row.last_word = last["timestamp"]
    if start is not None:
        row.max_iters = start["config"]["max_iters"]
    if last["event"] in CLOSING_EVENTS:
        row.state = "complete" if last["event"] == "training_complete" else "stopped"
        row.why = last.get("reason")
    counted = last.get("total_steps", last.get("iter"))
    row.step = start["config"]["start_step"] if counted is None and start is not None else counted
    evaluated, step = _last(told, "eval"), _last(told, "step")
    if evaluated is not None:
        row.val, row.bpb = _number(evaluated["val_loss"]), _number(evaluated.get("val_bpb"))
        losses = [e["val_loss"] for e in told if e["event"] == "eval" and isfinite(e["val_loss"])]
        if place.state is None:
            row.best_val = min(losses, default=None)
    for event in (step, evaluated, last):
        row.tokens_per_sec = (event or {}).get("tokens_per_sec") or row.tokens_per_sec
        row.tokens = (event or {}).get("tokens_processed") or (event or {}).get("total_tokens") or row.tokens
    row.eta_s = _eta(row, place, start, evaluated)


def _eta(row: Row, place: RunPlace, start: dict[str, Any] | None, evaluated: dict[str, Any] | None) -> float | None:
    """What is left, at the pace of the session up to its last evaluation, or of its last steps before the first."""
    begun = place.state.training_config.start_step if place.state is not None else 0
    begun = start["config"]["start_step"] if start is not None else begun
    if row.max_iters is None or row.step is None or row.step > row.max_iters:
        return None
    left = row.max_iters - row.step
    if evaluated is not None and evaluated["iter"] > begun:
        return float(left * evaluated["elapsed_s"] / (evaluated["iter"] - begun))
    per_step = start["config"]["tokens_per_step"] if start is not None else None
    if per_step is None and place.state is not None and place.state.step:
        per_step = place.state.progress.tokens_processed / place.state.step
    if per_step is not None and row.tokens_per_sec:
        return float(left * per_step / row.tokens_per_sec)
    return None


def _last(events: Iterable[dict[str, Any]], name: str) -> dict[str, Any] | None:
    found = None
    for event in events:
        found = event if event["event"] == name else None if event["event"] == "training_start" else found
    return found


def _number(value: float | None) -> float | None:
    return value if value is not None and isfinite(value) else None


def _size(path: Path) -> int:
    """Bytes of a file, or of the files of a folder."""
    with suppress(OSError):
        if path.is_dir():
            return sum(entry.stat().st_size for entry in os.scandir(path) if entry.is_file())
        return path.stat().st_size
    return 0
