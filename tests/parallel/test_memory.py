"""What each of several processes holds of a model as a run starts: nowhere on its device all of it."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from math import ceil
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from mypt.checkpoint.manager import CheckpointManager
from mypt.launch import Launch
from mypt.model.cost import training_memory
from mypt.model.network import Network
from mypt.run import resume, start
from mypt.run.data.places import Places
from mypt.run.data.recorded import recorded_data
from mypt.run.parallel import follow
from mypt.run.parallel.share import Shared, share_weights
from mypt.run.resume import resume_session
from mypt.run.settings import settings_of_call
from mypt.run.start import start_session
from mypt.schema.files.state import TrainingState
from mypt.schema.settings.training import TrainingConfig
from mypt.train.device.devices import WORKSPACE, environment
from mypt.train.evaluation import remeasure
from mypt.train.loop import Trainer
from mypt.train.observer import Observer
from mypt.train.parallel.group import Group
from mypt.train.parallel.layout import placed
from mypt.train.parallel.meeting import Meeting
from mypt.train.parallel.parts import is_sharded, own
from mypt.train.run_data import RunData
from mypt.train.session import assemble
from mypt.train.stop import StopNow
from tests.conftest import Mypt
from tests.parallel.conftest import SHARED
from tests.train.test_training import config_of, loader_of

SIZE = 4
ASIDE = 1024
"""Bytes of data, seeds and the like."""
GIVEN = {
    "input_file": "input.txt", "tokenization": "char", "n_layer": 2, "n_head": 2, "n_embd": 16, "block_size": 16,
    "batch_size": 4, "grad_accum_steps": 4, "use_amp": False,
}  # fmt: skip
RUN = [*SHARED, "--n-layer", "8", "--max-iters", "1", "--eval-interval", "1"]


class Live(TorchDispatchMode):
    """Counts the bytes of tensors that are made while it is entered, as long as their memory is in use."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._storages = WeakIdKeyDictionary()
        self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(hasattr(kind, "to_local") for kind in types):
            return NotImplemented  # what it is made of comes by on its own
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor) and not tensor.is_meta:
                self._storages[tensor.untyped_storage()] = None
        self.peak = max(self.peak, self.held)
        return made

    @property
    def held(self) -> int:
        """Bytes that are in use now; what FSDP lets go of has none."""
        return sum(storage.nbytes() for storage in self._storages)


Join = Callable[[int, str], tuple[Trainer, Live]]


@pytest.fixture
def alone() -> Iterator[Callable[[int, int], Group]]:
    """Makes one process of several, of which the others are played by nobody: what comes from them is what is there."""

    def one(rank: int, size: int) -> Group:
        dist.init_process_group("fake", rank=rank, world_size=size, store=FakeStore())
        return Group(Launch(rank=rank, size=size, local_rank=rank), cast(Meeting, SimpleNamespace()))

    yield one
    if dist.is_initialized():
        dist.destroy_process_group()


@pytest.fixture
def join(mypt: Mypt, alone: Callable[[int, int], Group]) -> Join:
    """Lets one process put a session together and take what it is to have of the weights."""
    mypt("train", "m", *RUN)
    loaded = CheckpointManager("m").load()
    config, tokenizer, state = loaded.model.config, loaded.tokenizer, loaded.state

    def one(rank: int, parallel: str) -> tuple[Trainer, Live]:
        group = alone(rank, SIZE)
        here = environment("cpu", group.launch)
        its = state.with_settings(parallel=parallel).model_copy(update={"environment": here})
        with Live() as live:
            if rank:
                trainer = follow._assembled(Shared("m", config, tokenizer.file, its, dry_run=False), group)
            else:
                model = placed(Network(config), its.training_config, group.launch)
                data = recorded_data(its, config, tokenizer, Places(), Observer())
                trainer = assemble(model, data, its, Observer())
                trainer.stepper.group = group
            share_weights(trainer)
        return trainer, live

    return one


def bytes_of(model: Network) -> tuple[int, int, int]:
    """Of the whole model, of the part of a process, and of the largest weight."""
    shapes = [p.shape for p in model.parameters()]
    parts = sum(ceil(shape[0] / SIZE) * shape[1:].numel() for shape in shapes)
    return sum(4 * shape.numel() for shape in shapes), 4 * parts, max(4 * shape.numel() for shape in shapes)


@pytest.mark.parametrize("rank", range(SIZE))
def test_no_process_has_room_for_more_than_its_parts_and_one_weight(join: Join, rank: int) -> None:
    """But the first, which has the whole model in the memory of its host, until it has given it out."""
    trainer, live = join(rank, "fsdp")
    whole, parts, largest = bytes_of(trainer.stepper.model)
    assert live.peak <= (whole if rank == 0 else 0) + parts + 2 * largest + ASIDE
    assert 2 * (parts + 2 * largest) < whole
    assert live.held <= parts + ASIDE


@pytest.mark.parametrize("parallel", ["fsdp", "ddp"])
def test_gold_that_is_measured_anew_is_held_as_the_model_is(
    join: Join, parallel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, _ = join(0, parallel)
    seen: list[tuple[bool, int]] = []

    def measured(model: Network, *_: object, group: Group, **__: object) -> Any:
        seen.append((is_sharded(model), group.size))
        raise StopNow("seen")

    monkeypatch.setattr(remeasure, "evaluate_sets", measured)
    measures = trainer.state.sessions[-1].measures or {}
    others = {name: measure.model_copy(update={"windows": 1}) for name, measure in measures.items()}
    with pytest.raises(StopNow):
        remeasure.take_over(
            trainer.state.with_current(measures=others), trainer.stepper, CheckpointManager("m"), lambda: None
        )
    assert seen == [(True, SIZE) if parallel == "fsdp" else (False, 1)]


@pytest.mark.parametrize("rank", [0, 1])
def test_a_model_that_is_not_shared_out_is_whole_in_each(join: Join, rank: int) -> None:
    trainer, live = join(rank, "ddp")
    assert live.held >= bytes_of(trainer.stepper.model)[0]


@pytest.mark.parametrize("vocab_size", [64, 2048])
@pytest.mark.parametrize(
    ("size", "parallel", "micro_batches"),
    [(4, "ddp", 4), (4, "ddp", 8), (4, "fsdp", 4), (4, "fsdp", 8), (16, "fsdp", 16), (16, "fsdp", 32)],
)
def test_what_a_process_holds_at_most_is_what_is_estimated(
    size: int,
    parallel: str,
    micro_batches: int,
    vocab_size: int,
    alone: Callable[[int, int], Group],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In a step after the first, which has no moments yet, of one process whose others are played by nobody."""
    config = config_of(block_size=4, batch_size=1, n_embd=128, n_layer=8, vocab_size=vocab_size)
    training = TrainingConfig.model_validate(
        {"use_amp": False, "parallel": parallel, "grad_accum_steps": micro_batches, "max_iters": 2}
    )
    group, data = alone(1, size), RunData(loader_of(config))
    with Live() as live:
        model = placed(Network.hollow(config), training, group.launch)
        trainer = assemble(model, data, TrainingState(step=0, training_config=training), Observer())
        trainer.stepper.group = group
        share_weights(trainer)
        for weight in model.parameters():
            torch.nn.init.normal_(own(weight), 0.0, 0.02)
        monkeypatch.setattr(trainer.stepper, "gradient_norm", lambda: torch.ones(()))
        for step in range(2):
            trainer.stepper.step(step)
    estimated = training_memory(config, training, size, size if parallel == "fsdp" else 1)
    assert live.peak <= estimated <= 1.25 * live.peak


class SentError(Exception):
    """The model goes to a GPU."""


@pytest.mark.parametrize(("size", "parallel"), [(1, "fsdp"), (2, "ddp"), (2, "fsdp"), (2, "hsdp")])
@pytest.mark.parametrize("verb", ["train", "resume"])
def test_a_gpu_gets_no_model_that_is_to_be_shared_out(
    verb: str, size: int, parallel: str, mypt: Mypt, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a GPU that is not there: its session is put together with the weights on the host."""
    if verb == "resume":
        mypt("train", "m", *RUN)
    for name, value in {"WORLD_SIZE": size, "RANK": 0, "TORCHELASTIC_RUN_ID": "job", WORKSPACE: ":4096:8"}.items():
        monkeypatch.setenv(name, str(value))
    for module in (start, resume):
        monkeypatch.setattr(module, "resolve_device", lambda _: "cuda")
        monkeypatch.setattr(module, "environment", lambda _, launch: environment("cpu", launch))
    real_to = Network.to

    def to(self: Network, device: str) -> Network:
        if device == "cuda":
            raise SentError
        return real_to(self, device)

    monkeypatch.setattr(Network, "to", to)
    given = {**(GIVEN if verb == "train" else {}), "parallel": parallel, "max_iters": 9, "device": "cuda"}
    settings, run = settings_of_call("m", given), CheckpointManager("m")
    with nullcontext() if size > 1 and parallel != "ddp" else pytest.raises(SentError):
        if verb == "train":
            trainer = start_session(run, settings, (), Observer())
        else:
            trainer = resume_session(run, run, settings, (), Observer())
        assert {p.device.type for p in trainer.stepper.model.parameters()} == {"cpu"}
        assert trainer.stepper.precision.device == "cuda" and trainer.stepper.check is not None
