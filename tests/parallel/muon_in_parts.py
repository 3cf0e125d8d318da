"""Muon on whole matrices beside Muon on parts of them, for torchrun: tells whether every bit is the same."""

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

from mypt.train.optim.muon import Muon
from mypt.train.optim.shared_muon import SharedMuon
from mypt.train.parallel.parts import own, put_together

MATRICES = {
    "even": ([(96, 32), (32, 32), (128, 32), (32, 128)], [(32, 32, 32), (32,), (128,), (32,)]),
    "odd": ([(63, 21), (21, 21), (85, 21), (21, 85), (3, 21)], [(21, 21, 21), (21,), (85,), (21,), (3,)]),
}
"""Shapes, and the rows of the matrices in each: the last of the odd ones has fewer rows than there are processes."""


def same(kind: str, dtype: torch.dtype) -> bool:
    """Whether weights and momentum are the same after 20 steps on the same gradients."""
    shapes, pieces = MATRICES[kind]
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    torch.manual_seed(0)
    whole = [torch.nn.Parameter(0.02 * torch.randn(shape)) for shape in shapes]
    parts = [torch.nn.Parameter(distribute_tensor(p.data.clone(), mesh, [Shard(0)])) for p in whole]
    one, many = Muon(whole, pieces, dtype), SharedMuon(parts, pieces, dtype)
    for _ in range(20):
        for p, part in zip(whole, parts, strict=True):
            p.grad = torch.randn(p.shape)
            part.grad = distribute_tensor(p.grad, mesh, [Shard(0)])
        one.step(0.01, 0.1)
        many.step(0.01, 0.1)
    with torch.no_grad():
        moved = [torch.equal(p, put_together(own(part), part)) for p, part in zip(whole, parts, strict=True)]
    means = zip(one.momentum, many.momentum, parts, strict=True)
    return all(moved) and all(torch.equal(m, put_together(held, part)) for m, held, part in means)


if __name__ == "__main__":
    dist.init_process_group("gloo")
    found = {f"{kind} {dtype}": same(kind, dtype) for kind in MATRICES for dtype in (torch.float32, torch.bfloat16)}
    dist.destroy_process_group()
    assert all(found.values()), found
