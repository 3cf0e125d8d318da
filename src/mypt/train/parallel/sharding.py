"""Weights in parts: torch's FSDP2 on rows of processes, each of which has all of the weights between them."""

from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

from mypt.model.network import Network
from mypt.train.parallel.group import Group
from mypt.train.parallel.parts import cut, own


def rows_of_processes(group: Group, device: str, shard_size: int, timeout_s: float) -> DeviceMesh:
    """The processes in rows of `shard_size`, each of which has all of the weights; one row if that is all of them.

    Args:
        group: the processes.
        device: `cpu` or `cuda`.
        shard_size: divides their number.
        timeout_s: how long those of a row wait for each other.
    """
    if shard_size == group.size:
        world = dist.group.WORLD
        assert world is not None
        return DeviceMesh.from_group(world, device, mesh_dim_names=("shard",))
    ranks = torch.arange(group.size).view(-1, shard_size)
    own = {}
    with group.together():
        for axis, members in [*((1, row) for row in ranks.tolist()), *((0, column) for column in ranks.T.tolist())]:
            made = dist.new_group(members, timeout=timedelta(seconds=timeout_s))
            if group.rank in members:
                own[axis] = made
    return DeviceMesh.from_group([own[0], own[1]], device, mesh=ranks, mesh_dim_names=("replicate", "shard"))


def shard(model: Network, mesh: DeviceMesh) -> None:
    """Let each process have room for its part of the weights alone; from now on all go through the model together.

    A block has its weights whole from when it is entered until it is left, in either direction; embeddings, the last
    norm and the output layer as long as a pass goes on. Gradients are summed, since losses are divided before.
    """
    for block in model.blocks:
        _in_parts(block, mesh)
    _in_parts(model, mesh)
    for method in ("loss", "token_losses"):
        register_fsdp_forward_method(model, method)


def give_parts(whole: dict[str, Tensor], model: Network, group: Group) -> None:
    """Give each process its parts of the weights that the first has in `whole`, one weight after the other."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            sent = torch.empty(weight.shape, dtype=weight.dtype, device=weight.device)
            if group.leads:
                sent.copy_(whole.pop(name))
            dist.broadcast(sent, 0)
            own(weight).copy_(cut(sent, weight))


def _in_parts(module: nn.Module, mesh: DeviceMesh) -> None:
    sharded: FSDPModule = fully_shard(module, mesh=mesh)
    sharded.set_gradient_divide_factor(1.0)
    sharded.set_force_sum_reduction_for_comms(True)  # gloo has no other
