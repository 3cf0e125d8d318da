"""One run as far as its records can be read: its bundle, its log, or whichever of them there is."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from math import isfinite, isnan
from pathlib import Path
from typing import Any, TypeVar

from mypt.checkpoint.atomic import read_consistently
from mypt.checkpoint.changes import UNTOLD, ValueFrom, changed_between, sessions_of
from mypt.checkpoint.family import record_of
from mypt.checkpoint.files import read_config, read_state, read_tokenizer
from mypt.checkpoint.layout import bundle_path, log_of, log_path
from mypt.checkpoint.manifest import hash_of_weights, read_manifest
from mypt.errors import InputError, MyptError, UsageError
from mypt.log.figures import CurvePoint, Few, StepPoint, Thinned
from mypt.log.history import losses_not_finite
from mypt.log.replay import Branch, Replay, latest_evaluations
from mypt.schema.files.events import eval_sets

CURVE_POINTS = 20_000
"""Evaluations that a curve keeps at most; of a longer run every second, fourth, and so on, and the last."""
Facts = dict[str, Any]
Watcher = Callable[[Facts], None]
T = TypeVar("T")
_OF_NO_SECTION = ("tokens_per_step", "config_file", "input_file", "preset")
_OF_ARCHITECTURE = ("batch_size", "block_size", "dropout")
_OF_DATA = {
    "fingerprint": "fingerprint", "masked": "masked", "tokenization": "tokenizer", "tokenizer_size": "tokenizer_size",
    "dataset_dir": "dataset_dir", "sampling": "sampling", "device": "device", "processes": "processes",
}  # fmt: skip
"""Where the settings of a log's `training_start` stand in a comparison, if not among those of training."""


@dataclass(kw_only=True)
class RunRecord:
    """One run as far as its records can be read.

    Attributes:
        label: how the call names it.
        architecture: config.json, or what the log says of it.
        training: the settings in force at the end.
        changed: settings and circumstances that did not stay the same through all sessions, with every value.
        data: what it was trained and measured on, and where it ran.
        results: figures, by name; None where they are unknown.
        curve: the evaluations of the live branch, thinned out where they are more than `CURVE_POINTS`.
        gold: steps of the evaluations that became gold.
        blocked: steps of those that a guard blocked.
        phases: name and first step of each phase after the first.
        missing: sentences on what could not be read.
        evaluations: what `mypt evaluate` found of the bundle's weights; of the same text or task only the latest.
        steps: the single steps of the live branch, where they were logged, thinned out as the curve.
        partial: whether its log alone is there, which does not tell everything.
    """

    label: str
    architecture: Facts = field(default_factory=dict)
    training: Facts = field(default_factory=dict)
    changed: dict[str, list[ValueFrom]] = field(default_factory=dict)
    data: Facts = field(default_factory=dict)
    results: Facts = field(default_factory=dict)
    curve: list[CurvePoint] = field(default_factory=list)
    gold: list[int] = field(default_factory=list)
    blocked: list[int] = field(default_factory=list)
    phases: list[tuple[str, int]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    evaluations: list[Facts] = field(default_factory=list)
    steps: list[StepPoint] = field(default_factory=list)
    partial: bool = False

    def facts(self, section: str) -> Facts:
        """The facts of a section, each that changed with all its values and the steps from which they held."""
        return {name: self.changed.get(name, value) for name, value in getattr(self, section).items()}


def read_run(name: str, out_dir: Path, also: Watcher | None = None) -> RunRecord:
    """Read one run from its bundle and its log, or from whichever of them there is.

    Args:
        name: of a bundle or a log, or the path of one.
        out_dir: the folder of bundles.
        also: gets every event on the way to the bundle, those too that a later session superseded.

    Raises:
        UsageError: there is neither.
    """
    if Path(name).suffix == ".jsonl" and Path(name).is_file():
        run = _bundle_of_log(Path(name), out_dir) or RunRecord(label=Path(name).stem)
        return _from_log(run, Path(name), None, also=also)
    try:
        path = bundle_path(name, out_dir)
    except UsageError:
        if log_path(name).is_file():
            return _from_log(RunRecord(label=name, missing=[f"{name} has no bundle."]), log_path(name), None, also=also)
        raise
    (run, log, run_id, upto), model_sha256 = read_consistently(lambda p: (_from_bundle(p), _model_sha256(p)), path)
    log = log or log_path(path.name)
    if not log.is_file():
        if "imported" not in run.data:
            run.missing.append(f"The log {log} is not here.")
        return run
    if model_sha256 is not None:
        with _unreadable_noted(run):
            run.evaluations = latest_evaluations(log, model_sha256)
    return _from_log(run, log, run_id, upto, also)


def _bundle_of_log(log: Path, out_dir: Path) -> RunRecord | None:
    """What the bundle says whose run the last one of a log is, if it is here; how that went the log itself knows."""
    bundle = out_dir / log.name.removesuffix(log_path("").name)
    state = record_of(bundle)
    recorded = log_of(bundle, state) if state is not None else None
    if state is None or recorded is None or not recorded.is_file() or not recorded.samefile(log):
        return None
    with suppress(InputError):
        if Replay(log).run_id == state.run_id:
            return replace(_from_bundle(bundle)[0], label=log.stem, results={})
    return None


def _model_sha256(path: Path) -> str | None:
    """The recorded hash of a bundle's weights."""
    with suppress(MyptError):
        return hash_of_weights(read_manifest(path))
    return None


def _from_bundle(path: Path) -> tuple[RunRecord, Path | None, str | None, Branch | None]:
    """What a bundle itself says, the log it names, the run it is of, and how far this had come."""
    run, log, run_id, upto = RunRecord(label=path.name), None, None, None
    with _unreadable_noted(run):
        state = read_state(path)
        content = state.model_dump(mode="json")
        if state.imported is None:
            run.training = _chosen(content["training_config"])
            run.changed = changed_between(sessions_of(state))
        if state.optimizer is not None:
            run.training["optimizer"] = "; ".join(state.optimizer.lines())
        run.data = _data_facts(content)
        log, run_id, upto = log_of(path, state), state.run_id, Branch.to(state)
        progress = state.progress
        run.results = {
            "step": state.step, "tokens": progress.tokens_processed, "best_val_loss": progress.best_val_loss,
            "final_val_loss": progress.last_val_loss, "best_val_bpb": progress.best_val_bpb,
            "final_val_bpb": progress.last_val_bpb, "gold_step": progress.gold.step,
        }  # fmt: skip
    with _unreadable_noted(run):
        untold = {"device", "batch_size"} if "imported" in run.data else {"device"}
        run.architecture = {n: v for n, v in read_config(path).model_dump().items() if n not in untold}
    with _unreadable_noted(run):
        file = read_tokenizer(path)
        run.data |= {"tokenizer": file.token_kind, "tokenizer_size": file.vocab_size}
    return run, log, run_id, upto


def _chosen(settings: Facts) -> Facts:
    """What was chosen, without what each run measures anew, of which no two are alike."""
    return {n: v for n, v in settings.items() if n not in UNTOLD or n == "start_step"}


@contextmanager
def _unreadable_noted(run: RunRecord) -> Iterator[None]:
    try:
        yield
    except MyptError as error:
        run.missing.append(error.what)


def _data_facts(state: Facts) -> Facts:
    """What a training state says of data and circumstances, flat."""
    data, environment = state["data"] or {}, state["environment"] or {}
    told = ("fingerprint", "dataset_dir", "sampling", "masked", "train_tokens", "val_tokens")
    facts = {n: data[n] for n in told if n in data}
    facts["eval_sets"] = {name: record["fingerprint"] for name, record in state["eval_sets"].items()}
    facts["phases"] = [phase["name"] for phase in state["curriculum"]]
    facts["parent"] = f"{state['parent']['name']} at step {state['parent']['step']}" if state["parent"] else None
    facts |= {name: state[name] for name in ("tags", "note") if state[name]}
    if state["imported"]:
        facts["imported"] = state["imported"]["path"]
    return facts | environment


def _from_log(
    run: RunRecord, path: Path, run_id: str | None, upto: Branch | None = None, also: Watcher | None = None
) -> RunRecord:
    """Add what the log knows of a branch: the curve, standard errors, eval sets, time, rates and blocks."""
    try:
        replay = Replay(path, run_id, upto=upto)
    except InputError as error:
        run.missing.append(error.what)
        return run
    found = _LiveEvents()
    for event, is_live in replay.events():
        if also is not None:
            also(event)
        if is_live:
            found.add(event)
    run.missing += replay.unread
    if found.start and not run.architecture:
        _tell_start(run, found)
    if found.last is None:
        run.missing.append(f"{path} has no evaluation of this run.")
        return run
    run.missing += found.remarks
    if found.not_finite.count:
        run.missing.append(_not_finite_told(found.not_finite))
    run.gold, run.blocked, run.phases, run.curve = found.gold, found.blocked, found.phases, found.curve.all()
    run.steps = _placed(found.steps.all(), found.first_step, run.curve)
    told = {name: value for name, value in run.results.items() if value is not None}
    best, last = found.best or {}, found.last
    run.results = {
        "step": last["iter"], "tokens": last["tokens_processed"], "best_val_loss": best.get("val_loss"),
        "best_val_se": best.get("val_se"), "final_val_loss": last["val_loss"], "final_val_se": last.get("val_se"),
        "best_val_bpb": best.get("val_bpb"), "final_val_bpb": last.get("val_bpb"), **told,
        **{key: last[key] for key in eval_sets(last)},
        "seconds": run.curve[-1].seconds,
        "tokens_per_sec": last.get("tokens_per_sec") or (found.complete or {}).get("tokens_per_sec"),
        "gold_step": run.gold[-1] if run.gold else None,
        "gold_blocks": len(run.blocked),
    }  # fmt: skip
    run.results = {name: _finite(value) for name, value in run.results.items()}
    return run


def _tell_start(run: RunRecord, found: "_LiveEvents") -> None:
    """What a log says of its run itself, in the sections in which a bundle has it."""
    assert found.start is not None
    config = {n: v for n, v in found.start["config"].items() if n not in _OF_NO_SECTION}
    run.architecture = {n: v for n, v in found.start["model"].items() if n != "total_params"}
    run.architecture |= {n: config.pop(n) for n in _OF_ARCHITECTURE if n in config}
    data = {name: config.pop(n) for n, name in _OF_DATA.items() if n in config}
    if data.get("fingerprint") is None:  # of an earlier version
        data = {n: v for n, v in data.items() if v is not None}
    run.data, run.training, run.partial = data | run.data, _chosen(config), True
    run.changed = changed_between(found.sessions)


def _not_finite_told(steps: Few[int]) -> str:
    """The sentence on evaluations of which a loss was not finite."""
    shown = [f"{step:,}" for step in (*steps.first, *steps.last)]
    if steps.count == 1:
        return f"A loss was not finite at step {shown[0]}."
    if steps.count > len(shown):
        shown.insert(len(steps.first), "…")
    return f"A loss was not finite at {steps.count:,} evaluations, of the steps {', '.join(shown)}."


def _finite(value: T) -> T | None:
    """None in place of a number that is not finite."""
    return None if isinstance(value, float) and not isfinite(value) else value


class _LiveEvents:
    """What is kept of a run's live events while they pass by, however many they are."""

    def __init__(self) -> None:
        self.first_step = 0
        self.start: Facts | None = None
        self.sessions: list[tuple[int, Facts]] = []
        self.best: Facts | None = None
        self.last: Facts | None = None
        self.complete: Facts | None = None
        self.gold: list[int] = []
        self.blocked: list[int] = []
        self.phases: list[tuple[str, int]] = []
        self.not_finite = Few[int]()
        self.remarks: list[str] = []
        self.curve = Thinned[CurvePoint](CURVE_POINTS)
        self.steps = Thinned[tuple[int, float]](CURVE_POINTS)
        self._before = self._elapsed = 0.0

    def add(self, event: Facts) -> None:
        """Take in the next event."""
        name = event["event"]
        if name == "training_start":
            self.first_step = self.first_step if self.start else event["config"]["start_step"]
            self.start = event
            self.sessions.append((event["config"]["start_step"], event["config"]))
            self._before, self._elapsed = self._before + self._elapsed, 0.0
        self._elapsed = event.get("elapsed_s", self._elapsed)
        if name == "eval":
            self._eval(event)
        elif name == "step":
            self.steps.add((event["iter"], event["loss"]))
        elif name == "gold_checkpoint":
            self.gold.append(event["iter"])
        elif name == "gold_blocked":
            self.blocked.append(event["iter"])
        elif name == "gold_remeasured":
            self._measured_otherwise(event)
        elif name == "phase_switch":
            self.phases.append((event["new_phase"], event["iter"]))
        elif name == "training_complete":
            self.complete = event

    def _measured_otherwise(self, event: Facts) -> None:
        self.remarks.append(
            f"From step {event['iter']:,} on losses are measured otherwise than before: {event['reason']}."
        )
        if "val" in event["sets"]:
            self.best = None

    def _eval(self, event: Facts) -> None:
        again = self.last is not None and self.last["iter"] == event["iter"]
        self.last = event
        if losses_not_finite(event):
            self.not_finite.add(event["iter"])
        if self.best is None or event["val_loss"] < self.best["val_loss"] or isnan(self.best["val_loss"]):
            self.best = event
        self.curve.add(
            CurvePoint(
                step=event["iter"],
                tokens=event["tokens_processed"],
                seconds=self._before + self._elapsed,  # `elapsed_s` counts from the start of its session
                val_loss=_finite(event["val_loss"]),
                train_loss=_finite(event.get("train_loss")),
                lr=event.get("lr"),
            ),
            instead=again,
        )


def _placed(steps: Sequence[tuple[int, float]], first_step: int, curve: Sequence[CurvePoint]) -> list[StepPoint]:
    """Steps and their losses, with the tokens and the time of the evaluations around them, in proportion."""
    share = first_step / curve[0].step if curve[0].step else 0.0
    places = [(first_step, curve[0].tokens * share, 0.0), *((p.step, float(p.tokens), p.seconds) for p in curve)]
    points, i = [], 0
    for step, loss in steps:
        while i + 2 < len(places) and places[i + 1][0] < step:
            i += 1
        (step_0, tokens_0, seconds_0), (step_1, tokens_1, seconds_1) = places[i], places[i + 1]
        share = (step - step_0) / max(1, step_1 - step_0)  # above 1 after the last evaluation
        tokens, seconds = tokens_0 + (tokens_1 - tokens_0) * share, seconds_0 + (seconds_1 - seconds_0) * share
        points.append(StepPoint(step=step, tokens=tokens, seconds=seconds, loss=loss))
    return points
