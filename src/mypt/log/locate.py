"""Which log is meant: by its path, or by the name of the model."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mypt.checkpoint.files import read_state
from mypt.checkpoint.layout import CONFIG_FILE, bundle_path, log_of, log_path
from mypt.errors import BundleError, InputError, did_you_mean

LOG_FOLDER = log_path("x").parent
_END = log_path("").name


@dataclass(frozen=True)
class FoundLog:
    """A log that was found.

    Attributes:
        bundle: the folder that its run writes to, as far as that can be told.
        run_id: of the run that is meant, where several models share the log.
    """

    path: Path
    bundle: Path
    run_id: str | None = None


def find_log(word: str, out_dir: Path) -> FoundLog:
    """The log at a path, or of a model: the one that the model's record names, or the one named after it.

    Raises:
        InputError: there is none; the sentence names those that are there.
    """
    path = Path(word)
    if path.is_file():
        return FoundLog(path, out_dir / path.name.removesuffix(_END))
    own = log_path(path.name)
    with suppress(BundleError):
        if (out_dir / word / CONFIG_FILE).is_file() or (path / CONFIG_FILE).is_file():
            bundle = bundle_path(word, out_dir)
            state = read_state(bundle)
            recorded = log_of(bundle, state)
            if recorded is not None and recorded.is_file():
                shared = recorded.name != own.name
                return FoundLog(recorded, bundle, state.run_id if shared else None)
    if own.is_file():
        return FoundLog(own, out_dir / path.name)
    names = [p.name.removesuffix(_END) for p in all_logs()]
    there = f"Those in {LOG_FOLDER.as_posix()}: {', '.join(names)}."
    todo = there if names else "`mypt train` writes one for each model."
    raise InputError(f"There is no log {word!r}{did_you_mean(word, names)}", todo)


def all_logs() -> list[Path]:
    """Every log in the folder where runs keep them, sorted."""
    return sorted(LOG_FOLDER.glob("*.jsonl"))
