"""What an event of a log is to a tracker: numbers with names, at a step."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, get_args

from mypt.schema.files.events import eval_sets
from mypt.schema.settings.output import TableEvent

_OF_EVERY_EVENT = {"event", "iter", "timestamp", "run_id", "attempt", "nonfinite"}


@dataclass(frozen=True)
class Point:
    """One event.

    Attributes:
        event: its name.
        step: the step that it tells of.
        at: seconds since 1970; None where that is not known.
        numbers: by the name of their curve.
        texts: what else it says, by the name of the field; nothing for events that come in numbers.
        config: settings and architecture of a session that starts; else empty.
    """

    event: str
    step: int
    at: float | None
    numbers: Mapping[str, float]
    texts: Mapping[str, str]
    config: Mapping[str, Any]


def point_of(event: Mapping[str, Any]) -> Point:
    """The point of an event, as a line of the log has it."""
    name, config = event["event"], {}
    if name == "training_start":
        config = {**event["model"], **event["config"]}
    fields = {key: value for key, value in event.items() if key not in _OF_EVERY_EVENT and not config}
    numbers = {key: v for key, v in fields.items() if isinstance(v, int | float) and not isinstance(v, bool)}
    in_numbers = name in get_args(TableEvent)
    group = f"evaluation/{event['source']}" if name == "evaluation" else name
    return Point(
        event=name,
        step=event.get("iter", event.get("total_steps", config.get("start_step") or 0)),
        at=_seconds(event.get("timestamp")),
        numbers={curve_name(key) if in_numbers else f"{group}/{key}": value for key, value in numbers.items()},
        texts={} if in_numbers else {key: value for key, value in fields.items() if isinstance(value, str)},
        config={key: value for key, value in config.items() if value is not None},
    )


def curve_name(column: str) -> str:
    """The name of the curve of a field of evaluations and steps, grouped: `val_loss` is loss/val, `val_bpb` bpb/val."""
    for group in ("loss", "se", "bpb"):
        if column.endswith(f"_{group}"):
            return f"{group}/{column.removesuffix(f'_{group}')}"
    if column == "loss":
        return "loss/step"
    if eval_sets([column]):
        return f"loss/{column.removeprefix('eval_')}"
    return f"run/{column}"


def _seconds(timestamp: object) -> float | None:
    """Seconds since 1970; None where a log tells no time."""
    try:
        return datetime.fromisoformat(str(timestamp)).timestamp()
    except (ValueError, OverflowError, OSError):
        return None
