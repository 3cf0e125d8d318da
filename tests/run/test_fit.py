"""What a caller of `fit` brought is recorded: the run goes on from the command line to the bit, and is reproduced."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import mypt as package
from mypt import GPT, CheckpointManager, GPTConfig, GPTDataLoader, Tokenizer
from mypt.checkpoint.files import read_state
from mypt.checkpoint.tensors import load_tensors
from mypt.errors import ConfigError, ConflictError
from mypt.train.observer import Observer
from tests.conftest import Mypt, tiny_text
from tests.run.test_resume import losses

STEPS: dict[str, Any] = {"max_iters": 6, "eval_interval": 3, "eval_iters": 2, "use_amp": False}
TOKENIZER = Tokenizer.char(tiny_text())
Groups = Callable[[GPT], Any]
MakeOptimizer = Callable[[GPT], torch.optim.Optimizer]


def config_of(**changes: Any) -> GPTConfig:
    shape: dict[str, Any] = {
        "n_embd": 16,
        "n_head": 2,
        "n_layer": 2,
        "block_size": 16,
        "batch_size": 4,
        "device": "cpu",
    }
    return GPTConfig(**{**shape, "vocab_size": TOKENIZER.vocab_size, **changes})


def loader_of(config: GPTConfig | None = None, **how: Any) -> GPTDataLoader:
    return GPTDataLoader(config or config_of(), TOKENIZER, **{"input_file": "input.txt", **how})


class EndedError(Exception):
    """Stands for whatever ends a process."""


class EndAt(Observer):
    """Ends a run as soon as a step is saved."""

    def __init__(self, step: int) -> None:
        self.step = step

    def saved(self, step: int) -> None:
        """End."""
        if step == self.step:
            raise EndedError


def same(a: object, b: object) -> bool:
    """Whether two values are the same, tensors within them to the bit."""
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def assert_one_run(a: str, b: str) -> None:
    """Weights, the optimizer with its settings, losses and gold are the same."""
    for file in ("model.pt", "optimizer.pt"):
        left, right = (load_tensors(Path("checkpoints", name, file)) for name in (a, b))
        assert same(left, right), file
    assert losses(a) == losses(b) and len(losses(a)) > 1


def assert_goes_on(mypt: Mypt, fit: Callable[[CheckpointManager, Observer], object], by: Callable[[], object]) -> None:
    """Run once to the end, once to a save and on by `by`; both are one run, which verifies and reproduces."""
    fit(CheckpointManager("whole"), Observer())
    with pytest.raises(EndedError):
        fit(CheckpointManager("parts"), EndAt(3))
    assert read_state(Path("checkpoints/parts")).step == 3
    by()
    assert_one_run("whole", "parts")
    for name in ("whole", "parts"):
        checks = json.loads(mypt("verify", name, "--json").output)
        assert [c["name"] for c in checks if c["ok"] is not True] == []
        assert re.search(r"identical: all 6 steps and the weights, [23] evaluations", mypt("reproduce", name).output)


OPTIMIZERS: dict[str, MakeOptimizer] = {
    "adamw": lambda m: torch.optim.AdamW(m.parameters(), lr=1e-2, betas=(0.8, 0.95), weight_decay=0.3, eps=1e-6),
    "adamw, amsgrad": lambda m: torch.optim.AdamW(m.parameters(), lr=1e-2, amsgrad=True, foreach=True),
    "adamw, fused": lambda m: torch.optim.AdamW(m.parameters(), lr=1e-2, fused=True),
    "adam, maximize": lambda m: torch.optim.Adam(m.parameters(), lr=1e-4, maximize=True, weight_decay=0.1),
    "sgd": lambda m: torch.optim.SGD(m.parameters(), lr=0.1),
    "sgd, nesterov": lambda m: torch.optim.SGD(m.parameters(), lr=0.1, momentum=0.9, nesterov=True),
    "nadam": lambda m: torch.optim.NAdam(m.parameters(), lr=1e-2, momentum_decay=0.01, decoupled_weight_decay=True),
    "radam": lambda m: torch.optim.RAdam(m.parameters(), lr=1e-2),
    "rmsprop": lambda m: torch.optim.RMSprop(m.parameters(), lr=1e-3, alpha=0.9, momentum=0.5, centered=True),
    "adagrad": lambda m: torch.optim.Adagrad(m.parameters(), lr=1e-2, initial_accumulator_value=0.2, lr_decay=0.1),
    "adamax": lambda m: torch.optim.Adamax(m.parameters(), lr=1e-2, betas=[0.8, 0.9]),  # type: ignore[arg-type]
    "adadelta": lambda m: torch.optim.Adadelta(m.parameters(), lr=0.7, rho=0.8),
    "adafactor": lambda m: torch.optim.Adafactor(m.parameters(), lr=1e-2),
    "asgd": lambda m: torch.optim.ASGD(m.parameters(), lr=1e-2, t0=2.0),
    "rprop": lambda m: torch.optim.Rprop(m.parameters(), lr=1e-3, etas=(0.6, 1.3), step_sizes=(1e-5, 10)),
    "muon": lambda m: torch.optim.Muon([p for p in m.parameters() if p.dim() == 2], lr=1e-2),
    "named": lambda m: torch.optim.AdamW(m.named_parameters(), lr=1e-2),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_run_with_an_optimizer_of_the_callers_goes_on_from_the_command_line(name: str, mypt: Mypt) -> None:
    def fit(checkpoint: CheckpointManager, observer: Observer) -> None:
        model = GPT(config_of())
        optimizer = OPTIMIZERS[name](model)
        model.fit(loader_of(), optimizer, checkpoint=checkpoint, observer=observer, **STEPS)

    assert_goes_on(mypt, fit, lambda: mypt("resume", "parts"))
    record = read_state(Path("checkpoints/parts")).optimizer
    assert record is not None and f"torch.optim.{record.kind}" in mypt("inspect", "parts").output


def decayed(m: GPT) -> list[dict[str, Any]]:
    """Matrices decay, vectors do not."""
    matrices = [p for p in m.parameters() if p.dim() >= 2]
    return [{"params": matrices, "weight_decay": 0.2}, {"params": [p for p in m.parameters() if p.dim() < 2]}]


GROUPS: dict[str, Groups] = {
    "decay": decayed,
    "a rate each": lambda m: [
        {"params": m.token_embedding.parameters(), "lr": 1e-3},
        {"params": [*m.blocks.parameters(), *m.norm.parameters()]},
        {"params": m.lm_head.parameters(), "lr": 2e-2, "betas": (0.5, 0.6)},
    ],
    "a frozen head by a rate of 0": lambda m: [
        {"params": [p for n, p in m.named_parameters() if "lm_head" not in n]},
        {"params": m.lm_head.parameters(), "lr": 0.0, "weight_decay": 0.0},
    ],
    "the smaller rate first": lambda m: [
        {"params": m.lm_head.parameters(), "lr": 1e-5},
        {"params": [p for n, p in m.named_parameters() if "lm_head" not in n]},
    ],
    "a part of the weights": lambda m: [{"params": m.blocks.parameters()}],
    "in another order": lambda m: [{"params": list(m.parameters())[::-1]}],
}


@pytest.mark.parametrize("name", GROUPS)
def test_groups_keep_their_rates_and_settings_in_a_resume(name: str, mypt: Mypt) -> None:
    def fit(checkpoint: CheckpointManager, observer: Observer) -> None:
        model = GPT(config_of())
        optimizer = torch.optim.AdamW(GROUPS[name](model), lr=1e-2)
        model.fit(loader_of(), optimizer, checkpoint=checkpoint, observer=observer, lr_schedule="linear", **STEPS)

    assert_goes_on(mypt, fit, lambda: mypt("resume", "parts"))


@pytest.mark.usefixtures("folder")
def test_the_rate_of_each_group_is_its_share_of_the_schedule() -> None:
    model = GPT(config_of())
    rest = [p for n, p in model.named_parameters() if "lm_head" not in n]
    groups: list[dict[str, Any]] = [
        {"params": model.lm_head.parameters(), "lr": 0.0},
        {"params": rest[:3], "lr": 0.1},
        {"params": rest[3:]},
    ]
    optimizer, head = torch.optim.SGD(groups, lr=0.4), model.lm_head.weight.clone()
    seen = []

    class Watch(Observer):
        def stepped(self, *_: object) -> None:
            """Remember the rates."""
            seen.append([group["lr"] for group in optimizer.param_groups])

    how: dict[str, Any] = {
        "warmup_iters": 0,
        "lr_schedule": "linear",
        "max_iters": 4,
        "eval_interval": 1,
        "eval_iters": 1,
    }
    result = model.fit(loader_of(), optimizer, observer=Watch(), **how)
    assert [e.lr for e in result.evals] == [lr for _, _, lr in seen] == pytest.approx([0.4, 0.3, 0.2, 0.1])
    assert [lr for _, lr, _ in seen] == pytest.approx([0.1, 0.075, 0.05, 0.025]) and {lr for lr, _, _ in seen} == {0.0}
    assert torch.equal(head, model.lm_head.weight), "a rate of 0 stays 0"
    assert [group["lr"] for group in optimizer.param_groups] == [0.0, 0.1, 0.4], "a second fit begins with them again"
    seen.clear()
    model.fit(loader_of(), optimizer, observer=Watch(), learning_rate=0.8, **how)
    assert seen[0] == pytest.approx([0.0, 0.2, 0.8]), "a peak that is given scales all"


def test_a_resume_scales_every_group_and_refuses_what_the_optimizer_decides(mypt: Mypt) -> None:
    model = GPT(config_of())
    groups: list[dict[str, Any]] = [
        {"params": model.blocks.parameters()},
        {"params": model.norm.parameters(), "lr": 0.1},
    ]
    optimizer = torch.optim.SGD(groups, lr=0.4)
    model.fit(loader_of(), optimizer, checkpoint=CheckpointManager("dante"), **STEPS)
    before = Path("checkpoints/dante/training_state.json").read_bytes()
    config = json.loads(before)["training_config"]
    assert not {"optimizer", "weight_decay", "beta1", "beta2", "muon_dtype"} & config.keys()
    for option in (["--optimizer", "adamw"], ["--weight-decay", "0.1"], ["--beta1", "0.9"], ["--beta2", "0.9"]):
        result = mypt("resume", "dante", "--max-iters", "9", *option, ok=False)
        assert result.exit_code == 2 and "torch.optim.SGD" in result.stderr, option
    assert Path("checkpoints/dante/training_state.json").read_bytes() == before
    mypt("resume", "dante", "--max-iters", "9", "--lr", "0.8", "--lr-schedule", "constant")
    groups = load_tensors(Path("checkpoints/dante/optimizer.pt"))["optimizer"]["param_groups"]
    assert [group["lr"] for group in groups] == pytest.approx([0.8, 0.2])
    assert "identical: all 9 steps and the weights" in mypt("reproduce", "dante").output
    starts = [
        json.loads(e) for e in Path("logs/train/dante_eval.jsonl").read_text().splitlines() if "training_start" in e
    ]
    assert [(s["config"]["optimizer"], s["config"]["beta1"], s["config"]["learning_rate"]) for s in starts] == [
        ("torch.optim.sgd.SGD", None, 0.4), ("torch.optim.sgd.SGD", None, 0.8),
    ]  # fmt: skip
    assert "torch.optim.SGD" in mypt("compare", "dante", "dante_gold", "--json").output


FROZEN: dict[str, Callable[[GPT], Sequence[torch.Tensor]]] = {
    "a head": lambda m: [m.lm_head.weight],
    "a layer": lambda m: list(m.blocks[1].parameters()),
    "norms": lambda m: [p for p in m.parameters() if p.dim() < 2],
    "all but one": lambda m: list(m.parameters())[1:],
}


@pytest.mark.parametrize("settings", [{}, {"freeze_layers": 1}, {"optimizer": "muon", "muon_dtype": "fp32"}], ids=str)
@pytest.mark.parametrize("name", FROZEN)
def test_weights_frozen_by_hand_stay_frozen(name: str, settings: dict[str, Any], mypt: Mypt) -> None:
    held = [torch.empty(0)]

    def fit(checkpoint: CheckpointManager, observer: Observer) -> None:
        model = GPT(config_of())
        for p in FROZEN[name](model):
            p.requires_grad_(False)
        held[:] = [p.clone() for p in FROZEN[name](model)]
        model.fit(loader_of(), checkpoint=checkpoint, observer=observer, **STEPS, **settings)

    assert_goes_on(mypt, fit, lambda: mypt("resume", "parts"))
    assert all(map(torch.equal, held, FROZEN[name](GPT.load("parts", device="cpu"))))
    assert read_state(Path("checkpoints/parts")).frozen


@pytest.mark.parametrize("own", [False, True], ids=["mypt's optimizer", "the caller's"])
@pytest.mark.parametrize(("model_seed", "seed", "loader_seed"), [(1337, 1337, 1337), (3, 7, 11), (0, 7, 7), (5, 0, 0)])
def test_three_seeds_are_three_records(own: bool, model_seed: int, seed: int, loader_seed: int, mypt: Mypt) -> None:
    def fit(checkpoint: CheckpointManager, observer: Observer) -> None:
        model = GPT(config_of(), seed=model_seed)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2) if own else None
        loader = loader_of(seed=loader_seed)
        model.fit(loader, optimizer, checkpoint=checkpoint, observer=observer, seed=seed, eval_seed=seed + 1, **STEPS)

    assert_goes_on(mypt, fit, lambda: mypt("resume", "parts"))
    state = read_state(Path("checkpoints/parts"))
    assert state.data is not None
    assert (state.init_seed, state.training_config.seed, state.data.seed) == (model_seed, seed, loader_seed)


@pytest.mark.usefixtures("folder")
def test_the_batches_of_a_loader_are_those_that_are_trained() -> None:
    def end(seed: int, loader_seed: int) -> float:
        model = GPT(config_of(dropout=0.0))
        return model.fit(loader_of(seed=loader_seed), seed=seed, observer=Observer(), **STEPS).evals[-1].val_loss

    assert end(1, 7) == end(2, 7) != end(1, 8)


def test_the_batch_size_of_the_loader_is_followed_and_recorded(mypt: Mypt) -> None:
    def fit(checkpoint: CheckpointManager, observer: Observer) -> None:
        loader = loader_of(config_of(batch_size=3))
        model = GPT(config_of())
        model.fit(loader, eval_data_loaders={"more": loader}, checkpoint=checkpoint, observer=observer, **STEPS)

    assert_goes_on(mypt, fit, lambda: mypt("resume", "parts"))
    assert json.loads(Path("checkpoints/parts/config.json").read_text())["batch_size"] == 3


@pytest.mark.parametrize("by", ["the command line", "Python"])
def test_a_run_goes_on_from_python_as_from_the_command_line(by: str, mypt: Mypt) -> None:
    def fit(checkpoint: CheckpointManager, observer: Observer) -> None:
        GPT(config_of()).fit(loader_of(), checkpoint=checkpoint, observer=observer, **STEPS)

    def resume() -> None:
        if by == "Python":
            result = package.resume("parts", observer=Observer())
            assert (result.state.step, len(result.evals), result.stopped) == (6, 1, None)
        else:
            mypt("resume", "parts")

    assert_goes_on(mypt, fit, resume)
    assert Path("checkpoints/parts_fp16").is_dir()


@pytest.mark.usefixtures("folder")
def test_resume_from_python_takes_what_the_command_line_takes(capsys: pytest.CaptureFixture[str]) -> None:
    GPT(config_of()).fit(loader_of(), checkpoint=CheckpointManager("dante", "out"), observer=Observer(), **STEPS)
    Path("input.txt").rename("moved.txt")
    result = package.resume(
        "dante", out_dir="out", max_iters=9, lr=1e-4, input_file=Path("moved.txt"), eval_sets={"m": Path("moved.txt")}
    )
    out = capsys.readouterr().out
    assert "Resuming from step 6." in out and "max_iters: 6 -> 9 (changes the trajectory)" in out
    assert result.state.training_config.learning_rate == 1e-4 and set(result.evals[-1].eval_sets()) == {"m"}
    done = package.resume("dante", out_dir="out", input_file="moved.txt")
    assert "Nothing left to do" in capsys.readouterr().out and (done.state.step, done.evals) == (9, [])
    with pytest.raises(ConflictError, match="n_layer: recorded 2, given 3"):
        package.resume("dante", out_dir="out", n_layer=3)
    with pytest.raises(ConfigError, match="this call: max_iter is not"):
        package.resume("dante", out_dir="out", max_iter=9)
    assert package.resume("dante", out_dir="out", from_gold=True, max_iters=12, input_file="moved.txt").state.step == 12
