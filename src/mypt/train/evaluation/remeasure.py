"""How a session takes over gold: what is measured otherwise from here on is measured anew, or begins anew."""

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial

from mypt.checkpoint.files import read_state
from mypt.checkpoint.manager import CheckpointManager
from mypt.errors import BundleError
from mypt.model.network import Network
from mypt.schema.files.events import GoldRemeasured, timestamp
from mypt.schema.files.gold import GoldState, Remeasured
from mypt.schema.files.state import TrainingState
from mypt.train.evaluation.evaluate import evaluate_sets
from mypt.train.evaluation.measure import changed, is_of_same_data, taken_over, told_change, with_measures
from mypt.train.parallel.group import ALONE
from mypt.train.parallel.parts import is_sharded
from mypt.train.step import Stepper


def take_over(
    state: TrainingState, stepper: Stepper, checkpoint: CheckpointManager | None, look: Callable[[], None]
) -> tuple[TrainingState, GoldRemeasured | None]:
    """The state of a session, with all that it compares losses with measured as it measures; all have the same.

    Gold is measured by its own weights where it is there. What was found is recorded with the session, so that a
    reproduction, which has no gold bundle of that time, takes it over as it was.

    Args:
        state: of the session, as it opened.
        stepper: what is measured, and how.
        checkpoint: of the run, with its gold beside it; None where nothing is saved.
        look: called between the parts of the work, which it can end by raising.

    Returns:
        The state, and the event that says what is measured otherwise; None if nothing is.
    """
    work = partial(_taken_over, state, stepper, checkpoint, look)
    return work() if is_sharded(stepper.model) else stepper.group.first(work)


def _taken_over(
    state: TrainingState, stepper: Stepper, checkpoint: CheckpointManager | None, look: Callable[[], None]
) -> tuple[TrainingState, GoldRemeasured | None]:
    session, progress = state.sessions[-1], state.progress
    if session.measures is None:  # recorded by an earlier version, which went on regardless
        return state, None
    before = state.sessions[-2] if len(state.sessions) > 1 else session
    gold = with_measures(progress.gold, before, stepper.data.primary.record, stepper.model.config)
    others, found = changed(gold, session.measures), session.remeasured
    if "val" in others:
        sets = [n for n in others if n != "val" and is_of_same_data(gold.measures[n], session.measures[n])]
        found = found or _measured_gold(state, gold, sets, stepper, checkpoint, look)
        best = {"best_val_loss": found.val_loss, "best_val_bpb": found.val_bpb}
        step = gold.step if found.val_loss is not None else None
        progress = progress.model_copy(update={**best, "best_step": step, "evaluations_since_best": 0})
    progress = progress.model_copy(update={"gold": taken_over(gold, session.measures, found)})
    if not others:
        return state.with_progress(progress), None
    event = GoldRemeasured(
        iter=state.step,
        timestamp=timestamp(),
        sets=others,
        gold_step=gold.step if "val" in others else None,
        old_val_loss=gold.val_loss if "val" in others else None,
        val_loss=found.val_loss if found else None,
        reason="; ".join(f"{name}: {told_change(gold.measures[name], session.measures[name])}" for name in others),
        measures={name: session.measures[name] for name in others},
    )
    return state.with_progress(progress).with_current(remeasured=found), event


def _measured_gold(
    state: TrainingState,
    gold: GoldState,
    sets: Sequence[str],
    stepper: Stepper,
    checkpoint: CheckpointManager | None,
    look: Callable[[], None],
) -> Remeasured:
    """The losses of the gold checkpoint on some sets; none if it is not there, or not finite.

    Where the run's weights are in parts those of gold are, too, and all processes measure them together.
    """
    parts, config, loaded = is_sharded(stepper.model), stepper.model.config, list[Network]()
    group = stepper.group if parts else ALONE

    def load() -> bool:
        model = _gold_model(state, gold, checkpoint) if checkpoint else None
        loaded.extend([] if model is None else [model])
        return model is not None

    if not group.first(load):
        return Remeasured()
    model = loaded[0] if group.leads else Network.hollow(config)
    model.config = config
    if parts:
        from mypt.train.parallel.sharded_step import share  # which loads FSDP

        share(model, group, stepper.training)
    else:
        model.to(config.device)
    names = ["val", *sets]
    with nullcontext() if parts else model.watched(look):
        found = evaluate_sets(model, stepper.data, stepper.training, stepper.precision, names, group=group, look=look)
    if not math.isfinite(found["val"].loss):
        return Remeasured()
    losses = {name: found[name].loss for name in sets if 0 < found[name].loss < math.inf}
    return Remeasured(val_loss=found["val"].loss, val_bpb=found["val"].bpb, eval_sets=losses)


def _gold_model(state: TrainingState, gold: GoldState, run: CheckpointManager) -> Network | None:
    """The model of the gold bundle, if that is the one that the state knows of."""
    bundle = run.gold()
    try:
        there = read_state(bundle.path) if bundle.exists() else None
        if there is None or (there.run_id, there.step) != (state.run_id, gold.step):
            return None
        return bundle.load().model
    except BundleError:
        return None
