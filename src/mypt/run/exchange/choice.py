"""Which bundle of a run is the one to deploy: by the val losses that its records hold, the last step or gold."""

from dataclasses import dataclass
from pathlib import Path

from mypt.checkpoint.family import Family, record_of
from mypt.checkpoint.layout import base_name
from mypt.schema.files.state import TrainingState


@dataclass(frozen=True)
class BetterGold:
    """A gold bundle that is better than the last step of its run.

    Attributes:
        path: of the gold bundle.
        step: of its weights.
        val_loss: its val loss.
        last_step: step that the run's own bundle is at.
        last_val_loss: val loss of the run's latest evaluation, measured as that of gold.
    """

    path: Path
    step: int
    val_loss: float
    last_step: int
    last_val_loss: float

    def __str__(self) -> str:
        return (
            f"Gold is better than the last step: val loss {self.val_loss:.4f} at step {self.step:,}, "
            f"{self.last_val_loss:.4f} at step {self.last_step:,}"
        )


@dataclass(frozen=True)
class BundleLoss:
    """What the record of a bundle says of its weights.

    Attributes:
        path: of the bundle.
        step: of the weights.
        val_loss: at the latest evaluation; None where there was none.
        note: what the loss is of, if it is not of these very weights; else empty.
    """

    path: Path
    step: int
    val_loss: float | None
    note: str = ""


def better_gold(last: TrainingState, gold: TrainingState | None, path: Path) -> BetterGold | None:
    """The gold bundle where it is better than the last step of the same run; None where that is not known.

    Both losses are those of the gold decision, which holds them by one measure and drops what was measured otherwise.

    Args:
        last: record of the run's own bundle.
        gold: record of the gold bundle; None if there is none.
        path: of the gold bundle.
    """
    known = last.progress.gold
    if gold is None or gold.run_id != last.run_id or gold.step != known.step:
        return None
    if known.val_loss is None or known.last_val_loss is None or known.val_loss >= known.last_val_loss:
        return None
    return BetterGold(path, gold.step, known.val_loss, last.step, known.last_val_loss)


def better_gold_of(run: Path) -> BetterGold | None:
    """`better_gold` of the run that has this bundle; None where one of its records cannot be read."""
    last, path = record_of(run), Family(run).gold
    return None if last is None else better_gold(last, record_of(path), path)


def losses_of_run(bundle: Path) -> list[BundleLoss]:
    """The bundles of the run that a bundle belongs to, with their losses: the last step, gold and fp16.

    Bundles that cannot be read are left out, and so are those of other runs.
    """
    family, own = Family(bundle.with_name(base_name(bundle.name))), record_of(bundle)
    there = [(path, record_of(path)) for path in family.paths]
    mine = [(path, state) for path, state in there if state and own and state.run_id == own.run_id]
    return [BundleLoss(path, state.step, *_loss(state)) for path, state in mine]


def own_val_loss(state: TrainingState) -> float | None:
    """The val loss of a bundle's very weights; None where none is recorded."""
    loss, note = _loss(state)
    return None if note else loss


def _loss(state: TrainingState) -> tuple[float | None, str]:
    """The val loss of a bundle's weights, and what it is of, if not of these very weights."""
    loss = state.progress.last_val_loss
    if loss is not None and state.optimizer_file is None and state.model_dtype == "fp16":
        return loss, "before rounding"
    evaluated = state.training_config.evaluates_at(state.step) and not state.evaluation_pending
    return loss, "" if evaluated or loss is None else "at the evaluation before"
