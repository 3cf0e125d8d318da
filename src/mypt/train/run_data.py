"""What a run trains on and is measured by: phases of training data, the primary set, further sets."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from mypt.data.loader import GPTDataLoader
from mypt.data.tokens import Split

ONLY_PHASE = "main"
"""Name of the phase of a run without a curriculum."""


@dataclass(frozen=True)
class Phase:
    """Training data from one step on.

    Attributes:
        name: shown at each evaluation.
        start: steps done when it takes over.
        loader: its training split is drawn from.
    """

    name: str
    start: int
    loader: GPTDataLoader


@dataclass(frozen=True)
class RunData:
    """All data of a run.

    Attributes:
        primary: `val_loss` and `train_loss` are measured on it in every phase, so that they compare.
        eval_sets: further sets, by name.
        phases: in order, the first from step 0; empty if the primary set is trained on throughout.
    """

    primary: GPTDataLoader
    eval_sets: Mapping[str, GPTDataLoader] = field(default_factory=dict)
    phases: tuple[Phase, ...] = ()

    def phase_at(self, step: int) -> Phase:
        """The phase that the step after `step` done steps belongs to."""
        started = [p for p in self.phases if p.start <= step]
        return started[-1] if started else Phase(ONLY_PHASE, 0, self.primary)

    def measured_sets(self) -> dict[str, tuple[GPTDataLoader, Split]]:
        """Everything that an evaluation measures, by name: train and val of the primary set, then the further sets."""
        sets: dict[str, tuple[GPTDataLoader, Split]] = {"train": (self.primary, "train"), "val": (self.primary, "val")}
        return sets | {name: (loader, "val") for name, loader in self.eval_sets.items()}

    @property
    def left_out(self) -> list[str]:
        """A line for each folder with files that could hold tokens and are not read."""
        loaders = (self.primary, *(phase.loader for phase in self.phases), *self.eval_sets.values())
        return [*dict.fromkeys(loader.left_out for loader in loaders if loader.left_out)]

    def eval_batch_count(self, eval_iters: int) -> int:
        """Batches of one evaluation, all sets together."""
        return sum(loader.eval_batch_count(split, eval_iters) for loader, split in self.measured_sets().values())
