"""The calls that follow on what a verb has done, for the run at hand; each can be copied as it stands.

Of a bundle that is damaged nothing is offered.
"""

import shlex
from collections.abc import Callable, Iterator
from functools import wraps
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec

from mypt.checkpoint.family import record_of
from mypt.checkpoint.files import read_config, read_tokenizer
from mypt.checkpoint.layout import base_name, bundle_names, command
from mypt.checkpoint.lineage import recorded_name
from mypt.errors import BundleError
from mypt.exchange.homes import home_or_code
from mypt.run.exchange.choice import better_gold_of
from mypt.schema.files.state import TrainingState
from mypt.schema.settings.output import DEFAULT_OUT_DIR

if TYPE_CHECKING:
    from mypt.log.compare import Comparison
    from mypt.train.plan import Plan

P = ParamSpec("P")


def _of_whole_bundles(calls: Callable[P, list[str]]) -> Callable[P, list[str]]:
    @wraps(calls)
    def offered(*args: P.args, **more: P.kwargs) -> list[str]:
        try:
            return calls(*args, **more)
        except BundleError:
            return []

    return offered


def while_training(plan: "Plan", out_dir: Path) -> list[str]:
    """How to look at a run that is about to begin, where the board is installed."""
    if "--dry-run" in plan.state.sessions[-1].command or find_spec("starlette") is None:
        return []
    place = () if out_dir.absolute() == DEFAULT_OUT_DIR.absolute() else ("--out-dir", out_dir.as_posix())
    return [f"Watch it from another terminal: {shlex.join(['mypt', 'board', '--open', *place])}"]


@_of_whole_bundles
def after_training(run: Path, state: TrainingState) -> list[str]:
    """What can be done with a run that is complete: use it, go on, compare or try something else, export.

    How several processes are started is not for mypt to say.
    """
    if state.environment is not None and state.environment.shared_by:
        return _listed(use_of(run), export_of(run))
    calls = [use_of(run), command("resume", run, "--max-iters", str(2 * state.step))]
    other = _comparable(run, state)
    calls += [command("compare", other, run.name)] if other else _another(run, state)
    return _listed(*calls, export_of(run))


@_of_whole_bundles
def after_comparing(found: "Comparison", words: list[str], out_dir: Path) -> list[str]:
    """What can be done with the best of runs that compare; nothing where it has only its log."""
    losses = [run.results.get("best_val_loss") for run in found.runs]
    known = [(loss, word) for loss, word in zip(losses, words, strict=True) if isinstance(loss, float)]
    run = out_dir / min(known)[1] if known else out_dir
    if len(known) < len(words) or found.verdict != "comparable" or record_of(run) is None:
        return []
    return _listed(use_of(run), export_of(run))


@_of_whole_bundles
def after_generating(bundle: Path) -> list[str]:
    """How a run is exported that was not exported yet."""
    run = bundle.with_name(base_name(bundle.name))
    there = any(run.with_name(f"{run.name}_{form}").exists() for form in ("hf", "gguf"))
    return [] if there or record_of(run) is None else _listed(export_of(run))


def use_of(run: Path) -> str:
    """The call that lets the best bundle of a run write, or answer where it has learned to."""
    better = better_gold_of(run)
    talks = read_tokenizer(run).chat_template is not None
    return command("chat" if talks else "generate", better.path if better else run)


def export_of(run: Path) -> str:
    """The call that exports a run for other programs."""
    return command("export", run, *(() if home_or_code(read_config(run)) else ("--with-code",)))


def _comparable(run: Path, state: TrainingState) -> Path | None:
    """The run of the same data that was saved last before this one."""
    others: list[tuple[str, Path]] = []
    for name in bundle_names(run.parent):
        other = record_of(run.parent / name)
        if other is None or other.data is None or state.data is None or recorded_name(run.parent / name, other) != name:
            continue
        if name != run.name and other.data.fingerprint == state.data.fingerprint:
            others.append((other.saved_at or "", run.parent / name))
    return max(others)[1] if others else None


def _another(run: Path, state: TrainingState) -> Iterator[str]:
    """The same call for another run at half the learning rate; none where the call was of another form."""
    words = [*state.sessions[-1].command]
    if len(state.sessions) > 1 or words[:3] != ["mypt", "train", run.name] or "-" in words:
        return
    numbered = (f"{run.name}_{number}" for number in range(2, 1000))
    name = next(name for name in numbered if not run.with_name(name).exists())
    kept = without(without(without(words, "--learning-rate"), "--lr"), "--fresh", has_value=False)
    rate = f"{state.training_config.learning_rate / 2:g}"
    yield shlex.join(["mypt", "train", name, *kept[3:], "--learning-rate", rate])


def _listed(*calls: str) -> list[str]:
    return ["Next:", *(f"  {call}" for call in calls)]


def without(words: list[str], name: str, has_value: bool = True) -> list[str]:
    """A call without an option."""
    kept, skips = [], False
    for word in words:
        spelling, joined, _ = word.partition("=")
        if skips:
            skips = False
        elif spelling.replace("_", "-") != name:
            kept.append(word)
        else:
            skips = has_value and not joined
    return kept
