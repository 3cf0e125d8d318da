"""The page on many GPUs says what its formulas say, and the formulas count what the collectives send."""

import shlex
from pathlib import Path

import pytest
from torch.distributed.run import get_args_parser

from benchmarks import scaling
from benchmarks.scaling import JOBS, SIZES, Job
from mypt.model.cost import parameter_count, training_memory
from mypt.schema.settings.config import GPTConfig
from mypt.schema.settings.training import TrainingConfig
from tests.docs.pages import SHELL, blocks, lines

PATH = Path(__file__).parents[2] / "docs" / "scale.md"
PAGE = PATH.read_text(encoding="utf-8")


def test_the_table_of_the_page_is_that_of_the_formulas() -> None:
    lines = PAGE.splitlines()
    first = lines.index(scaling.table().splitlines()[0])
    assert "\n".join(lines[first : lines.index("", first)]) == scaling.table(), "python benchmarks/scaling.py prints it"


def test_the_comparison_on_the_page_is_that_of_the_formulas() -> None:
    assert scaling.cross_check() in " ".join(PAGE.split())


def billions(gpus: int, micro_batches: int) -> float:
    """Parameters of the largest model of its kind, in parts, that GPUs of 80 GB hold by the estimate of a plan."""
    training = TrainingConfig(use_checkpoint=True, grad_accum_steps=micro_batches)
    style = {"pos_encoding": "rope", "mlp_type": "swiglu", "norm_type": "rmsnorm", "dropout": 0.0, "device": "cuda"}
    shapes = ({"n_layer": n, "n_head": n, "n_embd": 128 * n} for n in range(8, 120))
    models = [GPTConfig.model_validate({**style, **shape, "block_size": 4096, "batch_size": 1}) for shape in shapes]
    return max(parameter_count(m) for m in models if training_memory(m, training, gpus, gpus) <= 80e9) / 1e9


@pytest.mark.parametrize("gpus", [8, 64])
def test_the_largest_models_of_the_page_are_those_of_the_estimate(gpus: int) -> None:
    one, several = (billions(gpus, micro_batches) for micro_batches in (gpus, 2 * gpus))
    assert f"| {gpus} | {one:.0f} billion parameters | {several:.0f} billion |" in PAGE


def test_torchrun_understands_every_call_of_the_page() -> None:
    every = [line.text for block in blocks(PATH) if block.language in SHELL for line in lines(block)]
    calls = [shlex.split(line)[1:] for line in every if line.startswith("torchrun ")]
    parsed = [get_args_parser().parse_args(call) for call in calls]
    assert len(parsed) >= 2 and all(args.module and args.training_script == "mypt" for args in parsed)


def sent_in_rings(n: int, size: int) -> tuple[int, int]:
    """Bytes that a GPU sends in a reduce-scatter by a ring, and its hops: parts go on until each GPU has one of all."""
    parts = [[{gpu} for _ in range(n)] for gpu in range(n)]
    sent = hops = 0
    while not all(any(len(part) == n for part in held) for held in parts):
        moving = [((gpu - hops) % n, parts[gpu][(gpu - hops) % n]) for gpu in range(n)]
        for gpu, (part, summands) in enumerate(moving):
            parts[(gpu + 1) % n][part] |= summands
        sent, hops = sent + size // n, hops + 1
    return sent, hops


@pytest.mark.parametrize("n", [2, 3, 8])
def test_a_ring_sends_what_the_formula_says_in_as_many_hops(n: int) -> None:
    sent, hops = sent_in_rings(n, size=2520)
    assert scaling.pass_s(2520, n, bandwidth=1) == pytest.approx(sent)
    assert scaling.ring_latency_s(n) == pytest.approx(hops * scaling.RING_HOP)


def test_hops_between_nodes_are_as_many_as_there_are_other_nodes() -> None:
    within, between = scaling.RING_HOP, scaling.RING_HOP_BETWEEN
    assert scaling.ring_latency_s(32) == pytest.approx(28 * within + 3 * between)
    assert scaling.tree_latency_s(32) == pytest.approx(2 * (7 * scaling.TREE_HOP + 2 * scaling.TREE_HOP_BETWEEN))


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.name)
def test_one_gpu_transfers_nothing_and_more_gpus_never_work_better(job: Job) -> None:
    assert scaling.ddp_s(job, 1) == scaling.fsdp_s(job, 1) == 0
    for transfers in scaling.ddp_s, scaling.fsdp_s, scaling.hsdp_s:
        even = [scaling.compute_s(job, job.windows_of(n) / n) for n in SIZES]
        reached = [
            best / (scaling.compute_s(job, job.share(n)) + transfers(job, n))
            for best, n in zip(even, SIZES, strict=True)
        ]
        assert all(0 < share < 1 for share in reached) and sorted(reached, reverse=True) == reached


def test_shares_that_are_uneven_cost_what_the_others_wait() -> None:
    job = Job("", JOBS[0].config, windows=480, at_once=16)
    assert (job.share(64), job.micro_batches(8), job.micro_batches(64)) == (8, 4, 1)
    assert scaling.efficiency(job, 64, 0.0) == "94 %" and scaling.efficiency(job, 32, 0.0) == "100 %"
