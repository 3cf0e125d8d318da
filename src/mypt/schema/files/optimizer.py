"""The optimizer that a caller of `GPT.fit` brought, as training_state.json records it."""

from pydantic import ConfigDict

from mypt.schema.base import Record

Number = int | float | None
HyperParameter = bool | int | float | str | tuple[Number, ...] | None

REPLACED_SETTINGS = ("optimizer", "weight_decay", "beta1", "beta2", "muon_dtype")
"""Training settings of mypt's own optimizers, without meaning in a run whose optimizer was brought by the caller."""


class GroupRecord(Record):
    """One group of weights.

    Attributes:
        parameters: names of the weights, in order.
        hyperparameters: of torch's class, by name; `lr` is the one at the peak of the schedule.
    """

    model_config = ConfigDict(allow_inf_nan=False)

    parameters: tuple[str, ...]
    hyperparameters: dict[str, HyperParameter]


class OptimizerRecord(Record):
    """An optimizer of `torch.optim`, so that it can be built again.

    Attributes:
        kind: name of the class, such as `SGD`.
        defaults: hyperparameters that it was made with.
        groups: groups of weights, in order.
    """

    model_config = ConfigDict(allow_inf_nan=False)

    kind: str
    defaults: dict[str, HyperParameter]
    groups: tuple[GroupRecord, ...]

    def lines(self) -> list[str]:
        """One line for the class and one for each group, for people."""
        return [f"torch.optim.{self.kind}, brought by the caller of fit", *map(_group_line, self.groups)]


def _group_line(group: GroupRecord) -> str:
    told = {n: v for n, v in group.hyperparameters.items() if v not in (None, False)}
    return f"{len(group.parameters)} tensors: " + ", ".join(f"{n} {v}" for n, v in told.items())
