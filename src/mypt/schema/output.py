"""Settings of where the record goes."""

from pathlib import Path

from mypt.schema.fields import Section, setting
from mypt.schema.places import DEFAULT_OUT_DIR, OUT_DIR_HELP


class OutputConfig(Section):
    """Where the record goes."""

    out_dir: Path = setting(DEFAULT_OUT_DIR, OUT_DIR_HELP, on_resume="harmless")
    log_file: Path | None = setting(
        None, "The run's log, one JSON event a line; logs/train/NAME_eval.jsonl when not given.",
        on_resume="harmless",
    )  # fmt: skip
