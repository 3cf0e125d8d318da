"""`mypt verify --untrusted`: what may be trusted of a bundle that came from elsewhere."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mypt.checkpoint.family import record_of
from mypt.checkpoint.layout import log_of
from mypt.run.verify import Check, verify_bundle
from mypt.schema.files.state import DataRecord, TrainingState

SHOWN = 3


@dataclass(frozen=True)
class Judgement:
    """What a look at a bundle alone comes to, without going where its record points.

    Attributes:
        checks: those of its own files.
        places: every other place that its record names.
    """

    path: Path
    checks: tuple[Check, ...]
    places: tuple[str, ...]

    @property
    def faults(self) -> int:
        """Checks that do not hold."""
        return sum(check.ok is False for check in self.checks)

    def line(self) -> str:
        """What may be done with the bundle, in one line."""
        if self.faults:
            first = next(check for check in self.checks if check.ok is False)
            return f"{self.path}: not to be loaded; {first.name}: {first.found}."
        named = ", ".join(self.places[:SHOWN]) + (", …" if len(self.places) > SHOWN else "")
        places = f"it names {len(self.places)} other places ({named})" if self.places else "it names no other place"
        return (
            f"{self.path}: can be loaded, as it holds tensors and JSON of one step that fit each other; {places}. "
            "Who made it, and on what, is what it says of itself, and not proven."
        )


def judge(path: Path) -> Judgement:
    """Look at a bundle alone."""
    checks = tuple(verify_bundle(path, alone=True))
    state = record_of(path)
    return Judgement(path, checks, tuple(dict.fromkeys(_places(path, state))) if state else ())


def _places(path: Path, state: TrainingState) -> Iterator[str]:
    log = log_of(path, state)
    if log is not None:
        yield str(log)
    if state.parent is not None:
        yield state.parent.path
    records = [state.data, *(phase.data for phase in state.curriculum), *state.eval_sets.values()]
    for record in filter(None, records):
        yield from _of_data(record)


def _of_data(record: DataRecord) -> Iterator[str]:
    yield from [record.dataset_dir] if record.dataset_dir else [source.path for source in record.sources]
