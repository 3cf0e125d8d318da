"""Where a session's time goes, what is left of it, how fast it trains, and what share of the device's peak that is."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mypt.model.cost import flops_per_token
from mypt.schema.files.events import timestamp
from mypt.schema.settings.config import GPTConfig
from mypt.schema.settings.training import TrainingConfig
from mypt.train.device.devices import hardware

if TYPE_CHECKING:
    from mypt.schema.files.state import TrainingState
    from mypt.train.step import Stepper

PEAK_TFLOPS = {"H200": 989.0, "H100": 989.0, "A100": 312.0, "RTX 4090": 165.0, "RTX 3090": 71.0}
"""Dense bf16 peaks from NVIDIA's data sheets, by a part of the name that the driver gives."""
LEAVING_S = 0.5
"""Seconds of a time limit that are kept for what comes after the last save."""


@dataclass
class Clock:
    """Seconds of a session since it started: in steps, evaluations, saves and samples, and the latest of each.

    Attributes:
        latest: as planned until there was one.
        lap_began: `training` at the last call of `lap`.
    """

    started_at: str = field(default_factory=timestamp)
    began: float = field(default_factory=time.perf_counter)
    training: float = 0.0
    evaluating: float = 0.0
    saving: float = 0.0
    sampling: float = 0.0
    latest: dict[str, float] = field(default_factory=dict)
    lap_began: float = 0.0

    @contextmanager
    def measure(self, what: str) -> Iterator[None]:
        """Add the time of a block to `training`, `evaluating`, `saving` or `sampling`."""
        start = time.perf_counter()
        yield
        self.latest[what] = time.perf_counter() - start
        setattr(self, what, getattr(self, what) + self.latest[what])

    def lap(self) -> float:
        """Seconds of training since the last call."""
        seconds, self.lap_began = self.training - self.lap_began, self.training
        return seconds

    def seconds_left(self, training: TrainingConfig, step: int, evals: int) -> float:
        """Seconds from a step to max_iters at the session's own rate, evaluations and saves included."""
        taken, left = step - training.start_step, training.max_iters - step
        pauses = (self.evaluating + self.saving + self.sampling) / evals * -(-left // training.eval_interval)
        return left * (self.training / taken if taken else self.latest.get("training", 0.0)) + pauses

    @property
    def elapsed(self) -> float:
        """Seconds since the session started."""
        return time.perf_counter() - self.began


@dataclass(frozen=True)
class Throughput:
    """Rates of a session's training time, without evaluations and saves.

    Attributes:
        tokens_per_sec: tokens learned from.
        tflops: 10^12 floating point operations a second, as `flops_per_token` counts them.
        mfu: `tflops` over the device's dense bf16 peak (Chowdhery et al. 2022, PaLM, appendix B); None where that is
            not known.
    """

    tokens_per_sec: float
    tflops: float
    mfu: float | None


def throughput(tokens: int, seconds: float, config: GPTConfig, device: str, devices: int = 1) -> Throughput:
    """Rates of `tokens` in `seconds`.

    Args:
        tokens: learned from.
        seconds: that it took; 0 gives rates of 0.
        config: the model.
        device: name of the hardware, such as `NVIDIA A100-SXM4-80GB`.
        devices: that computed together, each of that hardware.
    """
    rate = tokens / seconds if seconds else 0.0
    tflops = rate * flops_per_token(config) / 1e12
    peak = next((peak for name, peak in PEAK_TFLOPS.items() if name in device), None)
    return Throughput(rate, tflops, None if peak is None else tflops / (peak * devices))


def session_throughput(stepper: "Stepper", state: "TrainingState", clock: Clock) -> Throughput:
    """Rates of a session up to the state's step."""
    tokens = (state.step - state.training_config.start_step) * stepper.tokens_per_step
    model, devices = stepper.model, stepper.group.launch.size
    return throughput(tokens, clock.training, model.config, hardware(str(model.device)), devices)
