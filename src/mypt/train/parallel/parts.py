"""Tensors of which each process holds some rows: a part of its own, and the whole."""

from typing import Any, cast

import torch
from torch import Tensor, nn

from mypt.checkpoint.manager import AnyOptimizer
from mypt.checkpoint.stored import moment_name


def own(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor, in the same memory; a tensor that is not shared out is its own."""
    if not is_shared_out(tensor):
        return tensor
    with torch.no_grad():
        return cast(Tensor, cast(Any, tensor).to_local())


def is_shared_out(tensor: Tensor) -> bool:
    """Whether a process holds no more than its rows of a tensor."""
    return hasattr(tensor, "to_local")


def is_sharded(model: nn.Module) -> bool:
    """Whether a process holds no more than its rows of the weights of a model; torch's own class loads all of FSDP."""
    return hasattr(model, "set_requires_gradient_sync")


def put_aside(model: nn.Module) -> None:
    """Let go of weights of others that are still here after passes without gradients."""
    for module in model.modules() if is_sharded(model) else ():
        if is_sharded(module):
            cast(Any, module).reshard()


def rows_of(count: int, rank: int, size: int) -> range:
    """The rows that a process holds of `count`: as torch cuts them, all but the last cut equally long."""
    each = -(-count // size)
    return range(min(rank * each, count), min((rank + 1) * each, count))


def cut(whole: Tensor, like: Tensor) -> Tensor:
    """What this process holds of a tensor that is shared out as another one is; a number is everywhere."""
    from torch.distributed.tensor import DTensor

    if not whole.dim() or not isinstance(like, DTensor):
        return whole
    mesh = like.device_mesh
    rows = rows_of(like.size(0), mesh.get_local_rank(mesh.ndim - 1), mesh.size(mesh.ndim - 1))
    return whole[rows.start : rows.stop]


def shared_like(like: Tensor, part: Tensor) -> Tensor:
    """A tensor that is shared out as another one is, of which this process has a part; a whole one is left as it is."""
    from torch.distributed.tensor import DTensor

    if not part.dim() or not isinstance(like, DTensor):
        return part
    mesh, placements = like.device_mesh, like.placements
    return DTensor.from_local(part, mesh, placements, run_check=False, shape=like.shape, stride=like.stride())


def put_together(part: Tensor, like: Tensor) -> Tensor:
    """A whole tensor from the parts of all processes, which have to do this together."""
    shared = shared_like(like, part)
    return cast(Tensor, cast(Any, shared).full_tensor()) if is_shared_out(shared) else part


def weights_of(optimizer: AnyOptimizer) -> list[Tensor]:
    """The weights of an optimizer in the order of their numbers."""
    return [p for group in optimizer.param_groups for p in group["params"]]


def moments_of(optimizer: AnyOptimizer) -> dict[str, Tensor]:
    """The moments of an optimizer by the names that they have in parts, shared out as their weights are."""
    state = optimizer.state_dict()["state"]
    return {
        moment_name(number, name): shared_like(p, moment)
        for number, p in enumerate(weights_of(optimizer))
        for name, moment in state[number].items()
    }
