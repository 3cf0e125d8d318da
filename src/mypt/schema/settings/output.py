"""Output paths."""

from pathlib import Path

from mypt.schema.base import Section, setting

DEFAULT_OUT_DIR = Path("checkpoints")


class OutputConfig(Section):
    """Where bundles and logs are written."""

    out_dir: Path = setting(DEFAULT_OUT_DIR, "Folder for all bundles.", on_resume="harmless")
    log_file: Path | None = setting(
        None, "Log of the run, one JSON event per line; defaults to logs/train/NAME_eval.jsonl.",
        on_resume="harmless",
    )  # fmt: skip
