"""`fit` keeps the command line's promises: one writer of a name, stops, nothing changed but the weights, refusals."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mypt import GPT, CheckpointManager, GPTDataLoader
from mypt.checkpoint.files import read_state
from mypt.checkpoint.lock import locked
from mypt.errors import BusyError, ConfigError, ConflictError, DivergedError, MyptError
from mypt.signals import STOP_SIGNALS
from mypt.train.observer import Observer
from tests.conftest import Mypt
from tests.data.test_data import nanogpt
from tests.run.test_fit import STEPS, TOKENIZER, assert_one_run, config_of, loader_of
from tests.run.test_names import contents

SNIPPET = """
import os, signal, sys, torch
from mypt import GPT, CheckpointManager, GPTConfig, GPTDataLoader, Tokenizer
from mypt.train.observer import PrintObserver

kill_at, name, end = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])

class Watch(PrintObserver):
    def stepped(self, step, loss):
        if step == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

tokenizer = Tokenizer.gpt2()
config = GPTConfig(vocab_size=tokenizer.vocab_size, block_size=16, batch_size=4, n_embd=8, n_head=2, n_layer=2)
model = GPT(config)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, betas=(0.8, 0.95), weight_decay=0.3)
domain_loader = GPTDataLoader(config, tokenizer, dataset_dir="data/domain_corpus")
general_loader = GPTDataLoader(config, tokenizer, dataset_dir="data/general_eval", eval_only=True)
model.fit(
    data_loader=domain_loader,
    optimizer=optimizer,
    eval_data_loaders={"general": general_loader},
    checkpoint=CheckpointManager(name),
    observer=Watch(),
    max_iters=end, eval_interval=3, eval_iters=2, use_amp=False,
)
"""
"""The spec's snippet of dual evaluation, with what a run needs around it."""


def snippet(*words: object) -> int:
    """Run the snippet in a process of its own, on a console that has no Unicode; its exit code."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "cp1252", "PYTHONPATH": os.pathsep.join(sys.path)}
    call = [sys.executable, "-c", SNIPPET, *map(str, words)]
    done = subprocess.run(call, env=env, capture_output=True, check=False, encoding="cp1252")
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode


@pytest.mark.skipif(sys.platform == "win32", reason="kills by SIGKILL")
def test_the_snippet_of_the_spec_killed_and_resumed_on_the_command_line_is_one_run(mypt: Mypt) -> None:
    nanogpt(Path("data/domain_corpus"), top=90)
    nanogpt(Path("data/general_eval"), top=60)
    assert snippet(0, "whole", 8) == 0
    assert snippet(5, "parts", 8) == -signal.SIGKILL
    assert read_state(Path("checkpoints/parts")).step == 3
    mypt("resume", "parts")
    assert_one_run("whole", "parts")
    for name in ("whole", "parts"):
        assert "0 faults" in mypt("verify", name).output
        assert "identical: all 8 steps and the weights" in mypt("reproduce", name).output


class At(Observer):
    """Does something when a step is done."""

    def __init__(self, step: int, act: Callable[[], object]) -> None:
        self.step, self.act = step, act

    def stepped(self, step: int, *_: object) -> None:
        """Do it."""
        if step == self.step:
            self.act()


@pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")
@pytest.mark.parametrize("signum", STOP_SIGNALS, ids=lambda signum: signum.name)
@pytest.mark.parametrize("at", [1, 3, 5])
def test_a_signal_stops_fit_with_everything_saved(at: int, signum: signal.Signals, mypt: Mypt) -> None:
    GPT(config_of()).fit(loader_of(), checkpoint=CheckpointManager("whole"), observer=Observer(), **STEPS)
    before = signal.getsignal(signum)
    model, stop = GPT(config_of()), At(at, lambda: os.kill(os.getpid(), signum))
    result = model.fit(loader_of(), checkpoint=CheckpointManager("parts"), observer=stop, **STEPS)
    assert (result.stopped, result.state.step, result.complete) == (signum.name, at, None)
    assert signal.getsignal(signum) is before
    assert read_state(Path("checkpoints/parts")).step == at
    with pytest.raises(ConflictError, match="exists already"):  # what is trained is not recorded as new
        model.fit(loader_of(), checkpoint=CheckpointManager("parts"), observer=Observer(), **STEPS)
    mypt("resume", "parts")
    assert_one_run("whole", "parts")


def test_a_model_that_was_stopped_is_the_parent_of_what_a_second_fit_makes_of_it(mypt: Mypt) -> None:
    model, stop = GPT(config_of()), At(3, lambda: os.kill(os.getpid(), signal.SIGINT))
    model.fit(loader_of(), checkpoint=CheckpointManager("first"), observer=stop, **STEPS)
    model.fit(loader_of(), checkpoint=CheckpointManager("second"), observer=Observer(), **STEPS)
    parent = read_state(Path("checkpoints/second")).parent
    assert parent is not None and (parent.name, parent.step) == ("first", 3)
    assert "identical: all 6 steps" in mypt("reproduce", "second").output


def test_nobody_else_writes_a_name_while_fit_trains(mypt: Mypt) -> None:
    tried = []

    def try_to_write() -> None:
        before = contents(Path("checkpoints"))
        calls = [["resume", "dante"], ["export-fp16", "dante"], ["resume", "dante_gold"]]
        calls += [["train", name, "--input-file", "input.txt", "--fresh"] for name in ("dante", "dante_fp16")]
        for call in calls:
            result = mypt(*call, ok=False)
            tried.append((call, result.exit_code, "is being written by" in result.stderr))
        assert contents(Path("checkpoints")) == before

    GPT(config_of()).fit(loader_of(), checkpoint=CheckpointManager("dante"), observer=At(4, try_to_write), **STEPS)
    assert all(code for _, code, _ in tried) and len([call for call, _, told in tried if told]) >= 3, tried


HOLD = "import sys\nfrom pathlib import Path\nfrom mypt.checkpoint.lock import locked\n" + (
    "with locked(Path(sys.argv[1]), print):\n    print('held', flush=True)\n    sys.stdin.read()\n"
)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("name", ["dante", "dante_gold", "dante_fp16"])
def test_fit_waits_for_nobody_who_holds_the_name(name: str) -> None:
    call = [sys.executable, "-c", HOLD, str(Path("checkpoints") / name)]
    with subprocess.Popen(call, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        with pytest.raises(BusyError, match=f"process {process.pid}"):
            GPT(config_of()).fit(loader_of(), checkpoint=CheckpointManager("dante"), observer=Observer(), **STEPS)
        process.communicate()
    with locked(Path("checkpoints/dante"), print):
        assert not Path("checkpoints/dante").exists()


class FailAt(Observer):
    """Fails at an evaluation, as code of the caller's may."""

    def evaluated(self, *_: object) -> None:
        """Fail."""
        raise ZeroDivisionError


ENDINGS: dict[str, tuple[Callable[[], Observer], type[BaseException] | None, dict[str, Any]]] = {
    "complete": (Observer, None, {}),
    "stopped": (lambda: At(2, lambda: os.kill(os.getpid(), signal.SIGINT)), None, {}),
    "failed": (FailAt, ZeroDivisionError, {}),
    "diverged": (Observer, DivergedError, {"learning_rate": 1e30, "warmup_iters": 0}),
}


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("train_mode", [True, False])
def test_fit_changes_nothing_for_good_but_the_weights(ending: str, train_mode: bool) -> None:
    watch, error, settings = ENDINGS[ending]
    model = GPT(config_of()).train(train_mode)
    model.blocks[0].train(not train_mode)
    model.lm_head.weight.requires_grad_(False)
    modes = {n: m.training for n, m in model.named_modules()}
    trained = {n: p.requires_grad for n, p in model.named_parameters()}
    groups: list[dict[str, Any]] = [
        {"params": model.blocks.parameters(), "lr": 0.2},
        {"params": model.norm.parameters()},
    ]
    optimizer = None if settings else torch.optim.SGD(groups, lr=0.4)
    call = {**STEPS, "freeze_layers": 1, "freeze_embeddings": True, "use_checkpoint": True, **settings}
    if error is None:
        model.fit(loader_of(), optimizer, observer=watch(), **call)
    else:
        with pytest.raises(error):
            model.fit(loader_of(), optimizer, observer=watch(), **call)
    assert {n: m.training for n, m in model.named_modules()} == modes
    assert {n: p.requires_grad for n, p in model.named_parameters()} == trained
    assert not model.use_checkpoint
    assert optimizer is None or [group["lr"] for group in optimizer.param_groups] == [0.2, 0.4]
    if error is DivergedError:
        return
    before = {n: p.clone() for n, p in model.named_parameters()}
    model.fit(loader_of(), observer=Observer(), **STEPS)
    moved = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert moved == before.keys() - {"lm_head.weight"}, "nothing but what the caller froze is frozen"


class Adam(torch.optim.Adam):
    """One of the caller's own."""


class OwnLoader(GPTDataLoader):
    """One of the caller's own."""


def hooked(model: GPT) -> torch.optim.Optimizer:
    optimizer = torch.optim.AdamW(model.parameters())
    optimizer.register_step_pre_hook(lambda *_: None)
    return optimizer


def with_linear(model: GPT) -> GPT:
    model.blocks[0].dropout = torch.nn.Dropout(0.9)
    return model


Refused = tuple[Callable[[], GPT], Callable[[GPT], torch.optim.Optimizer | None], Callable[[], GPTDataLoader]]
UNRECORDABLE: dict[str, Refused] = {
    "an optimizer class": (lambda: GPT(config_of()), lambda m: Adam(m.parameters(), lr=1e-2), loader_of),
    "a tensor": (
        lambda: GPT(config_of()),
        lambda m: torch.optim.Adam(
            m.parameters(), lr=torch.tensor(1e-2), betas=(torch.tensor(0.8), torch.tensor(0.9)), foreach=False
        ),
        loader_of,
    ),
    "a hook": (lambda: GPT(config_of()), hooked, loader_of),
    "foreign weights": (
        lambda: GPT(config_of()),
        lambda m: torch.optim.SGD([*m.parameters(), torch.nn.Parameter(torch.zeros(2))], lr=1e-2),
        loader_of,
    ),
    "a loader class": (
        lambda: GPT(config_of()),
        lambda _: None,
        lambda: OwnLoader(config_of(), TOKENIZER, input_file="input.txt"),
    ),
    "another module": (lambda: with_linear(GPT(config_of())), lambda _: None, loader_of),
    "half precision": (lambda: GPT(config_of()).bfloat16(), lambda _: None, loader_of),
}


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("name", UNRECORDABLE)
def test_what_cannot_be_recorded_is_refused_with_a_checkpoint_alone(name: str) -> None:
    make, optimizer_for, loader = UNRECORDABLE[name]
    model = make()
    with pytest.raises(ConfigError, match="cannot be recorded"):
        model.fit(loader(), optimizer_for(model), checkpoint=CheckpointManager("m"), observer=Observer(), **STEPS)
    assert not Path("checkpoints/m").exists() and not Path("logs").exists()
    if name != "half precision":
        model = make()
        assert model.fit(loader(), optimizer_for(model), observer=Observer(), **STEPS).state.step == 6


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("optimizer", [torch.optim.LBFGS, object], ids=lambda cls: cls.__name__)
def test_what_training_cannot_use_is_refused(optimizer: Any) -> None:
    model = GPT(config_of())
    given: Any = optimizer() if optimizer is object else optimizer(model.parameters())
    with pytest.raises(MyptError, match=r"needs a closure|is a object"):
        model.fit(loader_of(), given, observer=Observer(), **STEPS)
