"""Whether the constants that training is built on are the fastest on this CPU: each beside its alternatives, in turn.

They are not measured when a run starts, because they change the bits of a run and differ little from CPU to CPU. What
differs much (half precision, Muon's) is measured by the run itself: mypt/train/device/choices.py.

python benchmarks/constants.py
ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16 python benchmarks/constants.py    # the same CPU without its matrix units
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from peers import machine

from mypt import GPTConfig
from mypt.model import losses
from mypt.model.blocks import Block
from mypt.model.dropout import dropout
from mypt.model.gelu import gelu
from mypt.train.device.devices import keep_freed_memory, processor

SHAPES = {
    "tiny": GPTConfig(n_embd=128, n_head=4, n_layer=2, block_size=64, batch_size=16, dropout=0.0, vocab_size=65),
    "default": GPTConfig(device="cpu"),
}
BUDGET_S = 3.0


def main() -> None:
    keep_freed_memory()
    print(f"{processor()}, {machine()}; the shortest of several, in turn; * is what mypt does")
    for name, config in SHAPES.items():
        print(f"{name}: {config.n_embd} wide, block {config.block_size}, batch {config.batch_size}")
        tokens = min(1024, config.batch_size * config.block_size)
        x = torch.randn(tokens, 4 * config.n_embd, requires_grad=True)
        show("GELU of a part", {"own*": lambda x=x: gelu(x), "torch's": lambda x=x: F.gelu(x, approximate="tanh")})
        show("dropout 0.2 of a part", {"own*": lambda x=x: dropout(x, 0.2), "torch's": lambda x=x: F.dropout(x, 0.2)})
        show("a layer, all windows of a batch, by windows at once", rows_of(config))
    config = SHAPES["default"]
    hidden = torch.randn(1, 2048, config.n_embd, requires_grad=True)
    weight = (0.02 * torch.randn(config.vocab_size, config.n_embd)).requires_grad_()
    targets = torch.randint(0, config.vocab_size, (1, 2048))
    show("loss of 2048 tokens, by tokens in a chunk", {f"{n}{'*' * (n == 512)}": chunk(n, hidden, weight, targets)
                                                       for n in (256, 512, 1024, 2048)})  # fmt: skip


def rows_of(config: GPTConfig) -> dict[str, Callable[[], torch.Tensor]]:
    """A layer over a whole batch, taken in parts of some windows."""
    block = Block(config).train()
    x = torch.randn(config.batch_size, config.block_size, config.n_embd)
    own = 1024 // config.block_size

    def work(rows: int) -> Callable[[], torch.Tensor]:
        def parts() -> torch.Tensor:
            for part in x.split(rows):
                torch.autograd.backward(block(part.clone().requires_grad_()).sum())
            return torch.zeros((), requires_grad=True)

        return parts

    wanted = sorted({1, own // 2, own, 2 * own, config.batch_size} & set(range(1, config.batch_size + 1)))
    return {f"{rows}{'*' * (rows == own)}": work(rows) for rows in wanted}


def chunk(tokens: int, *inputs: Any) -> Callable[[], torch.Tensor]:
    def work() -> torch.Tensor:
        losses.loss_chunk = lambda _: tokens
        return losses.next_token_loss(*inputs)

    return work


def show(what: str, works: Mapping[str, Callable[[], torch.Tensor]]) -> None:
    """Forward and backward of each alternative, in milliseconds."""
    best = dict.fromkeys(works, float("inf"))
    began = time.perf_counter()
    while time.perf_counter() - began < BUDGET_S:
        for name, work in works.items():
            start = time.perf_counter()
            torch.autograd.backward(work().sum())
            best[name] = min(best[name], time.perf_counter() - start)
    print(f"  {what:55} " + "  ".join(f"{name} {1e3 * seconds:.2f} ms" for name, seconds in best.items()))


if __name__ == "__main__":
    main()
