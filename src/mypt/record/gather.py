"""The events of a log with like evaluations gathered: what a long log is made of, at twice the pace of one by one."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from mypt.record.log import LineParser, PassedOver, reading
from mypt.schema.kinds import fits

BLOCK_BYTES = 1 << 15
"""Lines to look at together: about a hundred, so that a faulty one among them spoils the pace of few."""


@dataclass(frozen=True)
class Evals:
    """Evaluations in a row, of one run, that have the same fields with values of the same kinds.

    Attributes:
        columns: the values of each field, one for each evaluation.
    """

    columns: dict[str, tuple[Any, ...]]

    @property
    def run_id(self) -> str | None:
        """The run that they are of."""
        found: str | None = self.columns["run_id"][0] if "run_id" in self.columns else None
        return found

    def events(self) -> Iterator[dict[str, Any]]:
        """The same, one by one."""
        return (dict(zip(self.columns, row, strict=True)) for row in zip(*self.columns.values(), strict=True))


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
        while lines := log.readlines(BLOCK_BYTES):
            if (alike := _alike(lines)) is not None:
                yield alike
            else:
                yield from (event for event in map(parse, lines) if event is not None)


def _alike(lines: Sequence[bytes]) -> Evals | None:
    """Lines that are evaluations of one run and of one shape; None for all others, which may still be events."""
    try:
        contents = list(map(orjson.loads, lines))
        keys = tuple(contents[0])
        if not all(map(keys.__eq__, map(tuple, contents))):
            return None
        columns = dict(zip(keys, zip(*map(dict.values, contents), strict=True), strict=True))
    except (ValueError, TypeError):  # a faulty line, or one that is no object
        return None
    kinds = [set(map(type, column)) for column in columns.values()]
    if set(columns.get("event", ())) != {"eval"} or any(len(kind) > 1 for kind in kinds):
        return None
    if not fits("eval", keys, tuple(kind.pop() for kind in kinds)):
        return None
    return Evals(columns) if len(set(columns.get("run_id", ()))) <= 1 else None
