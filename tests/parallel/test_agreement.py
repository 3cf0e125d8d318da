"""How processes share and add up, seen within one: the tree of exact sums, shares, what a launch says, what is kept."""

import math
import pickle
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import mypt as mypt_package
from mypt.errors import ConfigError, ConflictError, DeviceError, InputError, UsageError
from mypt.launch import Launch
from mypt.run.parallel.share import check_alike, check_processes
from mypt.schema.settings.config import GPTConfig
from mypt.schema.settings.training import TrainingConfig
from mypt.train.device.async_check import AsyncCheck
from mypt.train.device.devices import environment
from mypt.train.parallel.group import Group, Part
from mypt.train.parallel.reduce import Exact, Sum
from mypt.train.parallel.shares import share_of
from mypt.train.stop import Stop, StopNow
from mypt.train.throughput import throughput
from tests.conftest import SHORT, Mypt, flat


@given(st.integers(0, 10_000), st.integers(1, 300))
def test_shares_are_blocks_in_order_that_differ_by_one_at_most(count: int, size: int) -> None:
    shares = [share_of(count, rank, size) for rank in range(size)]
    assert [number for share in shares for number in share] == [*range(count)]
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def gradients(seed: int, count: int) -> list[list[Tensor]]:
    """Of two weights for each micro-batch, of very different sizes, so that any other order rounds differently."""
    made = torch.Generator().manual_seed(seed)
    return [
        [torch.randn(3, 5, generator=made) * 10.0 ** int(torch.randint(-6, 6, (1,), generator=made)) for _ in range(2)]
        for _ in range(count)
    ]


def branch(micro_batches: list[list[Tensor]]) -> Tensor:
    """What one process adds up by itself: all its gradients in a row, and the loss."""
    weights = [torch.zeros(3, 5, requires_grad=True) for _ in range(2)]
    adding = Exact(weights, Group())
    for grads in micro_batches:
        for weight, grad in zip(weights, grads, strict=True):
            weight.grad = grad.clone()
        adding.add(grads[0].sum())
    loss, failed = adding.finish(failed=False)
    assert float(failed) == 0
    return torch.cat([*(w.grad.flatten() for w in weights if w.grad is not None), loss.view(1)])


@given(st.integers(0, 1000), st.sampled_from([1, 2, 4, 8, 16]), st.sampled_from([1, 2, 4, 8, 16]))
def test_the_tree_does_not_depend_on_who_adds_which_branch(seed: int, count: int, size: int) -> None:
    """The branches of processes, added in pairs as they do it, are the tree of a single one, to the bit."""
    size = min(size, count)
    grads = gradients(seed, count)
    branches = torch.stack([branch([grads[i] for i in share_of(count, rank, size)]) for rank in range(size)])
    while len(branches) > 1:
        branches = branches[0::2] + branches[1::2]
    assert torch.equal(branches[0], branch(grads))


def test_a_tree_rounds_less_than_a_row() -> None:
    """And so exact sums are no other sums than they say: they are near those in double precision."""
    grads = gradients(3, 16)
    wanted = torch.stack([torch.cat([g.flatten() for g in pair]) for pair in grads]).double().sum(0)
    assert torch.allclose(branch(grads)[:-1].double(), wanted, rtol=1e-5, atol=1e-5 * float(wanted.abs().max()))


def test_one_process_leaves_its_gradients_as_autograd_made_them() -> None:
    weight = torch.zeros(4, requires_grad=True)
    weight.grad = torch.arange(4.0)
    adding = Sum([weight], Group())
    adding.add(torch.tensor(0.25))
    adding.add(torch.tensor(0.5))
    kept = weight.grad
    loss, failed = adding.finish(failed=False)
    assert weight.grad is kept and (float(loss), float(failed)) == (0.75, 0.0)


@pytest.mark.parametrize("raised", [StopNow("SIGTERM"), InputError("a", "b"), ValueError("c")], ids=repr)
def test_what_a_part_raises_is_kept_only_where_there_are_others(raised: BaseException) -> None:
    with Part(kept=True) as part:
        raise raised
    assert part.error is raised and part.failed
    with pytest.raises(type(raised)), Part(kept=False):
        raise raised


def test_a_bug_of_another_process_brings_its_traceback_along() -> None:
    """The message says that --debug shows where it was, and the first process alone prints."""
    part = Part(kept=True)
    with part:
        gradients(0, -1)[7]  # what nobody expected
    told = pickle.loads(pickle.dumps(Group(Launch(rank=3, size=4))._portable(part.error)))
    assert "Process 3 on " in told.what and "IndexError" in told.what
    assert "in test_a_bug_of_another_process" in "".join(traceback.format_exception(told))


def test_processes_of_other_versions_are_refused_and_other_machines_are_not() -> None:
    here = environment("cpu")
    check_alike(here, here.model_copy(update={"processor": "another", "threads": 96, "platform": "BSD"}), "process 1")
    with pytest.raises(ConflictError, match="Process 1 on b has other versions"):
        check_alike(here, here.model_copy(update={"torch": "2.0.0"}), "process 1 on b")


def test_the_share_of_the_peak_is_that_of_all_devices() -> None:
    one, two = (throughput(10**6, 1.0, GPTConfig(), "NVIDIA H100 80GB HBM3", devices) for devices in (1, 2))
    assert one.mfu and two.mfu and two.mfu == pytest.approx(one.mfu / 2) and two.tflops == one.tflops


def test_python_goes_on_with_a_run_in_one_process_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match="torchrun has started several"):
        mypt_package.resume("m")


def test_a_process_that_is_killed_by_python_itself_keeps_nothing() -> None:
    with pytest.raises(SystemExit), Part(kept=True):
        raise SystemExit(143)


@pytest.mark.parametrize("failed_at", [0, 2, 5])
def test_a_device_that_runs_ahead_moves_no_weight_from_the_step_on_that_a_process_failed_at(failed_at: int) -> None:
    """And every host hears of it with the result of that very step."""
    check, loss = AsyncCheck(limit=2), torch.tensor(1.0)
    moved, heard = [], []
    for step in range(6):
        halted = check.halted(torch.tensor(float(step == failed_at)))
        moved.append(not bool(halted))
        heard += check.send(step, loss, loss, halted)
    heard += check.rest()
    assert moved == [step < failed_at for step in range(6)]
    assert next(result.step for result in heard if result.broken) == failed_at


TORCHRUN = {
    "RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4", "TORCHELASTIC_RESTART_COUNT": "2",
    "TORCHELASTIC_RUN_ID": "job",
}  # fmt: skip


def test_a_launch_is_what_torchrun_says() -> None:
    assert Launch.of(TORCHRUN) == Launch(rank=5, size=8, local_rank=1, hosts=2, restarts=2, elastic=True)
    assert Launch.of({}) == Launch() and Launch().leads and not Launch.of(TORCHRUN).leads


@pytest.mark.parametrize(
    ("accum", "reduce", "device", "size", "error"),
    [
        (4, "sum", "cpu", 4, None), (4, "sum", "cpu", 3, None), (4, "sum", "cuda", 2, None),
        (4, "exact", "cpu", 4, None),
        (4, "sum", "cpu", 5, ConfigError), (1, "sum", "cpu", 2, ConfigError), (4, "exact", "cpu", 3, ConfigError),
        (4, "sum", "cuda:1", 2, DeviceError), (4, "sum", "mps", 2, DeviceError),
    ],
)  # fmt: skip
def test_so_many_processes_can_share_a_step_or_are_refused(
    accum: int, reduce: str, device: str, size: int, error: type[Exception] | None
) -> None:
    training = TrainingConfig(grad_accum_steps=accum, reduce=reduce)
    check: Callable[[], None] = lambda: check_processes(training, device, size)  # noqa: E731
    if error is None:
        check()
    else:
        with pytest.raises(error):
            check()


def test_exact_sums_need_a_power_of_two(mypt: Mypt) -> None:
    told = mypt("train", "m", "--grad-accum-steps", "6", "--reduce", "exact", ok=False)
    assert told.exit_code == 2 and "power of two, and it is 6" in flat(told.stderr)
    assert not Path("checkpoints").exists()


def test_exact_sums_of_one_micro_batch_are_the_sums(mypt: Mypt) -> None:
    """With a single leaf there is nothing to add, so that --reduce exact changes not one bit of a run."""
    mypt("train", "a", *SHORT)
    mypt("train", "b", *SHORT, "--reduce", "exact")
    a, b = (torch.load(f"checkpoints/{name}/model.pt") for name in "ab")
    assert all(torch.equal(a[n], b[n]) for n in a)


def test_only_a_person_can_ask_twice_under_torchrun() -> None:
    """A queue may signal torchrun and its processes, each of which hears it twice then."""
    import signal

    stop = Stop(elastic=True, heard=-math.inf)
    assert stop.repeats(signal.SIGTERM) and not stop.repeats(signal.SIGINT)
    alone = Stop(heard=-math.inf)
    assert not alone.repeats(signal.SIGTERM)


def test_other_processes_leave_alone_what_the_first_does_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """They neither read the call nor print, and do not wait for one that never comes."""
    from mypt.cli.app import follow_first

    called: list[Launch] = []
    monkeypatch.setattr("mypt.run.parallel.follow.follow", called.append)
    launch = Launch.of(TORCHRUN)
    for words in (["inspect", "m"], ["train", "--help"], ["--version"], []):
        monkeypatch.setattr("sys.argv", ["mypt", *words])
        follow_first(launch)
    assert not called
    monkeypatch.setattr("sys.argv", ["mypt", "resume", "m"])
    follow_first(launch)
    assert called == [launch]
