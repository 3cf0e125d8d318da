"""The optimizers of a run: AdamW for every weight, or Muon for the hidden matrices and AdamW for the rest.

torch's own classes load its compiler when the first one is made, most of a second of every start, and walk through
Python for each tensor at each step. These call the same fused kernels, and keep torch's layout of `state_dict`.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from mypt.checkpoint.tensors import torch_dtype
from mypt.model.network import Network
from mypt.schema.settings.training import TrainingConfig
from mypt.train.optim.muon import Muon
from mypt.train.optim.shared_muon import SharedMuon
from mypt.train.parallel.parts import is_shared_out, own

EPS = 1e-8


class AdamW:
    """AdamW (Loshchilov and Hutter 2019) for what this process holds of some tensors, on one device.

    Args:
        params: the tensors.
        betas: decay of the running means of the gradients and of their squares.
    """

    def __init__(self, params: Sequence[Tensor], betas: tuple[float, float]) -> None:
        self.sources = list(params)
        self.params = [own(p) for p in params]
        self.betas = betas

    @cached_property
    def steps(self) -> Tensor:
        """Steps taken."""
        return torch.zeros((), dtype=torch.float32, device=self.params[0].device)

    @cached_property
    def first(self) -> list[Tensor]:
        """Running means of the gradients."""
        return [torch.zeros_like(p, requires_grad=False) for p in self.params]

    @cached_property
    def second(self) -> list[Tensor]:
        """Running means of their squares."""
        return [torch.zeros_like(p, requires_grad=False) for p in self.params]

    @torch.no_grad()
    def step(self, lr: float, weight_decay: float, nonfinite: Tensor | None = None) -> None:
        """Move the tensors by their gradients, unless `nonfinite` is 1."""
        grads = [own(p.grad) for p in self.sources if p.grad is not None]
        self.steps += 1 if nonfinite is None else 1 - nonfinite
        torch._fused_adamw_(
            self.params, grads, self.first, self.second, [], [self.steps] * len(grads),
            lr=lr, beta1=self.betas[0], beta2=self.betas[1], weight_decay=weight_decay, eps=EPS,
            amsgrad=False, maximize=False, found_inf=nonfinite,
        )  # fmt: skip

    def state(self) -> list[dict[str, Tensor]]:
        """What a resume needs, for each tensor."""
        moments = zip(self.first, self.second, strict=True)
        return [{"step": self.steps, "exp_avg": m, "exp_avg_sq": v} for m, v in moments]


class Optimizer:
    """Moves the weights of a model group by group; it has the methods of `torch.optim.Optimizer` that training uses.

    Args:
        groups: each with its `rule`, `params`, `lr` and `weight_decay`.

    Attributes:
        param_groups: `params`, `lr` and `weight_decay` of each group; `lr` may change between steps.
    """

    def __init__(self, groups: Sequence[dict[str, Any]]) -> None:
        self.rules: list[AdamW | Muon] = [g["rule"] for g in groups]
        self.param_groups = [{k: v for k, v in g.items() if k != "rule"} for g in groups]

    def step(self, nonfinite: Tensor | None = None) -> None:
        """Move every weight by its gradient, or none.

        Args:
            nonfinite: 1 on the device where the step is to be left out, else 0; the host does not wait to know.
        """
        for rule, group in zip(self.rules, self.param_groups, strict=True):
            rule.step(group["lr"], group["weight_decay"], nonfinite)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients, whatever `set_to_none` says."""
        del set_to_none
        for group in self.param_groups:
            for p in group["params"]:
                p.grad = None

    def state_dict(self) -> dict[str, Any]:
        """Moments and settings, with numbers in place of the weights."""
        states = [state for rule in self.rules for state in rule.state()]
        groups, first = [], 0
        for group in self.param_groups:
            numbers = list(range(first, first + len(group["params"])))
            groups.append({**group, "params": numbers})
            first += len(numbers)
        return {"state": dict(enumerate(states)), "param_groups": groups}

    @torch.no_grad()
    def load_state_dict(self, content: dict[str, Any]) -> None:
        """Copy the moments of an optimizer of the same weights; the settings stay.

        Raises:
            ValueError: they are of other weights, or of another optimizer.
        """
        own = self.state_dict()["state"]
        if own.keys() != content["state"].keys():
            raise ValueError(f"it holds {len(content['state'])} states for {len(own)} weights")
        for number, tensors in own.items():
            found = content["state"][number]
            if {n: t.shape for n, t in found.items()} != {n: t.shape for n, t in tensors.items()}:
                raise ValueError(f"the state of weight {number} is {_shapes(found)} instead of {_shapes(tensors)}")
            for name, tensor in tensors.items():
                tensor.copy_(found[name])


def build_optimizer(model: Network, training: TrainingConfig) -> Optimizer:
    """The optimizer that the settings name. Matrices decay; norms and biases do not.

    With Muon, the matrices inside the blocks are its own; embeddings and the output layer are AdamW's.
    """
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    hidden = {n: p for n, p in trained.items() if n.startswith("blocks.") and p.dim() == 2}
    hidden = hidden if training.optimizer == "muon" else {}
    matrices = [p for n, p in trained.items() if n not in hidden and p.dim() >= 2]
    vectors = [p for p in trained.values() if p.dim() < 2]
    assert len(hidden) + len(matrices) + len(vectors) == len(trained)
    groups: list[dict[str, Any]] = []
    if hidden:
        pieces = [model.config.qkv_rows if n.endswith("attn.qkv.weight") else (p.size(0),) for n, p in hidden.items()]
        dtype = torch_dtype(training.muon_dtype) if training.muon_dtype else None
        rule = SharedMuon if is_shared_out(next(iter(hidden.values()))) else Muon
        groups.append({"rule": rule(list(hidden.values()), pieces, dtype), "params": list(hidden.values())})
    betas = (training.beta1, training.beta2)
    groups += [{"rule": AdamW(params, betas), "params": params} for params in (matrices, vectors) if params]
    for group in groups:
        decay = 0.0 if group["params"] is vectors else training.weight_decay
        group |= {"lr": training.learning_rate, "weight_decay": decay}
    return Optimizer(groups)


def _shapes(state: dict[str, Tensor]) -> str:
    return ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in state.items()) or "empty"
