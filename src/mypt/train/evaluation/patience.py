"""When a run has gone on for long enough without getting better."""

from mypt.schema.files.state import TrainingState
from mypt.train.stop import StopNow

REASON = "patience"
"""As the log and the result of a session name it."""


def is_over(state: TrainingState) -> bool:
    """Whether the run has made as many evaluations in a row without a new best val loss as its settings allow.

    The best is the lowest val loss, also where a guard kept it from becoming gold: a run that a guard blocks still
    learns, and one that has gold already may be getting no better.
    """
    patience = state.training_config.patience
    return patience is not None and state.progress.evaluations_since_best >= patience


def more(state: TrainingState) -> int:
    """The patience by which a run whose patience is over goes on for as many evaluations as before, at the least."""
    return state.progress.evaluations_since_best + (state.training_config.patience or 1)


def end_if_over(state: TrainingState) -> None:
    """End a session at an evaluation that its patience ends with; the last one of a run completes it anyway.

    Raises:
        StopNow: it ends.
    """
    if is_over(state) and state.step < state.training_config.max_iters:
        raise StopNow(REASON)
