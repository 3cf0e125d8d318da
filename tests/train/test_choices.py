"""What is decided by a measurement is recorded, holds for the run, and can be forced."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch

from mypt import GPT, GPTConfig
from mypt.checkpoint.files import read_state
from mypt.checkpoint.manager import CheckpointManager
from mypt.schema.settings.training import TrainingConfig
from mypt.train.device import choices, devices, precision
from mypt.train.device.choices import ASKED, GAIN, Choice, choose_amp, fastest, settle_choices
from tests.conftest import TINY, Mypt, flat

SHAPE = GPTConfig(n_embd=16, n_head=2, n_layer=2, block_size=8, vocab_size=30, batch_size=4, device="cpu")
RUN = ["--input-file", "input.txt", *TINY, "--max-iters", "4", "--eval-interval", "2"]


@pytest.fixture(autouse=True)
def measurements() -> None:
    """Here they are real, or those of the test itself."""


def let_measure(monkeypatch: pytest.MonkeyPatch, on: bool) -> list[str]:
    """Let every measurement of half precision come out one way; the names of the devices it was asked for."""
    asked: list[str] = []

    def chosen(model: GPT, _: TrainingConfig) -> Choice:
        asked.append(str(model.device))
        return Choice(on, "measured: a figure")

    monkeypatch.setattr(choices, "choose_amp", chosen)
    return asked


@pytest.mark.usefixtures("hardware")
@pytest.mark.parametrize(
    ("layer", "head", "update", "on"),
    [
        (1.0, 1.0, 0.0, False),  # as fast
        (GAIN + 0.01, GAIN + 0.01, 0.0, True),
        (2.0, 1.0, 0.0, True),  # the layers alone carry it
        (1.2, 0.3, 0.0, False),  # the output layer loses what they gain
        (2.0, 2.0, 100.0, False),  # the whole step is an update
    ],
)
def test_half_precision_has_to_gain_a_tenth_of_the_whole_step(
    layer: float, head: float, update: float, on: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([{"fp32": layer, "bf16": 1.0}, {"fp32": head, "bf16": 1.0}, {"update": update}])
    monkeypatch.setattr(choices, "fastest", lambda *_: next(answers))
    choice = choose_amp(GPT(SHAPE), TrainingConfig())
    assert choice.on is on and choice.reason.startswith("measured") and "bf16" in choice.reason


@pytest.fixture
def hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU that lists bf16."""
    monkeypatch.setattr(precision, "_cpu_has_bf16", lambda: True)


def test_without_hardware_nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "_cpu_has_bf16", lambda: False)
    monkeypatch.setattr(choices, "fastest", lambda *_: pytest.fail("it was measured"))
    assert choose_amp(GPT(SHAPE), TrainingConfig()) == Choice(False, "cpu has no hardware for bf16")
    settled = settle_choices(GPT(SHAPE), TrainingConfig(optimizer="muon"), [])
    assert (settled.use_amp, settled.muon_dtype) == (False, "fp32")


@pytest.mark.usefixtures("hardware")
def test_the_measurement_is_real_and_touches_no_weight() -> None:
    model = GPT(SHAPE)
    before = {n: w.clone() for n, w in model.state_dict().items()}
    assert choose_amp(model, TrainingConfig()).reason.count("ms") == 1
    assert all(torch.equal(before[n], w) for n, w in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_works_are_timed_in_turn_and_their_warm_up_does_not_count() -> None:
    order: list[str] = []

    def work(name: str) -> Callable[[], object]:
        return lambda: order.append(name)

    works: Mapping[str, Callable[[], object]] = {"a": work("a"), "b": work("b")}
    found = fastest(works, torch.device("cpu"))
    assert order[:4] == ["a", "b", "a", "b"] and all(0 <= s < 1 for s in found.values())


@pytest.mark.usefixtures("hardware")
@pytest.mark.parametrize("on", [True, False])
def test_a_decision_is_recorded_and_holds_for_the_run(on: bool, mypt: Mypt, monkeypatch: pytest.MonkeyPatch) -> None:
    call = [word for word in RUN if word != "--no-use-amp"]
    assert let_measure(monkeypatch, on) == []
    mypt("train", "m", *call)
    training = read_state(Path("checkpoints/m")).training_config
    assert (training.use_amp, training.amp_reason) == (on, "measured: a figure")
    asked = let_measure(monkeypatch, not on)
    mypt("resume", "m", "--max-iters", "6")
    assert not asked and read_state(Path("checkpoints/m")).training_config == training.model_copy(
        update={"max_iters": 6, "start_step": 4}
    )
    lines = [json.loads(line) for line in Path("logs/train/m_eval.jsonl").read_text(encoding="utf-8").splitlines()]
    starts = [e["config"] for e in lines if e["event"] == "training_start"]
    assert [(s["use_amp"], s["amp_reason"]) for s in starts] == [(on, "measured: a figure")] * 2
    assert "identical" in mypt("reproduce", "m").output


@pytest.mark.usefixtures("hardware")
def test_another_machine_keeps_the_decision_and_says_so(mypt: Mypt, monkeypatch: pytest.MonkeyPatch) -> None:
    let_measure(monkeypatch, True)
    mypt("train", "m", *[word for word in RUN if word != "--no-use-amp"])
    monkeypatch.setattr(devices, "processor", lambda: "Another One (avx2)")
    said = flat(mypt("resume", "m", "--max-iters", "6").output)
    assert "Half precision stays on, as the run decided where it began (measured: a figure)" in said
    assert "Another One" in said and "changes the trajectory" in said
    monkeypatch.setattr(precision, "_cpu_has_bf16", lambda: False)
    assert "no hardware for bf16, so this computes in fp32" in flat(mypt("resume", "m", "--max-iters", "8").output)


@pytest.mark.usefixtures("hardware")
@pytest.mark.parametrize(("option", "on"), [("--use-amp", True), ("--no-use-amp", False)])
def test_a_forced_choice_is_not_measured(option: str, on: bool, mypt: Mypt, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = let_measure(monkeypatch, not on)
    mypt("train", "m", *[word for word in RUN if word != "--no-use-amp"], option)
    training = read_state(Path("checkpoints/m")).training_config
    assert not asked and (training.use_amp, training.amp_reason) == (on, ASKED)


@pytest.mark.usefixtures("hardware")
def test_muon_goes_on_in_the_precision_that_it_began_in(mypt: Mypt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choices, "muon_gains", lambda _: False)
    mypt("train", "m", *RUN, "--optimizer", "muon")
    monkeypatch.setattr(choices, "muon_gains", lambda _: pytest.fail("it was measured again"))
    mypt("resume", "m", "--max-iters", "6")
    assert read_state(Path("checkpoints/m")).training_config.muon_dtype == "fp32"
    assert "identical" in mypt("reproduce", "m").output
    older = TrainingConfig(optimizer="muon", use_amp=True)  # of a version that recorded no precision for it
    model = CheckpointManager("m").load().model
    assert settle_choices(model, older, [], resumed=True) == older
