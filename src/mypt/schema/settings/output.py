"""Where bundles and logs are written, and what verbs that show them can be asked for."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator

from mypt.schema.base import Section, place, setting
from mypt.schema.order.labels import Note, Tag

DEFAULT_OUT_DIR = Path("checkpoints")
Mirror = Literal["tensorboard", "trackio", "wandb"]
"""Trackers that can show a run."""
Axis = Literal["tokens", "steps", "time"]
"""What curves can be drawn over."""
SortKey = Literal["name", "parameters", "step", "val", "bpb", "tokens", "saved"]
"""What all bundles of a folder can be sorted by."""
TableEvent = Literal["eval", "step", "evaluation"]
"""Events that come in numbers, each with the same figures."""
Place = Annotated[Path, AfterValidator(place)]


class OutputConfig(Section):
    """Where bundles and logs are written."""

    out_dir: Place = setting(DEFAULT_OUT_DIR, "Folder for all bundles.", on_resume="harmless", common=True)
    log_file: Place | None = setting(
        None, "Log of the run, one JSON event per line; defaults to logs/train/NAME_eval.jsonl.",
        on_resume="harmless",
    )  # fmt: skip
    tag: tuple[Tag, ...] = setting(
        (), "Tag of the run, by which other verbs find it; can be given again. `mypt tag` changes it later.",
        on_resume="harmless",
    )  # fmt: skip
    note: Note | None = setting(None, "A sentence on the run, kept in its record.", on_resume="harmless")
    mirror: tuple[Mirror, ...] = setting(
        (), "Also send every event of the log to this tracker while training; can be given again.",
        on_resume="harmless",
    )  # fmt: skip
