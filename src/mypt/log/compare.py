"""What differs between runs, whether their losses compare at all, and which is better beyond the noise."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mypt.log.replay import evaluated_on
from mypt.log.run_record import Facts, RunRecord, read_run
from mypt.schema.files.events import METRIC

AS_IN_EFFECT = ("warmup_iters", "use_amp", "rows_at_once")
"""Settings that a log has as they came out, and a bundle as they were asked for."""
NOISE = 2.0
"""Standard errors by which two losses have to differ before one is called better."""
Verdict = Literal["comparable", "comparable in bits per byte only", "not comparable"]
Matched = tuple[Literal["tokens", "seconds"], float, list[float]]
"""A measure, the value of it at which runs are compared, and the loss of each run there."""


@dataclass(kw_only=True)
class Difference:
    """One field whose values are not all equal; None where a run does not tell.

    The value of a run whose sessions differ in it is a list of all its values, each with `from_step`.
    """

    field: str
    values: list[Any]


@dataclass(kw_only=True)
class SharedEvaluation:
    """One figure that `mypt evaluate` found of every run on the same text, shards or task.

    Attributes:
        measure: `bpb`, `loss` or `perplexity` of a text, else a metric of the task.
        better: the labels of the runs that no other beats by more than the noise; empty where none stands out.
    """

    kind: str
    source: str
    split: str | None
    measure: str
    values: list[float | None]
    better: list[str]


@dataclass(kw_only=True)
class Comparison:
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
        evaluations: what `mypt evaluate` found of all of them.
        matched: the losses at equal tokens and at equal time: (measure, value, one loss a run).
    """

    schema_version: Literal[1] = 1
    verdict: Verdict
    reasons: list[str]
    runs: list[RunRecord]
    architecture: list[Difference]
    training: list[Difference]
    data: list[Difference]
    equal: dict[str, Facts]
    better: dict[str, list[str]]
    matched: list[Matched]
    evaluations: list[SharedEvaluation]


def compare(names: Sequence[str], out_dir: Path) -> Comparison:
    """Compare runs, each given as a bundle, by name or path, or as a log.

    Raises:
        UsageError: one is not to be found.
    """
    return compared([read_run(name, out_dir) for name in names])


def compared(runs: list[RunRecord]) -> Comparison:
    """Compare runs that were read."""
    verdict, reasons = _verdict(runs)
    split = {name: _differences(runs, name) for name in ("architecture", "training", "data")}
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
        evaluations=list(_shared_evaluations(runs)),
    )


def _differences(runs: Sequence[RunRecord], section: str) -> tuple[list[Difference], Facts]:
    """The fields whose values differ, and those that are equal in all runs that tell, if more than one does."""
    facts = [run.facts(section) for run in runs]
    left_out = AS_IN_EFFECT if len({run.partial for run in runs}) > 1 else ()
    differing: list[Difference] = []
    equal: Facts = {}
    for field in dict.fromkeys(name for told in facts for name in told if name not in left_out):
        values = [told.get(field) for told in facts]
        told = [v for v, f, run in zip(values, facts, runs, strict=True) if field in f or not run.partial]
        if all(v == told[0] for v in told):
            equal |= {field: told[0]} if len(told) > 1 or len(runs) == 1 else {}
        else:
            differing.append(Difference(field=field, values=values))
    return differing, equal


def _verdict(runs: Sequence[RunRecord]) -> tuple[Verdict, list[str]]:
    """Losses compare if the same text was measured, in the same tokens, with the same windows."""
    imported = ", ".join(run.label for run in runs if "imported" in run.data)
    if imported:
        todo = "`mypt evaluate` measures any bundle on a text."
        return "not comparable", [f"{imported} has no val loss: it is imported. {todo}"]
    untold = [run.label for run in runs if not run.data.get("fingerprint")]
    if untold:
        return "not comparable", [f"{', '.join(untold)} does not tell its validation data."]
    if len({run.data["fingerprint"] for run in runs}) > 1:
        return "not comparable", ["Their validation data are not the same."]
    if {run.data.get("masked") for run in runs} >= {True, False}:
        return "not comparable", ["A loss mask leaves out tokens in one and not in the other."]
    tokenizers = {(run.data.get("tokenizer"), run.data.get("tokenizer_size")) for run in runs}
    if len(tokenizers) > 1:
        shown = ", ".join(f"{r.label}: {r.data.get('tokenizer')} of {r.data.get('tokenizer_size')}" for r in runs)
        return "comparable in bits per byte only", [f"Their tokenizers are not the same ({shown})."]
    notes = []
    for name, of in (("block_size", "architecture"), ("batch_size", "architecture"), ("eval_iters", "training")):
        told = [run.facts(of).get(name) for run in runs]
        if any(value != told[0] for value in told):
            notes.append(f"{name} differs, so other windows were measured.")
    return "comparable", notes


def _better(runs: Sequence[RunRecord], verdict: Verdict) -> dict[str, list[str]]:
    """For each loss, the runs that no other beats by more than the noise; nothing where none stands out."""
    if verdict == "not comparable":
        return {}
    found = {}
    for measure in ("loss", "bpb") if verdict == "comparable" else ("bpb",):
        for which in ("best_val", "final_val"):
            name = f"{which}_{measure}"
            best = _not_beaten([(r.label, r.results.get(name), _error(r.results, which, measure)) for r in runs])
            if best and len(best) < len(runs):
                found[name] = best
    return found


def _error(results: Facts, which: str, measure: str) -> float | None:
    """The standard error of a val loss, in nats as it was logged or in bits per byte in proportion."""
    se, loss, bpb = (results.get(f"{which}_{name}") for name in ("se", "loss", "bpb"))
    if measure == "loss" or se is None:
        return se
    return se * bpb / loss if bpb is not None and loss else None


def _not_beaten(values: Sequence[tuple[str, float | None, float | None]]) -> list[str]:
    known = [(label, v, se) for label, v, se in values if v is not None and se is not None]
    if len(known) < len(values):
        return []
    return [
        label
        for label, v, se in known
        if not any(other < v - NOISE * math.hypot(se, error) for _, other, error in known)
    ]


def _shared_evaluations(runs: Sequence[RunRecord]) -> Iterator[SharedEvaluation]:
    """Figures by token only where the tokens are the same."""
    found = [{evaluated_on(event): event for event in run.evaluations} for run in runs]
    same_tokens = len({(run.data.get("tokenizer"), run.data.get("tokenizer_size")) for run in runs}) == 1
    for of, first in found[0].items():
        if not all(of in events for events in found):
            continue
        events = [of_run[of] for of_run in found]
        text = ("bpb", "loss", "perplexity") if same_tokens else ("bpb",)
        measures = [m for m in text if first.get(m) is not None]
        measures += [m for m in first if m.startswith(METRIC)]
        for measure in measures:
            values = [event.get(measure) for event in events]
            errors = [_error({f"_{n}": event.get(n) for n in ("se", "loss", "bpb")}, "", measure) for event in events]
            judged = measure in ("bpb", "loss")
            best = _not_beaten(list(zip([r.label for r in runs], values, errors, strict=True))) if judged else []
            yield SharedEvaluation(
                kind=first["kind"], source=first["source"], split=first.get("split"),
                measure=measure.removeprefix(METRIC), values=values, better=best if len(best) < len(runs) else [],
            )  # fmt: skip


def _matched(runs: Sequence[RunRecord]) -> list[Matched]:
    """The losses where the shortest run ends, read off the curves between their evaluations."""
    matched: list[Matched] = []
    for measure in ("tokens", "seconds"):
        curves = [[(getattr(p, measure), p.val_loss) for p in r.curve if p.val_loss is not None] for r in runs]
        if not all(curves):
            return []
        end = min(curve[-1][0] for curve in curves)
        if all(curve[0][0] <= end for curve in curves):
            matched.append((measure, end, [_at(curve, end) for curve in curves]))
    return matched


def _at(curve: Sequence[tuple[float, float]], where: float) -> float:
    """The loss at a place of the curve, on the line between its neighbours."""
    x0, before = [point for point in curve if point[0] <= where][-1]
    x1, after = next((point for point in curve if point[0] > where), (x0, before))
    return before + (after - before) * (where - x0) / (x1 - x0) if x1 > x0 else before
