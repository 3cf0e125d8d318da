"""A time limit with saves that a thread writes beside training, by a clock that only moves where a test lets it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from mypt import GPT, GPTConfig, GPTDataLoader, Tokenizer
from mypt.checkpoint.manager import CheckpointManager, Content
from mypt.schema.settings.training import TrainingConfig
from mypt.train import keeper, loop, stop, throughput
from mypt.train.device import async_save
from mypt.train.device.async_check import StepResult
from mypt.train.device.async_save import AsyncSaver
from mypt.train.device.devices import environment
from mypt.train.loop import Trainer
from mypt.train.observer import Observer
from mypt.train.run_data import RunData
from mypt.train.session import assemble, first_state, open_session
from mypt.train.step import Stepper
from tests.conftest import tiny_text

STEP_S, EVAL_S = 0.5, 0.25


@dataclass
class Clock:
    """Seconds of a simulated machine that does two things at a time: it trains, and it writes."""

    now: float = 0.0

    def perf_counter(self) -> float:
        return self.now


@dataclass
class Save:
    """One that a simulated thread writes from `start` on; what it does is done once the time has come."""

    clock: Clock
    write: Callable[[], None]
    start: float
    end: float
    written: bool = False

    def done(self) -> bool:
        if not self.written and self.clock.now >= self.end:
            self.result()
        return self.written

    def result(self) -> None:
        if not self.written:
            here, self.clock.now, self.written = self.clock.now, self.start, True
            self.write()
            assert self.clock.now == self.end
            self.clock.now = max(here, self.end)


@dataclass
class Thread:
    """A simulated `ThreadPoolExecutor`."""

    clock: Clock
    save_s: float
    saves: list[Save] = field(default_factory=list)

    def submit(self, write: Callable[[], None]) -> Save:
        start = max([self.clock.now, *(save.end for save in self.saves)])
        self.saves.append(Save(self.clock, write, start, start + self.save_s))
        return self.saves[-1]

    def shutdown(self, wait: bool) -> None:
        assert wait
        for save in self.saves:
            save.result()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock by which steps and evaluations take `STEP_S` and `EVAL_S`."""
    made = Clock()
    for module in (keeper, stop, throughput, async_save):
        monkeypatch.setattr(module, "time", made)
    step = Stepper.step

    def stepping(self: Stepper, at: int) -> list[StepResult]:
        made.now += STEP_S
        return step(self, at)

    def evaluating(*_: object, **__: object) -> dict[str, object]:
        made.now += EVAL_S
        measured = SimpleNamespace(loss=10.0 / made.now, se=None, bpb=None)  # each one is better, so that it is gold
        return {"train": measured, "val": measured}

    monkeypatch.setattr(Stepper, "step", stepping)
    monkeypatch.setattr(loop, "evaluate_sets", evaluating)
    return made


def trainer_until(minutes: float, eval_interval: int) -> Trainer:
    config = GPTConfig(batch_size=2, block_size=8, n_embd=8, n_head=1, n_layer=1, vocab_size=64, device="cpu")
    text = tiny_text()
    training = TrainingConfig(max_iters=10_000, eval_interval=eval_interval, max_minutes=minutes)
    data = RunData(GPTDataLoader(config, Tokenizer.char(text), text=text))
    state = open_session(first_state(training, data, "m", None), training, environment("cpu"), config, data)
    return assemble(GPT(config), data, state, Observer(), checkpoint=CheckpointManager("m"))


@pytest.mark.parametrize("beside", [True, False])
@pytest.mark.parametrize("save_s", [0.25, 1.0, 4.0])
@pytest.mark.parametrize("eval_interval", [1, 7])
@pytest.mark.parametrize("limit_s", [30.0, 31.5, 33.25, 37.0])
@pytest.mark.usefixtures("folder")
def test_what_waits_to_be_written_is_reckoned_with(
    beside: bool, save_s: float, eval_interval: int, limit_s: float, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def writing(self: CheckpointManager, content: Content) -> None:
        clock.now += save_s
        written.append((self.name, content.state.step))

    written: list[tuple[str, int]] = []
    monkeypatch.setattr(CheckpointManager, "write", writing)
    trainer = trainer_until(limit_s / 60, eval_interval)
    saver = AsyncSaver(beside)
    saver._thread = Thread(clock, save_s)  # type: ignore[assignment]
    trainer.keeper.saver, trainer.stop.began = saver, clock.now
    result = trainer.run()
    assert result.stopped == "max_minutes"
    assert written[-1] == ("m", trainer.done) and ("m_gold", trainer.state.progress.gold.step) in written
    assert limit_s - 4 * save_s - STEP_S * 2 - EVAL_S - throughput.LEAVING_S < clock.now <= limit_s
