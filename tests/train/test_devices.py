"""What GPUs need, seen on a CPU: no float64 on Apple's, batches that can be pinned, clocks that wait for the device."""

from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from mypt import GPT, GPTConfig, GPTDataLoader
from mypt.data.tokenizer import Tokenizer
from mypt.schema.settings.training import TrainingConfig
from mypt.train import benchmark_step
from mypt.train.device.devices import on_device
from mypt.train.device.precision import Precision
from mypt.train.evaluation import evaluate as evaluation
from tests.conftest import tiny_text

CONFIG = GPTConfig(batch_size=4, block_size=8, n_embd=16, n_head=2, n_layer=1, vocab_size=64, device="cpu")


def loader() -> GPTDataLoader:
    text = tiny_text()
    return GPTDataLoader(CONFIG, Tokenizer.char(text), text=text)


class OnMps(Tensor):
    """A tensor as of an Apple GPU, which has no float64."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func == cast(Any, Tensor.device).__get__:
            return torch.device("mps")
        if func is Tensor.cpu:
            return args[0].as_subclass(Tensor)
        if func is Tensor.double or any(value is torch.float64 for value in (*args, *(kwargs or {}).values())):
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
        return super().__torch_function__(func, types, args, kwargs or {})  # type: ignore[no-untyped-call]


def test_an_evaluation_needs_no_float64_of_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    training, data, model = TrainingConfig(eval_iters=3), loader(), GPT(CONFIG)
    precision = Precision.of(training, "cpu")
    expected = evaluation.evaluate(model, data, "val", training, precision)
    losses_of: Callable[..., Tensor] = evaluation.losses_of
    monkeypatch.setattr(evaluation, "losses_of", lambda *args: losses_of(*args).as_subclass(OnMps))
    found = evaluation.evaluate(model, data, "val", training, precision)
    assert found == expected


def test_batches_are_whole_so_that_they_can_be_pinned_and_sent_as_they_are() -> None:
    data = loader()
    for batch in (data.batch(0), next(data.eval_batches("val", 1))):
        assert all(part.is_contiguous() for part in batch)
        assert torch.equal(batch[0][:, 1:], batch[1][:, :-1])
        assert all(a is b for a, b in zip(on_device(batch, torch.device("cpu")), batch, strict=True))


def test_a_clock_waits_for_every_device_but_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(torch.accelerator, "synchronize", lambda device: calls.append(str(device)))
    for name in ("cpu", "mps", "cuda"):
        benchmark_step._seconds(torch.device(name), lambda: calls.append("work"))
    assert calls == ["work", "work", "mps", "work", "cuda"]


@pytest.mark.parametrize(
    ("device", "capability", "amp", "name"),
    [
        ("cpu", None, False, "fp32"), ("mps", None, False, "fp32"), ("cuda", (7, 5), False, "fp32"),
        ("cuda:1", (8, 0), False, "tf32"), ("cuda", (9, 0), False, "tf32"), ("cuda", (9, 0), True, "bf16"),
    ],
)  # fmt: skip
def test_precision_is_called_what_it_is(
    device: str, capability: tuple[int, int] | None, amp: bool, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    precision = Precision(device, amp, torch.bfloat16, torch.amp.GradScaler("cpu", enabled=False))
    assert precision.name == name
