"""A run on 1,024 processes, all of them played by this one: whose windows are whose, what it costs to get to them."""

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from mypt import GPT, GPTConfig, GPTDataLoader, Tokenizer
from mypt.data.loader import Batch, LoaderOptions
from mypt.launch import Launch
from mypt.schema.files.state import TrainingState
from mypt.schema.settings.data import Sampling
from mypt.schema.settings.training import TrainingConfig
from mypt.train.observer import Observer
from mypt.train.parallel.group import Group
from mypt.train.run_data import RunData
from mypt.train.session import assemble
from mypt.train.step import Stepper
from tests.data.reads import Reads, counted_reads
from tests.data.test_data import llmc

RANKS = 1024
MICRO_BATCHES = 1500
"""Of a step: some processes have two, some have one."""
B, T = 2, 8
WINDOWS = 3 * MICRO_BATCHES
"""Of an epoch: one and a half steps."""
FAR = 10**9


def single(folder: Path, sampling: Sampling) -> tuple[Stepper, Reads]:
    """The steps of a run on one process, over shards whose ids are their positions, and what is read from there on."""
    tokens = WINDOWS * T + 1
    sizes = {
        "train_000001.bin": 10_001,
        "train_000002.bin": 3,
        "train_000003.bin": tokens - 10_004,
        "val_000000.bin": 99,
    }
    llmc(folder, {f"x_{name}": size for name, size in sizes.items()})
    config = GPTConfig(
        n_embd=2, n_head=1, n_layer=1, batch_size=B, block_size=T, vocab_size=50304, dropout=0.0, device="cpu"
    )
    with counted_reads() as reads:
        options = LoaderOptions(sampling=sampling)
        loader = GPTDataLoader(config, Tokenizer.gpt2(), dataset_dir=folder, options=options)
    state = TrainingState(step=0, training_config=TrainingConfig(grad_accum_steps=MICRO_BATCHES))
    return assemble(GPT(config), RunData(loader), state, Observer()).stepper, reads


def ranks_of(stepper: Stepper, size: int = RANKS) -> list[Stepper]:
    """The same run on many processes."""
    meeting = cast(Any, object())
    return [replace(stepper, group=Group(Launch(rank=rank, size=size), meeting)) for rank in range(size)]


def all_batches(ranks: list[Stepper], step: int) -> list[tuple[int, Batch]]:
    """Number and content of the micro-batches of a step, rank after rank."""
    return [numbered for rank in ranks for numbered in rank.batches(step).items()]


def test_over_epochs_every_window_is_on_one_rank_once(tmp_path: Path) -> None:
    stepper, _ = single(tmp_path, "epoch")
    ranks = ranks_of(stepper)
    assert {len(rank.share) for rank in ranks} == {1, 2}
    targets = torch.cat([y for step in range(3) for _, (_, y) in all_batches(ranks, step)])
    windows = (targets[:, 0] - 1) // T
    assert torch.equal(targets, windows[:, None] * T + 1 + torch.arange(T))
    epochs = torch.split(windows, WINDOWS)
    assert len(epochs) == 2 and not torch.equal(*epochs)
    assert all(epoch.sort().values.tolist() == list(range(WINDOWS)) for epoch in epochs)


@pytest.mark.parametrize("sampling", ["random", "epoch"])
@pytest.mark.parametrize("size", [3, RANKS])
def test_all_ranks_together_have_the_batches_of_a_single_process(tmp_path: Path, sampling: Sampling, size: int) -> None:
    stepper, _ = single(tmp_path, sampling)
    ranks = ranks_of(stepper, size)
    for step in (0, 7, FAR):
        found, alone = all_batches(ranks, step), [*stepper.batches(step).items()]
        assert [micro for micro, _ in found] == [micro for micro, _ in alone] == list(range(MICRO_BATCHES))
        for part in range(2):
            assert torch.equal(*(torch.cat([batch[part] for _, batch in batches]) for batches in (found, alone)))


def test_eval_batches_are_shared_out_in_turn(tmp_path: Path) -> None:
    loader = single(tmp_path, "epoch")[0].data.primary
    alone = [x for x, _ in loader.eval_batches("train", 1100)]
    shares = [[x for x, _ in loader.eval_batches("train", 1100, rank=rank, size=RANKS)] for rank in range(RANKS)]
    assert len(alone) == 1100 and sum(map(len, shares)) == len(alone)
    assert all(torch.equal(x, shares[i % RANKS][i // RANKS]) for i, x in enumerate(alone))


@pytest.mark.parametrize("sampling", ["random", "epoch"])
def test_a_step_is_as_near_as_any_other(tmp_path: Path, sampling: Sampling) -> None:
    """Counted in calls and in bytes, not in seconds; the cipher of an epoch takes a few rounds more or less."""
    stepper, reads = single(tmp_path, sampling)
    rank = ranks_of(stepper)[RANKS // 2]
    rank.batches(0)
    opened, read = reads.opened.copy(), reads.read.copy()
    near, far = (
        [worked(partial(rank.batches, step), reads) for step in range(first, first + 20)] for first in (0, FAR)
    )
    assert max(calls for calls, _ in far) <= 2 * max(calls for calls, _ in near)
    assert {size for _, size in near} == {size for _, size in far} == {len(rank.share) * B * (T + 1) * 2}
    assert (reads.opened, reads.read) == (opened, read)


def worked(work: Callable[[], object], reads: Reads, most: int = 100_000) -> tuple[int, int]:
    """Calls that a piece of work makes, and bytes of shards that it looks at; it is broken off at many."""
    calls, before = 0, sum(reads.mapped.values())

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1
        if calls > most:
            sys.setprofile(None)
            raise AssertionError(f"more than {most:,} calls")

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return calls, sum(reads.mapped.values()) - before
