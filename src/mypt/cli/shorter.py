"""What a call could be that takes minutes, where the planned one takes hours."""

import os
import shlex
from collections.abc import Iterator
from pathlib import Path

from mypt import units
from mypt.cli.next_calls import without
from mypt.data.text import is_sample
from mypt.model.cost import flops_per_token
from mypt.schema.settings.config import GPTConfig
from mypt.schema.settings.presets import PRESETS
from mypt.schema.settings.training import TrainingConfig
from mypt.train.plan import WORTHWHILE, Plan

LONG_S = 600.0
FITTING_S = 300.0
SMALL_FACTOR = 3.0
"""How much longer a floating point operation takes in a small model: measured 2.6 between 49M and 0.4M parameters."""
LEAST_STEP_S = 0.005
"""What a step takes on any machine before it computes."""
CHARACTERS = 256
"""Vocabulary of the small model, which its text decides."""


def shorter_calls(plan: Plan) -> list[str]:
    """The lines on a run that takes more than ten minutes; none where it does not."""
    total = plan.training_s + plan.evaluating_s
    if total <= LONG_S:
        return []
    said = f"This run takes about {units.duration(total)} on this machine; Ctrl-C ends it at any step, saved."
    calls = [*_calls(plan)] if plan.state.environment is None or not plan.state.environment.shared_by else []
    if not calls:
        return [said]
    return [said, "What takes less:", *(line for call, takes in calls for line in (f"  {takes}:", f"    {call}"))]


def _calls(plan: Plan) -> Iterator[tuple[str, str]]:
    """Calls, and what each takes."""
    words = [*plan.state.sessions[-1].command]
    typed = without(words, "--dry-run", has_value=False)
    if not typed:
        return
    if tiny_seconds(plan) <= LONG_S and (tiny := _tiny(plan, typed)) is not None:  # not of a run of smaller steps
        yield tiny, f"about {units.duration(tiny_seconds(plan))}, a small model"
    steps = fitting_steps(plan)
    if steps >= WORTHWHILE:
        fewer = [*without(typed, "--max-iters"), "--max-iters", str(plan.first_step + steps)]
        yield shlex.join(fewer), f"about {units.duration(_seconds_of(plan, steps))}, the same model"
    if typed == words:
        yield shlex.join([*typed, "--dry-run"]), "the plan alone"


def fitting_steps(plan: Plan) -> int:
    """How many steps take a few minutes, in two digits."""
    per_step = plan.step_s + plan.eval_s / plan.training.eval_interval
    steps = int((FITTING_S - plan.eval_s) / per_step)
    unit = int(10 ** max(0, len(str(steps)) - 2))
    return steps // unit * unit


def _seconds_of(plan: Plan, steps: int) -> float:
    return steps * plan.step_s + -(-steps // plan.training.eval_interval) * plan.eval_s


def tiny_seconds(plan: Plan) -> float:
    """What the smallest preset takes, at the speed of the measured step."""
    settings = PRESETS["tiny"].settings
    config = GPTConfig(**{n: v for n, v in settings.items() if n in GPTConfig.model_fields}, vocab_size=CHARACTERS)
    training = TrainingConfig(**{n: v for n, v in settings.items() if n in TrainingConfig.model_fields})
    speed = flops_per_token(plan.config) * plan.tokens_per_step / max(plan.step_s, 1e-9)
    batch_s = SMALL_FACTOR * flops_per_token(config) * config.batch_size * config.block_size / speed
    step_s = max(LEAST_STEP_S, batch_s)
    evaluations = training.max_iters // training.eval_interval
    return training.max_iters * step_s + evaluations * 2 * training.eval_iters * batch_s / 3


def _tiny(plan: Plan, words: list[str]) -> str | None:
    """The call that trains the smallest preset on the same text; None where that needs more than a text."""
    data, state = plan.data, plan.state
    if data is None or data.dataset_dir or state.curriculum or state.parent or plan.first_step or state.eval_sets:
        return None
    texts = [] if is_sample(data.sources[0].path) else [source.path for source in data.sources]
    if "-" in texts:
        return None
    inputs = [word for text in texts for word in ("--input-file", _shown(text))]
    kept = [word for name in ("--text-field", "--out-dir", "--log-file") for word in _given(words, name)]
    again = [] if "--dry-run" in state.sessions[-1].command else ["--fresh"]  # by then this one may have saved a step
    return shlex.join(["mypt", "train", plan.name, *inputs, *kept, "--preset", "tiny", *again])


def _shown(path: str) -> str:
    """A path as it is from here, if that is shorter."""
    try:
        return min(path, os.path.relpath(path), key=len) if Path(path).is_absolute() else path
    except ValueError:  # another drive
        return path


def _given(words: list[str], name: str) -> list[str]:
    """An option of a call with its value, if it is there."""
    for word, value in zip(words, [*words[1:], ""], strict=True):
        spelling, joined, after = word.replace("_", "-").partition("=")
        if spelling == name:
            return [name, word.partition("=")[2] if joined and after else value]
    return []
