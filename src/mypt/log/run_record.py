"""One run as far as its records can be read: its bundle, its log, or whichever of them there is."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mypt.checkpoint.atomic import read_consistently
from mypt.checkpoint.files import read_config, read_state, read_tokenizer
from mypt.checkpoint.layout import bundle_path, log_of, log_path
from mypt.errors import BundleError, InputError, MyptError, UsageError
from mypt.log.live import find_branch, live_events
from mypt.log.reader import PassedOver

CURVE_POINTS = 20_000
"""Evaluations that a curve keeps at most; of a longer run every second, fourth, and so on, and the last."""
_FIGURES = ("amp_reason",)
"""What a record says of a setting beside its value; measured anew by each run, so no two are alike."""
Facts = dict[str, Any]


@dataclass(kw_only=True)
class Point:
    """One evaluation: where it was made, in three measures, and what it found."""

    step: int
    tokens: int
    seconds: float
    val_loss: float
    train_loss: float | None = None
    lr: float | None = None


@dataclass(kw_only=True)
class RunView:
    """One run as far as its records can be read.

    Attributes:
        label: how the call names it.
        architecture: config.json, or what the log says of it.
        training: the settings in force at the end.
        data: what it was trained and measured on, and where it ran.
        results: figures, by name; None where they are unknown.
        curve: the evaluations of the live branch, thinned out where they are more than `CURVE_POINTS`.
        gold: steps of the evaluations that became gold.
        blocked: steps of those that a guard blocked.
        phases: name and first step of each phase after the first.
        missing: sentences on what could not be read.
    """

    label: str
    architecture: Facts = field(default_factory=dict)
    training: Facts = field(default_factory=dict)
    data: Facts = field(default_factory=dict)
    results: Facts = field(default_factory=dict)
    curve: list[Point] = field(default_factory=list)
    gold: list[int] = field(default_factory=list)
    blocked: list[int] = field(default_factory=list)
    phases: list[tuple[str, int]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def view(name: str, out_dir: Path) -> RunView:
    """Read one run from its bundle and its log, or from whichever of them there is.

    Raises:
        UsageError: there is neither.
    """
    if Path(name).suffix == ".jsonl" and Path(name).is_file():
        return _from_log(RunView(label=Path(name).stem), Path(name), None)
    try:
        path = bundle_path(name, out_dir)
    except UsageError:
        if log_path(name).is_file():
            return _from_log(RunView(label=name, missing=[f"{name} has no bundle."]), log_path(name), None)
        raise
    run, log, run_id = read_consistently(_from_bundle, path)
    log = log or log_path(path.name)
    if not log.is_file():
        run.missing.append(f"The log {log} is not here.")
        return run
    return _from_log(run, log, run_id)


def _from_bundle(path: Path) -> tuple[RunView, Path | None, str | None]:
    """What a bundle itself says, the log it names, and the run it is of."""
    run, log, run_id = RunView(label=path.name), None, None
    try:
        state = read_state(path)
        run.training = {n: v for n, v in state.training_config.model_dump(mode="json").items() if n not in _FIGURES}
        run.data = _data_facts(state.model_dump(mode="json"))
        log, run_id = log_of(path, state), state.run_id
        progress = state.progress
        run.results = {
            "step": state.step, "tokens": progress.tokens_processed, "best_val_loss": progress.best_val_loss,
            "final_val_loss": progress.last_val_loss, "best_val_bpb": progress.best_val_bpb,
            "final_val_bpb": progress.last_val_bpb, "gold_step": progress.gold.step,
        }  # fmt: skip
    except BundleError as error:
        run.missing.append(error.what)
    for read in (_config_facts, _tokenizer_facts):
        try:
            read(run, path)
        except MyptError as error:
            run.missing.append(error.what)
    return run, log, run_id


def _config_facts(run: RunView, path: Path) -> None:
    run.architecture = {n: v for n, v in read_config(path).model_dump().items() if n != "device"}


def _tokenizer_facts(run: RunView, path: Path) -> None:
    file = read_tokenizer(path)
    run.data |= {"tokenizer": file.token_kind, "tokenizer_size": file.vocab_size}


def _data_facts(state: Facts) -> Facts:
    """What a training state says of data and circumstances, flat."""
    data, environment = state["data"] or {}, state["environment"] or {}
    facts = {n: data[n] for n in ("fingerprint", "dataset_dir", "sampling", "masked") if n in data}
    facts |= {n: data[n] for n in ("train_tokens", "val_tokens") if n in data}
    facts["eval_sets"] = {name: record["fingerprint"] for name, record in state["eval_sets"].items()}
    facts["phases"] = [phase["name"] for phase in state["curriculum"]]
    facts["parent"] = f"{state['parent']['name']} at step {state['parent']['step']}" if state["parent"] else None
    return facts | environment


def _from_log(run: RunView, path: Path, run_id: str | None) -> RunView:
    """Add what the log knows: the curve, standard errors, eval sets, time, rates and blocks."""
    passed, reading = PassedOver(), _Reading()
    try:
        branch = find_branch(path, run_id)
    except InputError as error:
        run.missing.append(error.what)
        return run
    for event in live_events(path, branch, passed):
        reading.take(event)
    if passed.total:
        run.missing.append(f"{passed.total} lines of {path} could not be read.")
    if reading.start and not run.architecture:
        run.architecture, run.training = dict(reading.start["model"]), dict(reading.start["config"])
    if reading.last is None or reading.best is None:
        run.missing.append(f"{path} has no evaluation of this run.")
        return run
    run.gold, run.blocked, run.phases, run.curve = reading.gold, reading.blocked, reading.phases, reading.whole_curve()
    told = {name: value for name, value in run.results.items() if value is not None}
    best, last = reading.best, reading.last
    run.results = {
        "step": last["iter"], "tokens": last["tokens_processed"], "best_val_loss": best["val_loss"],
        "best_val_se": best.get("val_se"), "final_val_loss": last["val_loss"], "final_val_se": last.get("val_se"),
        "best_val_bpb": best.get("val_bpb"), "final_val_bpb": last.get("val_bpb"), **told,
        **{k: last[k] for k in last if k.startswith("eval_") and k != "eval_duration_s"},
        "seconds": run.curve[-1].seconds,
        "tokens_per_sec": reading.complete["tokens_per_sec"] if reading.complete else None,
        "gold_step": run.gold[-1] if run.gold else None,
        "gold_blocks": len(run.blocked),
    }  # fmt: skip
    run.results |= {"best_val_se": best.get("val_se"), "final_val_se": last.get("val_se")}
    return run


class _Reading:
    """What is kept of a run's live events while they pass by, however many they are."""

    def __init__(self) -> None:
        self.start: Facts | None = None
        self.best: Facts | None = None
        self.last: Facts | None = None
        self.complete: Facts | None = None
        self.gold: list[int] = []
        self.blocked: list[int] = []
        self.phases: list[tuple[str, int]] = []
        self._curve: list[Point] = []
        self._evals, self._stride = 0, 1
        self._before = self._elapsed = self._last_at = 0.0

    def take(self, event: Facts) -> None:
        """Note one event."""
        name = event["event"]
        if name == "training_start":
            self.start = event
            self._before, self._elapsed = self._before + self._elapsed, 0.0
        self._elapsed = event.get("elapsed_s", self._elapsed)
        if name == "eval":
            self._evaluation(event)
        elif name == "gold_checkpoint":
            self.gold.append(event["iter"])
        elif name == "gold_blocked":
            self.blocked.append(event["iter"])
        elif name == "phase_switch":
            self.phases.append((event["new_phase"], event["iter"]))
        elif name == "training_complete":
            self.complete = event

    def whole_curve(self) -> list[Point]:
        """The points that were kept, and the last evaluation."""
        missing = self.last is not None and self._curve[-1].step != self.last["iter"]
        return [*self._curve, _point(self.last, self._last_at)] if self.last and missing else self._curve

    def _evaluation(self, event: Facts) -> None:
        self.last, self._last_at = event, self._before + self._elapsed
        if self.best is None or event["val_loss"] < self.best["val_loss"] or math.isnan(self.best["val_loss"]):
            self.best = event
        if self._evals % self._stride == 0:
            self._curve.append(_point(event, self._last_at))
        self._evals += 1
        if len(self._curve) > CURVE_POINTS:
            self._curve, self._stride = self._curve[::2], self._stride * 2


def _point(event: Facts, seconds: float) -> Point:
    """An evaluation; `elapsed_s` counts from the start of its session, so `seconds` adds the sessions up."""
    return Point(
        step=event["iter"], tokens=event["tokens_processed"], seconds=seconds,
        val_loss=event["val_loss"], train_loss=event.get("train_loss"), lr=event.get("lr"),
    )  # fmt: skip
