"""The learning rate of every step, by the settings that its session had: a log tells it at evaluations alone."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isclose, isfinite
from typing import Any

from pydantic import ValidationError

from mypt.board.index import Columns
from mypt.schema.settings.training import TrainingConfig
from mypt.train.optim.schedule import learning_rate_at

_SETTINGS = ("max_iters", "learning_rate", "warmup_iters", "lr_schedule", "min_lr")
CHECKED = 50
"""Logged rates that the settings have to give, or they are not those that the run went by."""
CLOSE = 1e-3


@dataclass(frozen=True)
class Rates:
    """The learning rate as a function of the step.

    Attributes:
        sessions: the step that each began after, and its settings; without a session that another one superseded.
        steps: the numbers of the steps that were taken.
    """

    sessions: tuple[tuple[int, TrainingConfig], ...]
    steps: range

    def __call__(self, step: int) -> float:
        """The rate of a step, counted from 1."""
        number = bisect_left(self.sessions, step, key=lambda session: session[0]) - 1
        return learning_rate_at(step - 1, self.sessions[max(0, number)][1])

    def bends(self) -> Iterator[int]:
        """Steps at which the rate jumps or turns, which a thinned out curve keeps."""
        for start, training in self.sessions:
            yield from (start, start + 1, training.warmup_steps + 1)


def rates_of(columns: Columns) -> Rates | None:
    """The rates by the settings in the log; None where it does not tell them, or tells rates that they do not give."""
    try:
        sessions = tuple((start, _settings(config)) for start, config in columns.sessions)
    except (KeyError, ValidationError):
        return None
    if not sessions or columns.reached <= columns.first_step:
        return None
    rates = Rates(sessions, range(columns.first_step + 1, columns.reached + 1))
    for logged in (columns.steps, columns.evals):
        told: Sequence[float] = logged.get("lr", ())
        for i in range(0, len(told), max(1, len(told) // CHECKED)):
            step = max(int(logged["step"][i]), rates.steps[0])
            if isfinite(told[i]) and not isclose(told[i], rates(step), rel_tol=CLOSE):
                return None
    return rates


def _settings(config: dict[str, Any]) -> TrainingConfig:
    given = {name: config[name] for name in _SETTINGS if config.get(name) is not None}
    given["learning_rate"], given["lr_schedule"] = config["learning_rate"], config["lr_schedule"]
    return TrainingConfig(**given)
