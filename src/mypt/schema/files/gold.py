"""What the gold decision of a run remembers, and what its losses were measured with; part of training_state.json."""

from mypt.schema.base import Record


class Measure(Record):
    """What a loss was measured with. Losses compare only where all of it is the same.

    Attributes:
        fingerprint: of the set, as in its data record.
        windows: number of windows that are measured.
        seed: random seed that chose them; None if they are all of the split.
        block_size: tokens of a window.
        masked: whether loss masks are applied.
        precision: `fp32`, `bf16` or `fp16`, as computed in.
        mask_documents: whether each document of a window is seen alone; False in older records.
    """

    fingerprint: str
    windows: int
    seed: int | None
    block_size: int
    masked: bool
    precision: str
    mask_documents: bool = False


class Remeasured(Record):
    """The losses of the gold checkpoint by a new measure.

    Attributes:
        val_loss: val loss; None if the gold bundle was not there to be measured, so that gold began anew.
        val_bpb: the same in bits per byte.
        eval_sets: losses of the eval sets that are measured otherwise as well, by name.
    """

    val_loss: float | None = None
    val_bpb: float | None = None
    eval_sets: dict[str, float] = {}


class GoldState(Record):
    """State of the gold decision.

    Attributes:
        step: step of the gold checkpoint; None until there is one.
        val_loss: val loss of the gold checkpoint.
        last_val_loss: val loss of the latest evaluation.
        consecutive_rises: number of latest evaluations in a row whose val loss was higher than the previous one.
        baseline: loss of each additional eval set at its first evaluation, by which a regression is told.
        provisional: sets whose baseline is of before a session's first step; the next evaluation may lower it.
        measures: what the losses here were measured with, by name of the set, `val` among them; empty in older records.
    """

    step: int | None = None
    val_loss: float | None = None
    last_val_loss: float | None = None
    consecutive_rises: int = 0
    baseline: dict[str, float] | None = None
    provisional: tuple[str, ...] = ()
    measures: dict[str, Measure] = {}
