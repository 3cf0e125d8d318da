"""Between a bundle, which is whole, and processes that each have a part of the weights and of the optimizer's state."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from mypt.checkpoint.manager import AnyOptimizer, Content
from mypt.checkpoint.tensors import torch_dtype
from mypt.schema.files.state import TrainingState
from mypt.train.optim.optimizer import Optimizer
from mypt.train.parallel.disk import read_own
from mypt.train.parallel.group import Group
from mypt.train.parallel.parts import cut, own, put_together, weights_of
from mypt.train.step import Stepper


def gathered(stepper: Stepper, state: TrainingState) -> Content | None:
    """The content of a bundle, put together tensor by tensor in the memory of the first process; None on the others."""
    model, optimizer, dtype = stepper.model, stepper.optimizer, torch_dtype(state.model_dtype)
    weights: dict[str, Tensor] = {}
    held = optimizer.state_dict()
    with stepper.group.passing():
        for name, weight in model.state_dict().items():
            if not (model.config.tie_weights and name == "lm_head.weight"):
                _keep(weights, name, put_together(own(weight), weight), stepper.group, dtype)
        for number, p in enumerate(weights_of(optimizer)):
            moments: dict[str, Tensor] = {}
            for name, moment in held["state"][number].items():
                _keep(moments, name, put_together(moment, p), stepper.group, moment.dtype)
            held["state"][number] = moments
    if not stepper.group.leads:
        return None
    if model.config.tie_weights:
        weights["lm_head.weight"] = weights["token_embedding.weight"]
    saved = {"optimizer": held, "scaler": stepper.precision.scaler.state_dict()}
    return Content(model.config, stepper.data.primary.tokenizer.file, state, weights, saved)


def _keep(kept: dict[str, Tensor], name: str, whole: Tensor, group: Group, dtype: torch.dtype) -> None:
    if group.leads:
        kept[name] = whole.detach().to("cpu", dtype, copy=True)


class Whole(Optimizer):
    """Takes the state of an optimizer as it was saved, in place of one that has a part of it.

    Args:
        optimizer: in parts, whose state it is to be.
    """

    def __init__(self, optimizer: AnyOptimizer) -> None:
        super().__init__([])
        self.state: dict[int, dict[str, Tensor]] = {}
        own_state = optimizer.state_dict()["state"]
        self._shapes = [
            {name: tuple(p.shape if moment.dim() else ()) for name, moment in own_state[number].items()}
            for number, p in enumerate(weights_of(optimizer))
        ]

    def load_state_dict(self, content: dict[str, Any]) -> None:
        """Keep the moments.

        Raises:
            ValueError: they are of other weights, or of another optimizer.
        """
        found = [{name: tuple(m.shape) for name, m in moments.items()} for moments in content["state"].values()]
        if found != self._shapes:
            raise ValueError("its moments are not of the shapes of the weights")
        self.state = content["state"]


def restore_parts(stepper: Stepper) -> None:
    """Give each process its part of what an earlier session left.

    Where that lies in parts and on a disk that all see, each reads its own; else the first reads all of it.

    Raises:
        BundleError: it cannot be read, or does not fit.
    """
    group, earlier = stepper.group, stepper.earlier
    stepper.earlier = None
    if not group.first(lambda: earlier is not None):
        return
    if read_own(stepper.optimizer, group, None if earlier is None else earlier.bundle):
        return
    whole = Whole(stepper.optimizer)
    group.first(lambda: None if earlier is None else earlier.give(whole))
    _scatter(whole, stepper.optimizer, group)


def _scatter(whole: Whole, optimizer: AnyOptimizer, group: Group) -> None:
    own_state = optimizer.state_dict()["state"]
    with torch.no_grad(), group.together():
        for number, p in enumerate(weights_of(optimizer)):
            for name, part in own_state[number].items():
                sent = torch.empty(p.shape if part.dim() else (), dtype=part.dtype, device=part.device)
                if group.leads:
                    sent.copy_(whole.state[number][name])
                dist.broadcast(sent, 0)
                part.copy_(cut(sent, p))
