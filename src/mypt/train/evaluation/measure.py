"""What losses are measured with, and what of a run still compares when that changes."""

from collections.abc import Mapping

from mypt.schema.files.gold import GoldState, Measure, Remeasured
from mypt.schema.files.state import DataRecord, SessionRecord, TrainingState
from mypt.schema.settings.config import GPTConfig
from mypt.schema.settings.training import TrainingConfig

Measures = Mapping[str, Measure]


def measures_of(
    primary: DataRecord,
    eval_sets: Mapping[str, DataRecord],
    config: GPTConfig,
    training: TrainingConfig,
    precision: str,
) -> dict[str, Measure]:
    """What the val loss and the losses of further sets are measured with, by name of the set."""
    sets = {"val": primary, **eval_sets}
    return {name: _measure(record, config, training, precision) for name, record in sets.items()}


def _measure(record: DataRecord, config: GPTConfig, training: TrainingConfig, precision: str) -> Measure:
    """The windows follow from these numbers; where all of a split are measured, no seed chooses among them."""
    there, wanted = (record.val_tokens - 1) // config.block_size, training.eval_iters * config.batch_size
    return Measure(
        fingerprint=record.fingerprint,
        windows=min(there, wanted),
        seed=training.eval_seed if there > wanted else None,
        block_size=config.block_size,
        masked=record.masked,
        precision=precision,
        mask_documents=training.mask_documents,
    )


def told_change(before: Measure, now: Measure) -> str:
    """In what two measures differ, such as `windows 4 → 15`."""
    told = ["other data"] if before.fingerprint != now.fingerprint else []
    for name in ("windows", "seed", "block_size", "masked", "precision", "mask_documents"):
        was, is_ = getattr(before, name), getattr(now, name)
        if was != is_ and None not in (was, is_):  # without a seed, all windows of the split are measured
            told.append(f"{name} {was} → {is_}")
    return ", ".join(told)


def with_measures(gold: GoldState, session: SessionRecord, primary: DataRecord, config: GPTConfig) -> GoldState:
    """A gold state of an older version, with what its losses were measured with: the settings of its last session."""
    if gold.measures or gold == GoldState():
        return gold
    training = session.training_config
    precision = training.amp_dtype if training.use_amp else "fp32"
    sets = {name: record for name, record in session.eval_sets.items() if name in (gold.baseline or {})}
    return gold.model_copy(update={"measures": measures_of(primary, sets, config, training, precision)})


def changed(gold: GoldState, measures: Measures) -> list[str]:
    """The sets, `val` among them, whose losses in a gold state were measured otherwise."""
    return [name for name, measure in measures.items() if gold.measures.get(name, measure) != measure]


def comparable(gold: GoldState, measures: Measures) -> GoldState:
    """A gold state without what was measured otherwise: that of `val` is gold itself, that of a set its baseline."""
    other = changed(gold, measures)
    if not other:
        return gold
    update: dict[str, object] = {
        "baseline": {name: loss for name, loss in (gold.baseline or {}).items() if name not in other},
        "provisional": tuple(name for name in gold.provisional if name not in other),
        "measures": {name: measure for name, measure in gold.measures.items() if name not in other},
    }
    if "val" in other:
        update |= {"step": None, "val_loss": None, "last_val_loss": None, "consecutive_rises": 0}
    return gold.model_copy(update=update)


def taken_over(gold: GoldState, measures: Measures, found: Remeasured | None) -> GoldState:
    """The gold state that a session with these measures goes on with.

    Args:
        gold: as the session before left it.
        measures: of the session.
        found: the losses of the gold checkpoint by them; None if its val loss is measured as before.
    """
    left = comparable(gold, measures)
    if found is None or found.val_loss is None:
        return left
    known = {name: measures[name] for name in ("val", *found.eval_sets)}
    return left.model_copy(
        update={
            "step": gold.step,
            "val_loss": found.val_loss,
            "baseline": {**(left.baseline or {}), **found.eval_sets},
            "measures": {**left.measures, **known},
        }
    )


def measured_beforehand(state: TrainingState, primary: DataRecord, config: GPTConfig) -> int:
    """Evaluations that a session makes before its first step: one that is owed, one of gold, one for baselines."""
    session = state.sessions[-1]
    if session.measures is None:
        return int(state.evaluation_pending)
    before = state.sessions[-2] if len(state.sessions) > 1 else session
    gold = with_measures(state.progress.gold, before, primary, config)
    of_gold = "val" in changed(gold, session.measures) and gold.step is not None
    left = taken_over(gold, session.measures, Remeasured(val_loss=0.0) if of_gold else None)
    if of_gold:  # with gold, the sets whose data are the same are measured too
        same = {
            n: m for n, m in session.measures.items() if n in gold.measures and is_of_same_data(gold.measures[n], m)
        }
        left = left.model_copy(update={"measures": {**left.measures, **same}})
    return int(of_gold) + int(state.evaluation_pending or _begins_by_measuring(state, left, session.measures))


def is_of_same_data(before: Measure, now: Measure) -> bool:
    """Whether two measures look at the same set, though otherwise."""
    return before.fingerprint == now.fingerprint


def evaluates_first(state: TrainingState) -> bool:
    """Whether the session of a state, which has taken over gold, measures before its first step, or did in a record."""
    session = state.sessions[-1]
    return session.evaluated_first or _begins_by_measuring(state, state.progress.gold, session.measures)


def _begins_by_measuring(state: TrainingState, gold: GoldState, measures: Measures | None) -> bool:
    """Whether a session measures before its first step, so that a loss is known before training can do damage.

    It does where an eval set was not measured so yet, and where a run starts from a model that has learned.

    Args:
        state: of the session.
        gold: as the session takes it over.
        measures: of the session; None in records of earlier versions, which did not.
    """
    if measures is None:
        return False
    unknown = [name for name in measures if name != "val" and name not in gold.measures]
    learned = state.parent is not None or state.unrecorded_start is not None
    return bool(unknown) or (learned and state.step == 0 and state.progress.last_val_loss is None)
