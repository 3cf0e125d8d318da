"""What differs between runs, whether their losses compare at all, and which is better beyond the noise."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from mypt.record.bundle import bundle_path, log_of, log_path, read_config, read_state, read_tokenizer
from mypt.record.log import read_log
from mypt.schema.errors import BundleError, MyptError, UsageError

NOISE = 2.0
"""Standard errors by which two losses have to differ before one is called better."""
Verdict = Literal["comparable", "comparable in bits per byte only", "not comparable"]
Facts = dict[str, Any]


class Point(BaseModel):
    """One evaluation: where it was made, in three measures, and what it found."""

    step: int
    tokens: int
    seconds: float
    val_loss: float
    train_loss: float | None = None
    lr: float | None = None


class RunView(BaseModel):
    """One run as far as its records can be read.

    Attributes:
        label: how the call names it.
        architecture: config.json, or what the log says of it.
        training: the settings in force at the end.
        data: what it was trained and measured on, and where it ran.
        results: figures, by name; None where they are unknown.
        curve: every evaluation of the live branch.
        gold: steps of the evaluations that became gold.
        blocked: steps of those that a guard blocked.
        phases: name and first step of each phase after the first.
        missing: sentences on what could not be read.
    """

    label: str
    architecture: Facts = {}
    training: Facts = {}
    data: Facts = {}
    results: Facts = {}
    curve: list[Point] = []
    gold: list[int] = []
    blocked: list[int] = []
    phases: list[tuple[str, int]] = []
    missing: list[str] = []


class Difference(BaseModel):
    """One field whose values are not all equal; None where a run does not tell."""

    field: str
    values: list[Any]


class Comparison(BaseModel):
    """What `mypt compare --json` prints.

    Attributes:
        schema_version: grows when a field changes its meaning.
        verdict: whether the losses may be compared.
        reasons: why, if not or only in part.
        runs: the runs, in the order of the call.
        architecture: fields that differ.
        training: fields that differ.
        data: fields that differ.
        equal: how many fields are equal.
        better: for each result that can be told apart, the labels of the runs that are best.
        matched: the losses at equal tokens and at equal time: (measure, value, one loss a run).
    """

    schema_version: Literal[1] = 1
    verdict: Verdict
    reasons: list[str]
    runs: list[RunView]
    architecture: list[Difference]
    training: list[Difference]
    data: list[Difference]
    equal: dict[str, Facts]
    better: dict[str, list[str]]
    matched: list[tuple[Literal["tokens", "seconds"], float, list[float]]]


def compare(names: Sequence[str], out_dir: Path) -> Comparison:
    """Compare runs, each given as a bundle, by name or path, or as a log.

    Raises:
        UsageError: one is not to be found.
    """
    runs = [view(name, out_dir) for name in names]
    verdict, reasons = _verdict(runs)
    sections: dict[str, Callable[[RunView], Facts]] = {
        "architecture": lambda r: r.architecture, "training": lambda r: r.training, "data": lambda r: r.data,
    }  # fmt: skip
    split = {name: _differences([of(run) for run in runs]) for name, of in sections.items()}
    return Comparison(
        verdict=verdict,
        reasons=reasons,
        runs=runs,
        architecture=split["architecture"][0],
        training=split["training"][0],
        data=split["data"][0],
        equal={name: equal for name, (_, equal) in split.items()},
        better=_better(runs, verdict),
        matched=_matched(runs) if verdict == "comparable" else [],
    )


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
    run, log, run_id = RunView(label=path.name), None, None
    try:
        state = read_state(path)
        run.training = state.training_config.model_dump(mode="json")
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
    log = log or log_path(path.name)
    if not log.is_file():
        run.missing.append(f"The log {log} is not here.")
        return run
    return _from_log(run, log, run_id)


def _config_facts(run: RunView, path: Path) -> None:
    run.architecture = read_config(path).model_dump(mode="json", exclude={"device"})


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
    content = read_log(path)
    if content.passed_over:
        run.missing.append(f"{content.passed_over} lines of {path} could not be read.")
    starts = [e for e in content.events if e["event"] == "training_start"]
    if run_id is None and starts:
        run_id = starts[-1].get("run_id")
    events = content.live(run_id)
    evals = [e for e in events if e["event"] == "eval"]
    if starts and not run.architecture:
        run.architecture, run.training = dict(starts[-1]["model"]), dict(starts[-1]["config"])
    if not evals:
        run.missing.append(f"{path} has no evaluation of this run.")
        return run
    run.curve = _curve(events)
    run.gold = [e["iter"] for e in events if e["event"] == "gold_checkpoint"]
    run.blocked = [e["iter"] for e in events if e["event"] == "gold_blocked"]
    run.phases = [(e["new_phase"], e["iter"]) for e in events if e["event"] == "phase_switch"]
    best = min(evals, key=lambda e: math.inf if math.isnan(e["val_loss"]) else e["val_loss"])
    last, seconds = evals[-1], run.curve[-1].seconds
    complete = [e for e in events if e["event"] == "training_complete"]
    told = {name: value for name, value in run.results.items() if value is not None}
    run.results = {
        "step": last["iter"], "tokens": last["tokens_processed"], "best_val_loss": best["val_loss"],
        "best_val_se": best.get("val_se"), "final_val_loss": last["val_loss"], "final_val_se": last.get("val_se"),
        "best_val_bpb": best.get("val_bpb"), "final_val_bpb": last.get("val_bpb"), **told,
        **{k: last[k] for k in last if k.startswith("eval_") and k != "eval_duration_s"},
        "seconds": seconds, "tokens_per_sec": complete[-1]["tokens_per_sec"] if complete else None,
        "gold_step": run.gold[-1] if run.gold else None,
        "gold_blocks": len(run.blocked),
    }  # fmt: skip
    run.results |= {"best_val_se": best.get("val_se"), "final_val_se": last.get("val_se")}
    return run


def _curve(events: Sequence[Facts]) -> list[Point]:
    """Every evaluation; `elapsed_s` counts from the start of its session, so sessions are added up."""
    points: list[Point] = []
    before = latest = 0.0
    for event in events:
        if event["event"] == "training_start":
            before, latest = before + latest, 0.0
        latest = event.get("elapsed_s", latest)
        if event["event"] == "eval":
            points.append(
                Point(
                    step=event["iter"], tokens=event["tokens_processed"], seconds=before + latest,
                    val_loss=event["val_loss"], train_loss=event.get("train_loss"), lr=event.get("lr"),
                )
            )  # fmt: skip
    return points


def _differences(facts: Sequence[Facts]) -> tuple[list[Difference], Facts]:
    """The fields whose values differ, and those that are equal in all runs that tell."""
    differing, equal = [], {}
    for field in dict.fromkeys(name for run in facts for name in run):
        values = [run.get(field) for run in facts]
        if all(v == values[0] for v in values):
            equal[field] = values[0]
        else:
            differing.append(Difference(field=field, values=values))
    return differing, equal


def _verdict(runs: Sequence[RunView]) -> tuple[Verdict, list[str]]:
    """Losses compare if the same text was measured, in the same tokens, with the same windows."""
    untold = [run.label for run in runs if not run.data.get("fingerprint")]
    if untold:
        return "not comparable", [f"{', '.join(untold)} does not tell its validation data."]
    same_data = len({run.data["fingerprint"] for run in runs}) == 1
    kinds = {(run.data.get("tokenizer"), run.data.get("tokenizer_size")) for run in runs}
    if not same_data:
        return "not comparable", ["Their validation data are not the same."]
    if len(kinds) > 1:
        shown = ", ".join(f"{r.label}: {r.data.get('tokenizer')} of {r.data.get('tokenizer_size')}" for r in runs)
        return "comparable in bits per byte only", [f"Their tokenizers are not the same ({shown})."]
    notes = []
    for name, of in (("block_size", "architecture"), ("batch_size", "architecture"), ("eval_iters", "training")):
        if len({getattr(run, of).get(name) for run in runs}) > 1:
            notes.append(f"{name} differs, so other windows were measured.")
    return "comparable", notes


def _better(runs: Sequence[RunView], verdict: Verdict) -> dict[str, list[str]]:
    """For each loss, the runs that no other beats by more than the noise; nothing where none stands out."""
    if verdict == "not comparable":
        return {}
    losses = {"best_val_loss": "best_val_se", "final_val_loss": "final_val_se"} if verdict == "comparable" else {}
    found = {}
    for name, error in losses.items():
        best = _not_beaten([(r.label, r.results.get(name), r.results.get(error)) for r in runs])
        if best and len(best) < len(runs):
            found[name] = best
    for name in ("best_val_bpb", "final_val_bpb"):
        ratio = [(r, r.results.get(name), r.results.get(name.replace("bpb", "loss"))) for r in runs]
        scaled = [(r, b, _times(r.results.get(name.replace("bpb", "se")), b, loss)) for r, b, loss in ratio]
        best = _not_beaten([(r.label, b, se) for r, b, se in scaled])
        if best and len(best) < len(runs):
            found[name] = best
    return found


def _times(se: float | None, bpb: float | None, loss: float | None) -> float | None:
    """A loss's standard error in bits per byte."""
    return se * bpb / loss if se is not None and bpb is not None and loss else None


def _not_beaten(values: Sequence[tuple[str, float | None, float | None]]) -> list[str]:
    known = [(label, v, se) for label, v, se in values if v is not None and se is not None]
    if len(known) < len(values):
        return []
    return [
        label
        for label, v, se in known
        if not any(other < v - NOISE * math.hypot(se, error) for _, other, error in known)
    ]


def _matched(runs: Sequence[RunView]) -> list[tuple[Literal["tokens", "seconds"], float, list[float]]]:
    """The losses where the shortest run ends, read off the curves between their evaluations."""
    if any(len(run.curve) < 1 for run in runs):
        return []
    matched: list[tuple[Literal["tokens", "seconds"], float, list[float]]] = []
    for measure in ("tokens", "seconds"):
        end = min(getattr(run.curve[-1], measure) for run in runs)
        if all(getattr(run.curve[0], measure) <= end for run in runs):
            matched.append((measure, end, [_at(run.curve, measure, end) for run in runs]))
    return matched


def _at(curve: Sequence[Point], measure: str, where: float) -> float:
    """The loss at a place of the curve, on the line between its neighbours."""
    before = [p for p in curve if getattr(p, measure) <= where][-1]
    after = next((p for p in curve if getattr(p, measure) > where), None)
    if after is None:
        return before.val_loss
    x0, x1 = getattr(before, measure), getattr(after, measure)
    share = (where - x0) / (x1 - x0)
    return float(before.val_loss + (after.val_loss - before.val_loss) * share)
