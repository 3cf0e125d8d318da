"""What a step would cost on up to 10,000 H100s, on paper: the table of docs/scale.md, from formulas alone.

Nothing here was measured. A GPU computes at a share of its peak; a collective takes its bytes over the bandwidth, and
a hop's latency for each GPU that it passes. The last line sets the formulas beside what others have measured.

python benchmarks/scaling.py
"""

from dataclasses import dataclass
from math import ceil, log2

from mypt import GPTConfig
from mypt.model.cost import flops_per_token, parameter_count
from mypt.train.throughput import PEAK_TFLOPS

PEAK = 1e12 * PEAK_TFLOPS["H100"]
MFU = 0.4
NODE = 8
"""GPUs in a node, which NVLink connects."""
BUS, LINK = 360e9, 45e9
"""Bytes a second: of rings through all GPUs of a node, which use all eight links to others too; of one link."""
RING_HOP, RING_HOP_BETWEEN = 1.9e-6, 4.0e-6
TREE_HOP, TREE_HOP_BETWEEN = 1.2e-6, 8.5e-6
"""Seconds from GPU to GPU in a node and between nodes, by which NCCL chooses (LL128, its src/graph/tuning.cc)."""
MEMORY = 80e9
FP32, BF16 = 4, 2
STATE = 5 * FP32
"""Bytes of a parameter with its gradient, AdamW's two moments, and the gradient once more in the row that is sent."""


@dataclass(frozen=True)
class Job:
    """A model and the step that it is trained by.

    Attributes:
        windows: of a step, whatever the number of GPUs is; more only where there are more GPUs than that.
        at_once: windows that a GPU takes at once, a micro-batch; less where its share is smaller.
        gathered: bytes of a parameter as FSDP2 gathers it: its weights as they are kept, for autocast to round.
    """

    name: str
    config: GPTConfig
    windows: int
    at_once: int
    gathered: int = FP32

    @property
    def gradient(self) -> int:
        """Bytes of all gradients."""
        return FP32 * parameter_count(self.config)

    @property
    def units(self) -> int:
        """What FSDP2 gathers one after another: the layers, and what is outside of them."""
        return self.config.n_layer + 1

    def windows_of(self, n: int) -> int:
        """Windows of a step on n GPUs."""
        return max(self.windows, n)

    def share(self, n: int) -> int:
        """Windows of the GPU that has most."""
        return ceil(self.windows_of(n) / n)

    def micro_batches(self, n: int) -> int:
        """Micro-batches of that GPU."""
        return ceil(self.share(n) / self.at_once)


LLAMA = {"pos_encoding": "rope", "mlp_type": "swiglu", "norm_type": "rmsnorm"}
JOBS = (
    Job("124M", GPTConfig(n_layer=12, n_head=12, n_embd=768, block_size=1024, vocab_size=50304, tie_weights=True),
        480, 16),
    Job("750M", GPTConfig(n_layer=32, n_head=20, n_embd=1280, block_size=1024, vocab_size=50304, tie_weights=True,
                          **LLAMA), 1024, 12),
    Job("7B", GPTConfig(n_layer=32, n_head=32, n_embd=4096, block_size=4096, vocab_size=32000, tie_weights=False,
                        **LLAMA), 1024, 2),
)  # fmt: skip
SIZES = (8, 64, 1024, 10_000)
LLAMA_8B = GPTConfig(n_layer=32, n_head=32, n_kv_head=8, n_embd=4096, mlp_hidden=14336, block_size=8192,
                     vocab_size=128256, tie_weights=False, **LLAMA)  # fmt: skip
TORCHTITAN = {8: 6667, 128: 6514}
"""Tokens a second and GPU of Llama 3.1 8B, FSDP2 and compiled, two windows a GPU, weights gathered in bf16:
benchmarks/llama3_h100_202412_torchtitan.md of its repository, tables 1 and 3."""


def main() -> None:
    print(table())
    print(cross_check())


def compute_s(job: Job, windows: float) -> float:
    """Seconds that a GPU computes on so many windows."""
    return windows * job.config.block_size * flops_per_token(job.config) / (PEAK * MFU)


def pass_s(size: float, n: int, bandwidth: float = BUS) -> float:
    """Seconds that `size` bytes take once around a ring of n GPUs: an all-gather, or a reduce-scatter."""
    return size * (n - 1) / n / bandwidth


def ring_latency_s(n: int) -> float:
    """Seconds until the first byte is around a ring of n GPUs: a hop for each other GPU, some of them between nodes."""
    between = ceil(n / NODE) - 1
    return (n - 1 - between) * RING_HOP + between * RING_HOP_BETWEEN


def tree_latency_s(n: int, in_node: int = NODE) -> float:
    """Seconds up a tree of nodes, each a chain of GPUs, and down again."""
    in_node = min(n, in_node)
    return 2 * ((in_node - 1) * TREE_HOP + log2(n / in_node) * TREE_HOP_BETWEEN)


def ddp_s(job: Job, n: int) -> float:
    """Data parallel: one all-reduce of all gradients a step."""
    return 2 * pass_s(job.gradient, n) + tree_latency_s(n)


def gathers_s(job: Job, n: int, among: int) -> float:
    """For each micro-batch of n GPUs, the weights of each unit are gathered twice from the parts of some of them."""
    weights = job.gathered * parameter_count(job.config)
    return job.micro_batches(n) * (pass_s(2 * weights, among) + 2 * job.units * ring_latency_s(among))


def scatter_s(job: Job, among: int) -> float:
    """Once a step the gradients of each unit are added up, and each GPU is left its part."""
    return pass_s(job.gradient, among) + job.units * ring_latency_s(among)


def fsdp_s(job: Job, n: int) -> float:
    """FSDP2: the gathers and the reduce-scatter of all GPUs."""
    return gathers_s(job, n, n) + scatter_s(job, n)


def hsdp_s(job: Job, n: int) -> float:
    """HSDP: those of a node, and an all-reduce of each part of the gradients with the same part of other nodes."""
    nodes = n // NODE
    between = 2 * pass_s(job.gradient / NODE, nodes, LINK) + tree_latency_s(nodes, in_node=1)
    return gathers_s(job, n, NODE) + scatter_s(job, NODE) + between


def table() -> str:
    """Efficiencies: the time of the work shared out evenly over that of a step, in Markdown."""
    head = ["model", "GPUs", "tokens a step", "compute, ms", "DDP", "FSDP2", "HSDP"]
    rows = [head, ["---", *["---:"] * (len(head) - 1)], *(row(job, n) for job in JOBS for n in SIZES)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def row(job: Job, n: int) -> list[str]:
    """One line of the table."""
    fits = STATE * parameter_count(job.config) < MEMORY
    cells = [f"{n:,}", f"{1e-6 * job.windows_of(n) * job.config.block_size:.2f}M"]
    cells.append(f"{1e3 * compute_s(job, job.share(n)):,.0f}")
    cells.append(efficiency(job, n, ddp_s(job, n)) if fits else "does not fit")
    return [job.name, *cells, efficiency(job, n, fsdp_s(job, n)), efficiency(job, n, hsdp_s(job, n))]


def efficiency(job: Job, n: int, transfer_s: float) -> str:
    """From nothing of the transfers hidden behind computing to as much as can be."""
    even, busiest = compute_s(job, job.windows_of(n) / n), compute_s(job, job.share(n))
    least, most = even / (busiest + transfer_s), even / max(busiest, transfer_s)
    low, high = round(100 * least), round(100 * most)
    return f"{low} %" if low == high else f"{low} to {high} %"


def cross_check() -> str:
    """How much slower a GPU is among 128 than among 8, by these formulas and as it was measured."""
    times = {n: fsdp_step_s(Job("8B", LLAMA_8B, 2 * n, 2, gathered=BF16), n) for n in TORCHTITAN}
    few, many = TORCHTITAN
    reckoned, measured = times[few] / times[many], TORCHTITAN[many] / TORCHTITAN[few]
    return (
        f"of {many} GPUs each does {100 * reckoned:.1f} % of what each of {few} does; torchtitan's figures give "
        f"{100 * measured:.1f} %"
    )


def fsdp_step_s(job: Job, n: int) -> float:
    return compute_s(job, job.share(n)) + fsdp_s(job, n)


if __name__ == "__main__":
    main()
