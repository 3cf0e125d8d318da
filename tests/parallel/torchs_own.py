"""torch's own state dictionaries and distributed checkpoint on mypt's network in parts, for torchrun: SAVE or LOAD.

SAVE trains a step and writes beside training (`async_save`) into the working folder; LOAD, in any number of processes,
reads it into another network and optimizer and tells whether they are those of SAVE, whose whole tensors are there too.
"""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import async_save
from torch.distributed.device_mesh import init_device_mesh

from mypt.model.network import Network
from mypt.schema.settings.config import GPTConfig
from mypt.train.parallel.sharding import shard

CONFIG = GPTConfig(vocab_size=31, block_size=8, n_layer=2, n_head=2, n_embd=12, batch_size=2, dropout=0.0)
SAVE = "save"


def in_parts(seed: int) -> tuple[Network, torch.optim.AdamW]:
    """A network in as many parts as there are processes, and torch's optimizer for it after a step."""
    model = Network(CONFIG, seed)
    shard(model, init_device_mesh("cpu", (dist.get_world_size(),), mesh_dim_names=("shard",)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    tokens = torch.arange(16).view(2, 8)
    torch.autograd.backward(model.loss(tokens, tokens + 1) / 16)
    optimizer.step()
    return model, optimizer


def main(verb: str) -> None:
    dist.init_process_group("gloo")
    model, optimizer = in_parts(seed=1 if verb == SAVE else 2)
    weights, moments = get_state_dict(model, optimizer)
    content = {"model": weights, "optimizer": moments}
    if verb == SAVE:
        async_save(content, checkpoint_id="saved").result()  # type: ignore[union-attr]
    else:
        load(content, checkpoint_id="saved")
        set_state_dict(model, optimizer, model_state_dict=weights, optim_state_dict=moments)
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    weights, moments = get_state_dict(model, optimizer, options=options)
    whole = [weights, moments.get("state")]
    if dist.get_rank() == 0 and verb == SAVE:
        torch.save(whole, "whole.pt")
    elif dist.get_rank() == 0:
        torch.testing.assert_close(whole, torch.load("whole.pt"), rtol=0, atol=0)
        Path("same").touch()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1])
