"""Settings of where the record goes."""

from pathlib import Path

from mypt.schema.base import Section, setting

DEFAULT_OUT_DIR = Path("checkpoints")


class OutputConfig(Section):
    """Where the record goes."""

    out_dir: Path = setting(DEFAULT_OUT_DIR, "Folder of all bundles.", on_resume="harmless")
    log_file: Path | None = setting(
        None, "The run's log, one JSON event a line; logs/train/NAME_eval.jsonl when not given.",
        on_resume="harmless",
    )  # fmt: skip
