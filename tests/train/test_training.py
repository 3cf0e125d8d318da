"""What a step learns from, at which rate, and what an evaluation measures."""

import json
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mypt import GPT, GPTConfig, GPTDataLoader, Tokenizer
from mypt.checkpoint.manager import AnyOptimizer, CheckpointManager, weights_sha256
from mypt.data.tokens import Split
from mypt.errors import ConfigError, InputError
from mypt.log.reader import read_events
from mypt.model.cost import flops_per_token, rows_at_once
from mypt.schema.files.state import TrainingState
from mypt.schema.settings.training import TrainingConfig
from mypt.train.device.compile import choose
from mypt.train.device.precision import Precision
from mypt.train.evaluation.evaluate import evaluate
from mypt.train.observer import Observer
from mypt.train.optim.muon import Muon, orthogonalized
from mypt.train.optim.optimizer import build_optimizer
from mypt.train.optim.schedule import learning_rate_at
from mypt.train.run_data import RunData
from mypt.train.session import assemble
from mypt.train.step import Stepper
from mypt.train.throughput import throughput
from tests.conftest import TINY, Mypt, flat, tiny_text

TOKENIZER = Tokenizer.char(tiny_text())
SHAPE = {"block_size": 8, "n_embd": 16, "n_head": 2, "n_layer": 1, "vocab_size": TOKENIZER.vocab_size, "device": "cpu"}


def config_of(**changes: object) -> GPTConfig:
    return GPTConfig.model_validate({"batch_size": 4, "dropout": 0.0, **SHAPE, **changes})


def loader_of(config: GPTConfig) -> GPTDataLoader:
    return GPTDataLoader(config, TOKENIZER, text=tiny_text())


def stepper_of(model: GPT, loader: GPTDataLoader, training: TrainingConfig) -> Stepper:
    state = TrainingState(step=0, training_config=training)
    return assemble(model, RunData(loader), state, Observer()).stepper


def ids_of(loader: GPTDataLoader, split: Split) -> list[int]:
    tokens = loader.splits[split]
    return [int(i) for part in tokens.parts for i in part.ids]


def test_a_batch_is_a_pure_function_of_its_number() -> None:
    loader, again = loader_of(config_of()), loader_of(config_of())
    for index in (0, 7, 10_000_000):
        for left, right in zip(loader.batch(index), again.batch(index), strict=True):
            assert torch.equal(left, right)
    assert not torch.equal(loader.batch(3)[0], loader.batch(4)[0])
    x, y = loader.batch(0)
    assert torch.equal(x[:, 1:], y[:, :-1]) and x.shape == (4, 8)


def test_batches_come_from_the_training_split_alone() -> None:
    loader = loader_of(config_of())
    train = TOKENIZER.decode(ids_of(loader, "train"))
    assert tiny_text().startswith(train)
    assert len(loader.splits["train"]) == int(0.9 * len(tiny_text()))
    for step in range(50):
        for row in loader.batch(step)[0].tolist():
            assert TOKENIZER.decode(row) in train


def test_evaluations_see_the_same_windows_and_none_twice() -> None:
    loader = loader_of(config_of())
    every = torch.cat([x for x, _ in loader.eval_batches("val", 10_000)]).flatten()
    assert every.tolist() == ids_of(loader, "val")[: len(every)]
    assert len(loader.splits["val"]) - len(every) <= 8  # only the rest that fills no window is left out
    some = [x for x, _ in loader.eval_batches("val", 2)]
    assert len(some) == 2 == loader.eval_batch_count("val", 2)
    rows = [tuple(r) for x in some for r in x.tolist()]
    assert rows == [tuple(r) for x, _ in loader.eval_batches("val", 2) for r in x.tolist()]
    assert len(set(rows)) == len(rows) == 8


def test_an_evaluation_is_the_mean_over_its_tokens() -> None:
    model, loader = GPT(config_of()), loader_of(config_of())
    precision = Precision.of(TrainingConfig(use_amp=False), "cpu")
    losses = []
    with torch.no_grad():
        for x, y in loader.eval_batches("val", 10_000):
            losses += torch.nn.functional.cross_entropy(model(x).flatten(0, 1), y.flatten(), reduction="none").tolist()
    measured = evaluate(model, loader, "val", TrainingConfig(eval_iters=10_000), precision)
    assert measured.loss == pytest.approx(float(np.mean(losses)), abs=1e-5)
    windows = np.array(losses).reshape(-1, 8).mean(axis=1)
    assert measured.se == pytest.approx(windows.std(ddof=1) / math.sqrt(len(windows)), rel=1e-4)
    targets = TOKENIZER.decode([int(t) for _, y in loader.eval_batches("val", 10_000) for t in y.flatten()])
    bits = sum(losses) / math.log(2)
    assert measured.bpb == pytest.approx(bits / len(targets.encode("utf-8")), rel=1e-5)


def test_any_split_into_micro_batches_gives_the_same_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accumulating k micro-batches equals one batch of all their windows."""

    def gradient(windows: torch.Tensor, accum: int) -> list[torch.Tensor]:
        config = config_of(batch_size=len(windows) // accum)
        model, loader = GPT(config), loader_of(config)
        parts = windows.chunk(accum)
        monkeypatch.setattr(loader, "batch", lambda index: (parts[index][:, :-1], parts[index][:, 1:]))
        training = TrainingConfig(grad_accum_steps=accum, use_amp=False)
        stepper = stepper_of(model, loader, training)
        for micro, batch in stepper.batches(0).items():
            stepper.micro_step(0, micro, batch, stepper.tokens_per_step)
        return [p.grad for p in model.parameters() if p.grad is not None]

    x, y = loader_of(config_of(batch_size=12)).batch(0)
    windows = torch.cat([x, y[:, -1:]], dim=1)
    whole = gradient(windows, 1)
    for accum in (2, 3, 6):
        for left, right in zip(whole, gradient(windows, accum), strict=True):
            torch.testing.assert_close(left, right, atol=1e-6, rtol=1e-5)


def test_a_batch_in_parts_has_the_gradient_of_the_whole() -> None:
    def gradient(rows: int) -> list[torch.Tensor]:
        config, training = config_of(batch_size=5), TrainingConfig(use_amp=False, rows_at_once=rows)
        model, loader = GPT(config), loader_of(config)
        stepper = stepper_of(model, loader, training)
        parts: list[int] = []
        whole_loss = stepper.loss

        def counted(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            parts.append(len(x))
            return whole_loss(x, y)

        stepper.loss = counted
        loss = stepper.micro_step(0, 0, loader.batch(0), stepper.tokens_per_step)
        assert sum(parts) == 5 and max(parts) == min(5, rows)
        return [loss, *(p.grad for p in model.parameters() if p.grad is not None)]

    whole = gradient(40)
    for rows in (1, 2, 3, 4, 5):
        for left, right in zip(whole, gradient(rows), strict=True):
            torch.testing.assert_close(left, right, atol=1e-6, rtol=1e-5)


def test_the_parts_of_a_batch_follow_from_shape_and_device_unless_they_are_set() -> None:
    shape = config_of(batch_size=32, block_size=256)
    assert rows_at_once(shape) == 4 and rows_at_once(config_of(batch_size=32, block_size=4096)) == 1
    assert rows_at_once(shape.model_copy(update={"device": "cuda"})) == 32
    assert rows_at_once(shape, TrainingConfig(rows_at_once=7)) == 7
    assert rows_at_once(shape, TrainingConfig(rows_at_once=99)) == 32


@pytest.mark.parametrize(
    ("device", "share"), [("cpu", None), ("NVIDIA A100-SXM4-80GB", 312), ("NVIDIA H200", 989), ("Tesla T4", None)]
)
def test_the_pace_is_told_in_arithmetic_and_as_a_share_of_known_peaks(device: str, share: float | None) -> None:
    config = config_of()
    found = throughput(3_000_000, 1.5, config, device)
    assert found.tokens_per_sec == 2_000_000
    assert found.tflops == pytest.approx(2.0 * flops_per_token(config) / 1e6)
    assert found.mfu == (None if share is None else pytest.approx(found.tflops / share))
    assert throughput(0, 0.0, config, device).tflops == 0


def moved(model: GPT, optimizer: AnyOptimizer, steps: int = 4) -> list[torch.Tensor]:
    """The weights after some steps along gradients of their own."""
    generator = torch.Generator().manual_seed(3)
    for _ in range(steps):
        for p in model.parameters():
            p.grad = torch.randn(p.shape, generator=generator)
        optimizer.step()
        optimizer.zero_grad()
    return [p.detach().clone() for p in model.parameters()]


def test_adamw_is_torchs_own_to_the_bit() -> None:
    config, training = config_of(bias=True), TrainingConfig(learning_rate=0.01, weight_decay=0.3)
    ours, theirs = GPT(config), GPT(config)
    groups = [
        {"params": [p for p in theirs.parameters() if p.dim() == 2], "weight_decay": 0.3},
        {"params": [p for p in theirs.parameters() if p.dim() == 1], "weight_decay": 0.0},
    ]
    reference = torch.optim.AdamW(groups, lr=0.01, betas=(0.9, 0.99), eps=1e-8, fused=True)
    for a, b in zip(moved(ours, build_optimizer(ours, training)), moved(theirs, reference), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("n_kv_head", [None, 1])
def test_muon_moves_each_hidden_matrix_as_the_plain_formula_does(n_kv_head: int | None) -> None:
    training = TrainingConfig(learning_rate=0.02, weight_decay=0.1, optimizer="muon")
    model, plain = (GPT(config_of(mlp_type="swiglu", n_kv_head=n_kv_head)) for _ in range(2))
    optimizer = build_optimizer(model, training)
    assert isinstance(optimizer.rules[0], Muon)
    optimizer.rules[0].dtype = torch.float32
    moved(model, optimizer)
    generator = torch.Generator().manual_seed(3)
    momentum = {n: torch.zeros_like(p) for n, p in plain.named_parameters()}
    weights = {n: p.detach().clone() for n, p in plain.named_parameters()}
    for _ in range(4):
        for n, p in plain.named_parameters():
            grad = torch.randn(p.shape, generator=generator)
            momentum[n] = 0.9 * momentum[n] + 0.1 * grad
            ahead = 0.9 * momentum[n] + 0.1 * grad
            rows = list(model.config.qkv_rows) if "qkv" in n else [len(p)]
            for w, g in zip(torch.split(weights[n], rows), torch.split(ahead, rows), strict=True):
                w.mul_(1 - 0.02 * 0.1)
                if w.dim() == 2:
                    w.sub_(0.02 * 0.2 * max(w.shape) ** 0.5 * newton_schulz(g))
    for name, p in model.named_parameters():
        if name.startswith("blocks.") and p.dim() == 2:
            torch.testing.assert_close(p.detach(), weights[name], atol=2e-6, rtol=1e-4)


def newton_schulz(matrix: torch.Tensor) -> torch.Tensor:
    """Five rounds in fp64, of one matrix as it stands."""
    x: torch.Tensor = matrix.double() / matrix.double().norm()
    for _ in range(5):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x.float()


def test_orthogonalized_matrices_have_singular_values_near_one() -> None:
    generator = torch.Generator().manual_seed(1)
    spread = torch.randn(6, 24, 40, generator=generator) * torch.logspace(-2, 2, 6)[:, None, None]
    for dtype in (torch.float32, torch.bfloat16):
        values = torch.linalg.svdvals(orthogonalized(spread.to(dtype)).float())
        assert values.min() > 0.5 and values.max() < 1.3


def test_the_optimizer_decays_matrices_only_and_knows_every_weight() -> None:
    model = GPT(config_of(bias=True))
    decayed, plain = build_optimizer(model, TrainingConfig(weight_decay=0.3)).param_groups
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.3, 0.0)
    assert {p.dim() for p in decayed["params"]} == {2} and {p.dim() for p in plain["params"]} == {1}
    assert sum(p.numel() for g in (decayed, plain) for p in g["params"]) == model.num_params()


@given(
    max_iters=st.integers(1, 5000),
    warmup=st.one_of(st.integers(0, 6000), st.floats(0, 0.99)),
    schedule=st.sampled_from(["cosine", "constant", "linear"]),
)
def test_the_schedule_rises_then_never_rises_again_and_stays_within_bounds(
    max_iters: int, warmup: float, schedule: str
) -> None:
    training = TrainingConfig.model_validate(
        {"max_iters": max_iters, "warmup_iters": warmup, "lr_schedule": schedule, "learning_rate": 1e-3}
    )
    rates = [learning_rate_at(s, training) for s in range(max_iters)]
    top = min(training.warmup_steps, max_iters - 1)
    assert all(0 < r <= 1e-3 for r in rates)
    assert all(a < b for a, b in pairwise(rates[: top + 1]))
    assert all(a >= b for a, b in pairwise(rates[top:]))


def test_the_cosine_ends_at_a_tenth() -> None:
    training = TrainingConfig(max_iters=1000, warmup_iters=0, learning_rate=1.0)
    assert learning_rate_at(0, training) == 1.0
    assert learning_rate_at(500, training) == pytest.approx(0.55)
    assert learning_rate_at(1000, training) == pytest.approx(0.1)
    assert math.isclose(learning_rate_at(49, TrainingConfig(warmup_iters=0.05)), 3e-4 * 50 / 51)


def test_a_text_too_short_for_a_window_says_how_much_is_missing() -> None:
    with pytest.raises(InputError) as error:
        GPTDataLoader(config_of(block_size=50), TOKENIZER, text="nel mezzo del cammin" * 5)
    assert "it has 100" in error.value.what and "41 tokens in the val split" in error.value.what
    assert "410 tokens more" in error.value.todo
    GPTDataLoader(config_of(block_size=50), TOKENIZER, text="nel mezzo del cammin" * 26)


def test_ids_outside_the_vocabulary_are_found_before_step_0() -> None:
    with pytest.raises(InputError, match="outside the vocabulary of 5"):
        loader_of(config_of(vocab_size=5))


def test_fit_trains_from_python_and_takes_the_optimizer_that_it_is_given() -> None:
    config = config_of()
    model, loader = GPT(config), loader_of(config)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    result = model.fit(data_loader=loader, optimizer=optimizer, max_iters=40, eval_interval=20, warmup_iters=0)
    assert result.state.training_config.learning_rate == 0.5
    first, last = result.evals
    assert last.val_loss < first.val_loss < math.log(TOKENIZER.vocab_size)
    with pytest.raises(ConfigError, match="max_iter"):
        model.fit(data_loader=loader, max_iter=3)


def test_half_precision_is_used_only_where_the_hardware_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for has in (True, False):
        monkeypatch.setattr("mypt.train.device.precision._cpu_has_bf16", lambda has=has: has)
        assert Precision.of(TrainingConfig(use_amp=True), "cpu").enabled is has
        assert not Precision.of(TrainingConfig(use_amp=False), "cpu").enabled
        assert not Precision.of(TrainingConfig(use_amp=True, amp_dtype="fp16"), "cpu").enabled


@pytest.mark.parametrize(
    ("setting", "device", "seconds", "on"),
    [
        ("auto", "cpu", 1e6, False), ("auto", "mps", 1e6, False), ("auto", "cuda", 60.0, False),
        ("auto", "cuda:1", 3600.0, True), ("on", "cpu", 1.0, True), ("off", "cuda", 1e6, False),
    ],
)  # fmt: skip
def test_compiling_is_chosen_by_device_and_length_unless_it_is_set(
    setting: str, device: str, seconds: float, on: bool
) -> None:
    choice = choose(TrainingConfig.model_validate({"torch_compile": setting}), device, seconds)
    assert choice.on == on and choice.reason


def test_a_compiled_run_is_recorded_and_one_that_cannot_compile_goes_on_as_it_is(
    mypt: Mypt, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = ["--input-file", "input.txt", *TINY, "--max-iters", "4", "--dropout", "0.1", "--torch-compile"]
    mypt("train", "plain", *call, "off")
    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda function: real(function, backend="eager"))
    mypt("train", "compiled", *call, "on")
    assert "identical" in mypt("reproduce", "compiled").output

    def fail(_: object) -> object:
        raise RuntimeError("no compiler here")

    monkeypatch.setattr(torch, "compile", lambda _: fail)
    assert "torch.compile failed" in flat(mypt("train", "failed", *call, "on").output)
    weights = [weights_sha256(CheckpointManager(n).load().model) for n in ("plain", "compiled", "failed")]
    assert weights[0] == weights[1] == weights[2]
    start = json.loads(Path("logs/train/plain_eval.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert (start["config"]["torch_compile"], start["config"]["torch_compile_reason"]) == ("off", "as it was set")


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_the_schedule_ends_at_the_floor_that_is_given(schedule: str) -> None:
    training = TrainingConfig.model_validate(
        {"max_iters": 100, "warmup_iters": 0, "learning_rate": 1.0, "min_lr": 0.25, "lr_schedule": schedule}
    )
    rates = [learning_rate_at(s, training) for s in range(101)]
    assert rates[0] == 1.0 and rates[100] == pytest.approx(0.25) and min(rates) >= 0.25
    assert rates[50] == pytest.approx(0.625)
    with pytest.raises(ValueError, match=r"min_lr 2.0 is above learning_rate 1.0"):
        TrainingConfig(learning_rate=1.0, min_lr=2.0)


def test_betas_are_those_of_the_settings() -> None:
    ours, theirs = GPT(config_of()), GPT(config_of())
    training = TrainingConfig(learning_rate=0.01, weight_decay=0.0, beta1=0.8, beta2=0.95)
    reference = torch.optim.AdamW(theirs.parameters(), lr=0.01, betas=(0.8, 0.95), weight_decay=0.0, fused=True)
    for a, b in zip(moved(ours, build_optimizer(ours, training)), moved(theirs, reference), strict=True):
        assert torch.equal(a, b)


def test_evaluation_takes_as_many_windows_at_once_as_training(monkeypatch: pytest.MonkeyPatch) -> None:
    model, loader = GPT(config_of(batch_size=6)), loader_of(config_of(batch_size=6))
    taken: list[int] = []
    whole = model.token_losses

    def counted(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        taken.append(len(x))
        return whole(x, y)

    monkeypatch.setattr(model, "token_losses", counted)
    found = {}
    for rows in (1, 4, None):
        taken.clear()
        training = TrainingConfig(eval_iters=2, rows_at_once=rows, use_amp=False)
        found[rows] = evaluate(model, loader, "val", training, Precision.of(training, "cpu")).loss
        assert sum(taken) == 12 and max(taken) == (rows or 6)
    assert found[1] == pytest.approx(found[None], abs=1e-6) and found[4] == pytest.approx(found[None], abs=1e-6)


def test_single_steps_are_logged_when_that_is_asked_for(mypt: Mypt) -> None:
    call = ["--input-file", "input.txt", *TINY, "--max-iters", "10", "--eval-interval", "5", "--warmup-iters", "0"]
    mypt("train", "quiet", *call)
    mypt("train", "asked", *call, "--log-interval", "3")
    quiet, asked = (list(read_events(Path(f"logs/train/{n}_eval.jsonl"))) for n in ("quiet", "asked"))
    assert not [e for e in quiet if e["event"] == "step"]
    steps = [e for e in asked if e["event"] == "step"]
    assert [e["iter"] for e in steps] == [3, 6, 9]
    training = CheckpointManager("asked").load().state.training_config
    for event in steps:
        assert list(event)[:7] == ["event", "iter", "timestamp", "loss", "lr", "grad_norm", "tokens_per_sec"]
        assert event["lr"] == pytest.approx(learning_rate_at(event["iter"] - 1, training), rel=1e-5)
        assert 0 < event["loss"] < 10 and event["grad_norm"] > 0 and event["tokens_per_sec"] > 0
    assert training.log_interval == 3
    weights = [weights_sha256(CheckpointManager(n).load().model) for n in ("quiet", "asked")]
    assert weights[0] == weights[1]
