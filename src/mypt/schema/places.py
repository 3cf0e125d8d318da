"""Where records are kept when nothing else is said."""

from pathlib import Path

DEFAULT_OUT_DIR = Path("checkpoints")
OUT_DIR_HELP = "Folder of all bundles."
