"""The layout of a bundle: which files, under which names."""

import re
from difflib import get_close_matches
from pathlib import Path

from mypt.checkpoint.atomic import recover
from mypt.errors import UsageError
from mypt.schema.files.state import TrainingState
from mypt.schema.settings.output import DEFAULT_OUT_DIR

MODEL_FILE = "model.pt"
OPTIMIZER_FILE = "optimizer.pt"
CONFIG_FILE = "config.json"
TOKENIZER_FILE = "tokenizer.json"
STATE_FILE = "training_state.json"

_NAME = re.compile(r"^(?!\.)[^\x00-\x1f/\\:*?\"<>|]{1,100}(?<![ .])$")


def check_name(name: str) -> str:
    """The name itself, if it can name a folder on every system.

    Raises:
        UsageError: it is empty, too long, starts or ends with a dot, or holds a character such as `/`.
    """
    if not _NAME.match(name) or name.strip() != name:
        raise UsageError(
            f"{name!r} cannot be the name of a model.",
            "Use up to 100 letters, digits, dashes, underscores and dots, with no slash and no leading dot.",
        )
    return name


def bundle_path(name: str, out_dir: Path = DEFAULT_OUT_DIR) -> Path:
    """The folder of an existing bundle, given by name or by path.

    Raises:
        UsageError: there is none; the sentence names those that are there.
    """
    as_path = Path(name)
    if (as_path / CONFIG_FILE).is_file() and as_path.name != name:
        return as_path
    path = out_dir / check_name(as_path.name if as_path.parent == out_dir else name)
    recover(path)
    if path.is_dir():
        return path
    names = bundle_names(out_dir)
    near = get_close_matches(name, names, n=1)
    raise UsageError(
        f"There is no model {name!r} in {out_dir}" + (f"; did you mean {near[0]}?" if near else "."),
        f"Those present: {', '.join(names)}." if names else f"Start one with `mypt train {name}`.",
    )


def bundle_names(out_dir: Path) -> list[str]:
    """The names of all bundles in a folder, sorted."""
    if not out_dir.is_dir():
        return []
    return sorted(p.name for p in out_dir.iterdir() if (p / CONFIG_FILE).is_file() and p.name[0] != ".")


def log_path(name: str) -> Path:
    """Where the log of a run goes when nothing else is said."""
    return Path("logs") / "train" / f"{name}_eval.jsonl"


def log_of(bundle: Path, state: TrainingState) -> Path | None:
    """The log that a bundle's record names, wherever the call comes from; None where the run kept none."""
    return bundle.absolute().parent.parent / state.log_file if state.log_file else None


def stored_log(log: Path, bundle: Path) -> str:
    """How a bundle records its log: from the folder around all bundles, so that both can be moved; else absolute."""
    base, path = bundle.absolute().parent.parent, log.absolute()
    return (path.relative_to(base) if path.is_relative_to(base) else path).as_posix()


def nearby(path: Path) -> str:
    """A path as the user would write it: from the working folder if it is in there."""
    return (path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path).as_posix()
