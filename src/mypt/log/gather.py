"""The events of a log with like evaluations gathered: what a long log is made of, at twice the pace of one by one."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any

from mypt.log.reader import LineParser, PassedOver, reading
from mypt.schema.kinds import eval_sets

LONG_LOG = 4 << 20
"""Bytes from which a log repays the loading of what decodes like lines."""
BLOCK_BYTES = 1 << 15
"""Lines to look at together: about a hundred, so that a faulty one among them spoils the pace of few."""
WORDS = ("event", "run_id", "phase")
FIGURES = ("iter", "elapsed_s", "tokens_processed", "eval_duration_s", "val_loss", "train_loss", "val_se")


@dataclass(frozen=True)
class Evals:
    """Evaluations in a row, of one run and phase.

    Attributes:
        run_id: of the run.
        phase: of its curriculum.
        columns: the values of each of `FIGURES` and of each further eval set that was logged, one an evaluation.
    """

    run_id: str | None
    phase: str
    columns: Mapping[str, Sequence[Any]]


def gathered(path: Path, passed: PassedOver) -> Iterator[Evals | dict[str, Any]]:
    """The events of a log, in order, however long it is.

    Args:
        path: the log.
        passed: counts the lines that are no events.

    Raises:
        InputError: the log cannot be read.
    """
    parse = LineParser(passed).parse
    with reading(path) as log:
        if path.stat().st_size < LONG_LOG:
            yield from (event for event in map(parse, log) if event is not None)
            return
        like: _Like | None = None
        while lines := log.readlines(BLOCK_BYTES):
            if like is not None and (evals := like.take(lines)) is not None:
                yield evals
                continue
            found = [event for event in map(parse, lines) if event is not None]
            yield from found
            if found and found[-1]["event"] == "eval":
                like = _Like(found[-1])


class _Like:
    """Takes in lines that are evaluations with the same fields as one, and values of the same kinds.

    Args:
        model: the one.
    """

    def __init__(self, model: dict[str, Any]) -> None:
        from msgspec import Meta, defstruct
        from msgspec.json import Decoder

        whole = Annotated[int, Meta(ge=-(2**62), le=2**62)]  # longer ones are left to the parser of single lines
        names = {key: f"field_{number}" for number, key in enumerate(model)}  # a key need not be an identifier
        fields: list[tuple[str, Any]] = [
            (names[key], whole if type(value) is int else type(value)) for key, value in model.items()
        ]
        rename = {name: key for key, name in names.items()}
        shape = defstruct("Evaluation", fields, rename=rename, forbid_unknown_fields=True, gc=False)
        self._decode = Decoder(shape).decode
        self._keys = [key for key in (*WORDS, *FIGURES, *eval_sets(tuple(model))) if key in model]
        self._values = attrgetter(*(names[key] for key in self._keys))

    def take(self, lines: Sequence[bytes]) -> Evals | None:
        """All of the lines; None if one of them is another, or of another run or phase."""
        try:
            rows = [*map(self._decode, lines)]
        except ValueError:
            return None
        columns = dict(zip(self._keys, zip(*map(self._values, rows), strict=True), strict=True))
        words = [{*columns.pop(word, (None,))} for word in WORDS]
        if any(len(values) > 1 for values in words) or words[0] != {"eval"}:
            return None
        (_,), (run_id,), (phase,) = words
        return Evals(run_id, phase, columns)
