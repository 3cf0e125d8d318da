"""Whether a GPU computes the same each time: its fastest kernels leave the order of additions to chance."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch

from mypt.schema.files.state import TrainingState
from mypt.schema.settings.config import GPTConfig
from mypt.schema.settings.training import TrainingConfig
from mypt.train.device.choices import Choice
from mypt.train.device.devices import WORKSPACE, reserve_workspace
from mypt.train.device.memory import memory_told

COST = 1.05
"""A step may take this many times as long for the sake of exactness, unless exactness is asked for."""


def can_order(device: str) -> bool:
    """Whether torch has a mode in which a device computes the same each time; a CPU does so anyway."""
    return device.startswith("cuda")


def ways_to_compute(training: TrainingConfig, device: str) -> tuple[bool, ...]:
    """The ways to time a step: as it comes (False), the same each time (True), or both where the cost decides."""
    if training.deterministic is False or not can_order(device):
        return (False,)
    return (True,) if training.deterministic else (False, True)


def unavailable(training: TrainingConfig, device: str) -> Choice | None:
    """The decision where this is asked for and no mode of the device promises it; None anywhere else."""
    if not training.deterministic or device == "cpu" or can_order(device):
        return None
    return Choice(False, f"torch promises it for CUDA, and nothing for {device}")


def decide(step_s: Mapping[bool, float]) -> Choice:
    """Whether the cost of exactness is worth it, by the seconds of a step in both ways."""
    plain, exact = step_s[False], step_s[True]
    figures = f"{1e3 * exact:,.1f} ms so, {1e3 * plain:,.1f} as it comes"
    return Choice(exact <= COST * plain, f"measured: a step takes {figures}")


@contextmanager
def in_order(on: bool) -> Iterator[None]:
    """Compute the same each time within the block; what has no such kernel raises an error that `refusal` knows."""
    if not on:
        yield
        return
    reserve_workspace()
    cudnn = torch.backends.cudnn
    mode, filling = torch.get_deterministic_debug_mode(), torch._C._get_deterministic_fill_uninitialized_memory()
    kernels, tuned = cudnn.deterministic, cudnn.benchmark
    try:
        torch.set_deterministic_debug_mode("error")  # use_deterministic_algorithms would load the compiler, for 2 s
        torch._C._set_deterministic_fill_uninitialized_memory(False)  # nothing here reads any
        cudnn.deterministic, cudnn.benchmark = True, False
        yield
    finally:
        torch.set_deterministic_debug_mode(mode)
        torch._C._set_deterministic_fill_uninitialized_memory(filling)
        cudnn.deterministic, cudnn.benchmark = kernels, tuned


@contextmanager
def computing(config: GPTConfig, training: TrainingConfig) -> Iterator[None]:
    """Compute for a session in the way that its settings say; errors are those of `memory_told`."""
    with memory_told(config, training), in_order(bool(training.deterministic) and can_order(config.device)):
        yield


def refusal(error: RuntimeError) -> str | None:
    """Why torch cannot compute the same each time; None if an error says something else."""
    if found := re.match(r"(\S+) does not have a deterministic implementation", str(error)):
        return f"torch {torch.__version__} has no deterministic {found[1]}"
    if "it uses CuBLAS" in str(error):
        return f"this process used cuBLAS before {WORKSPACE} was set; set it to :4096:8 before Python starts"
    return None


def settled(state: TrainingState, choice: Choice | None) -> TrainingState:
    """The state with the decision, if there was one, and with what it makes of the promise of an exact resume."""
    if choice is not None:
        state = state.with_settings(deterministic=choice.on, deterministic_reason=choice.reason)
    exact = all(s.training_config.deterministic or s.environment.device == "cpu" for s in state.sessions)
    return state.model_copy(update={"exact_resume": state.exact_resume and exact})
