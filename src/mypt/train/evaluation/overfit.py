"""Tells, while a run goes on, that it learns its text by heart."""

from dataclasses import dataclass, field

from mypt.log.anomalies import overfits
from mypt.log.messages import overfit_line
from mypt.schema.files.events import Eval
from mypt.schema.settings.training import TrainingConfig


@dataclass
class OverfitWatch:
    """Looks at the evaluations of a session, in each phase of a curriculum by itself.

    Attributes:
        best: the evaluation with the lowest val loss; None before the first.
        after: val losses of the evaluations since then.
        told: whether it was said of this best.
    """

    best: Eval | None = None
    after: list[float] = field(default_factory=list)
    told: bool = False

    def see(self, event: Eval, training: TrainingConfig) -> str | None:
        """The sentence on overfitting, once until the val loss has a new best; None if there is nothing to say."""
        best = self.best
        if best is None or event.phase != best.phase or not best.val_loss <= event.val_loss:
            self.best, self.after, self.told = event, [], False
            return None
        self.after.append(event.val_loss)
        if self.told or best.train_loss is None or event.train_loss is None:
            return None
        self.told = overfits((best.val_loss, best.train_loss), self.after, event.train_loss)
        return overfit_line(best, event, ends=training.patience is not None) if self.told else None
