"""File names of a bundle and paths of bundles and logs."""

import re
from pathlib import Path

from mypt.checkpoint.atomic import recover
from mypt.errors import UsageError, did_you_mean
from mypt.schema.files.state import TrainingState
from mypt.schema.settings.output import DEFAULT_OUT_DIR

MODEL_FILE = "model.pt"
OPTIMIZER_FILE = "optimizer.pt"
CONFIG_FILE = "config.json"
TOKENIZER_FILE = "tokenizer.json"
STATE_FILE = "training_state.json"

_NAME = re.compile(r"^(?!\.)[^\x00-\x1f/\\:*?\"<>|]{1,100}(?<![ .])$")


def check_name(name: str) -> str:
    """Return `name` if it is a valid folder name on every platform.

    Raises:
        UsageError: it is empty, too long, starts or ends with a dot, or has a character such as `/`.
    """
    if not _NAME.match(name) or name.strip() != name:
        raise UsageError(
            f"{name!r} cannot be the name of a model.",
            "Use up to 100 letters, digits, dashes, underscores and dots, with no slash and no leading dot.",
        )
    return name


def bundle_path(name: str, out_dir: Path = DEFAULT_OUT_DIR) -> Path:
    """The folder of an existing bundle, given by name or path.

    Raises:
        UsageError: there is no such bundle; the message lists the existing ones.
    """
    as_path = Path(name)
    if (as_path / CONFIG_FILE).is_file() and as_path.name != name:
        return as_path
    path = out_dir / check_name(as_path.name if as_path.parent == out_dir else name)
    recover(path)
    if path.is_dir():
        return path
    names = bundle_names(out_dir)
    raise UsageError(
        f"There is no model {name!r} in {out_dir}{did_you_mean(name, names)}",
        f"Those present: {', '.join(names)}." if names else f"Start one with `mypt train {name}`.",
    )


def bundle_names(out_dir: Path) -> list[str]:
    """Sorted names of all bundles in a folder."""
    if not out_dir.is_dir():
        return []
    return sorted(p.name for p in out_dir.iterdir() if (p / CONFIG_FILE).is_file() and p.name[0] != ".")


def log_path(name: str) -> Path:
    """Default path of a run's log."""
    return Path("logs") / "train" / f"{name}_eval.jsonl"


def log_of(bundle: Path, state: TrainingState) -> Path | None:
    """Path of the log that a training state points to; None if the run has no log."""
    return bundle.absolute().parent.parent / state.log_file if state.log_file else None


def log_reference(log: Path, bundle: Path) -> str:
    """The `log_file` of a training state: relative to the parent of the bundles' folder if inside it, else absolute.

    A relative path survives moving the bundles and logs together.
    """
    base, path = bundle.absolute().parent.parent, log.absolute()
    return (path.relative_to(base) if path.is_relative_to(base) else path).as_posix()


def display_path(path: Path) -> str:
    """A path for messages: relative to the working folder if inside it."""
    return (path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path).as_posix()
