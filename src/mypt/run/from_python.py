"""`mypt.resume`: going on with a recorded run from Python, as `mypt resume` does."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mypt.checkpoint.files import read_state
from mypt.errors import UsageError
from mypt.launch import Launch
from mypt.run.settings import settings_of_call
from mypt.run.train import Call, train
from mypt.schema.settings.output import DEFAULT_OUT_DIR
from mypt.train.observer import Guarded, Observer, PrintObserver
from mypt.train.stop import FitResult


def resume(
    name: str,
    *,
    out_dir: str | Path = DEFAULT_OUT_DIR,
    from_gold: bool = False,
    observer: Observer | None = None,
    **settings: Any,
) -> FitResult:
    """Go on with a recorded run: its architecture, data, tokenizer and optimizer; training settings may change.

    The bundle, its log and the fp16 export are written as by `mypt resume`; `GPT.load(name)` gives the model.

    Args:
        name: of the run, or the path of its bundle.
        out_dir: folder of all bundles.
        from_gold: rewind to the run's gold bundle, and go on from there under the same name.
        observer: who watches; by default changes and two-line summaries are printed.
        **settings: what `mypt resume` takes, such as `max_iters=2000`, `learning_rate=1e-4`, `device="cpu"` or
            `input_file="moved.txt"`; what is not given stays as recorded.

    Returns:
        The session; one without evaluations if nothing was left to do.

    Raises:
        UsageError: there is no such run, a setting is wrong, or it contradicts the record.
        BundleError: the bundle is damaged, or is an export without optimizer state.
        BusyError: another process writes under this name.
        StorageError: the disk refused, or has too little room.

    Example:
        >>> mypt.resume("dante", max_iters=2000, learning_rate=1e-4)  # doctest: +SKIP
    """
    if Launch.of().size > 1:
        raise UsageError(
            "From Python a run is gone on with by one process, and torchrun has started several.",
            f"Start them by `torchrun ... -m mypt resume {name}`.",
        )
    observer = Guarded(observer or PrintObserver())
    given = {"out_dir": out_dir, **{n: _text(value) for n, value in settings.items()}}
    call = Call(name, settings_of_call(name, given, source="this call"), must_exist=True, from_gold=from_gold)
    outcome = train(call, observer)
    if outcome.result is None:
        more = "max_iters" if outcome.patience is None else f"patience, such as patience={outcome.patience}"
        observer.notice(f"Nothing left to do: {name} is at step {outcome.step} already; give a larger {more}.")
        return FitResult(read_state(outcome.path), [])
    if outcome.result.stopped:
        observer.notice(f"Stopped after step {outcome.step} ({outcome.result.stopped}); everything is saved.")
    return outcome.result


def _text(value: Any) -> Any:
    """A setting with its paths as the text that they are on the command line."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {k: _text(v) for k, v in value.items()}
    return [_text(v) for v in value] if isinstance(value, list | tuple) else value
