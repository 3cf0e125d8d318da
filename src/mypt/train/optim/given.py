"""An optimizer that the caller of `GPT.fit` brought: recorded, and built again from the record."""

import inspect
import math
from collections.abc import Mapping
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from mypt.errors import BundleError, ConfigError
from mypt.model.network import Network
from mypt.schema.base import to_json_text
from mypt.schema.files.optimizer import GroupRecord, OptimizerRecord

NEEDS_MORE = (torch.optim.LBFGS, torch.optim.SparseAdam)
"""Need a closure, or sparse gradients, which training here has not."""
_NO_HYPERPARAMETERS = ("params", "param_names")


def peak_rate(optimizer: torch.optim.Optimizer) -> float:
    """The largest learning rate of the groups of an optimizer, which has to be one that training can use.

    Raises:
        ConfigError: it needs what a step of training has not, or gives its groups no learning rate.
    """
    name, todo = type(optimizer).__name__, "Bring another optimizer, or none, for the one that the settings name."
    if not hasattr(optimizer, "param_groups"):
        raise ConfigError(f"The optimizer is a {name}.", todo)
    if isinstance(optimizer, NEEDS_MORE):
        raise ConfigError(f"{name} needs a closure or sparse gradients, and fit has neither.", todo)
    rates = [float(group.get("lr", math.nan)) for group in optimizer.param_groups]
    if not all(rate >= 0 for rate in rates) or not any(rate > 0 for rate in rates):
        raise ConfigError(
            f"The groups of {name} have the learning rates {', '.join(map(str, rates))}.",
            "Give each group an lr, and one at least an lr above 0.",
        )
    return max(rates)


def record_optimizer(optimizer: torch.optim.Optimizer, model: Network) -> OptimizerRecord:
    """What it takes to build an optimizer of this model's weights again.

    Raises:
        ConfigError: it could not be built again as it is.
    """
    if reason := _hindrance(optimizer, model):
        raise ConfigError(
            f"The optimizer cannot be recorded: {reason}, so a resume could not go on with it.",
            "Bring an optimizer of torch.optim for weights of this model, with plain numbers, or leave checkpoint out.",
        )
    return _record(optimizer, model)


def build_given(model: Network, record: OptimizerRecord) -> torch.optim.Optimizer:
    """The recorded optimizer, without moments.

    Raises:
        BundleError: this version of torch, or this device, cannot build it.
    """
    try:
        return _build(model, record)
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise BundleError(
            f"The recorded optimizer torch.optim.{record.kind} cannot be built here: {error}.",
            "Use the device and the version of torch that the record names.",
        ) from error


def is_new(optimizer: torch.optim.Optimizer, model: Network, record: OptimizerRecord) -> bool:
    """Whether an optimizer is as its record builds it, and has taken no step."""
    return _same(optimizer.state_dict()["state"], _build(model, record).state_dict()["state"])


def misfits(optimizer: torch.optim.Optimizer) -> list[str]:
    """One message for each state that is missing or is not of the shape of its weight.

    A moment has the shape of its weight, or 1 in place of a size.
    """
    problems = []
    for number, group in enumerate(optimizer.param_groups):
        states = [(p, optimizer.state.get(p, {})) for p in group["params"]]
        problems += [
            f"{key} of a weight of {tuple(p.shape)} is {tuple(value.shape)}"
            for p, state in states
            for key, value in state.items()
            if isinstance(value, Tensor) and value.numel() > 1 and not _spans(value, p)
        ]
        layouts = {(p.dim(), tuple(sorted(state))) for p, state in states if p.requires_grad}
        if len(layouts) > len({(dim, bool(keys)) for dim, keys in layouts}) or len({bool(k) for _, k in layouts}) > 1:
            problems.append(f"weights of group {number} that are alike have different states")
    return problems


def _spans(moment: Tensor, weight: Tensor) -> bool:
    sizes = zip(moment.shape, weight.shape, strict=False)
    return moment.dim() == weight.dim() and all(size in (1, whole) for size, whole in sizes)


def _hindrance(optimizer: torch.optim.Optimizer, model: Network) -> str | None:
    """Why an optimizer could not be built again from a record; None if it can."""
    cls = type(optimizer)
    if getattr(torch.optim, cls.__name__, None) is not cls:
        return f"{cls.__module__}.{cls.__qualname__} is no optimizer of torch.optim"
    weights = {id(p) for p in model.parameters()}
    foreign = sum(id(p) not in weights for group in optimizer.param_groups for p in group["params"])
    if foreign:
        return f"{foreign} of its weights are not of this model"
    if _is_hooked(optimizer):
        return "hooks or another step were added to it"
    for group in [*optimizer.param_groups, optimizer.defaults]:
        for name, value in group.items():
            if name not in _NO_HYPERPARAMETERS and not _is_plain(float(value) if _is_rate(name, value) else value):
                return f"its {name} is {value!r} of type {type(value).__name__}"
    try:
        again = _build(model, OptimizerRecord.model_validate_json(to_json_text(_record(optimizer, model))))
    except (TypeError, ValueError, RuntimeError, ValidationError) as error:
        return f"it cannot be built again ({error})"
    was, now = (list(map(_plain, o.param_groups)) for o in (optimizer, again))
    return None if was == now else "it has settings that torch does not take again"


def _is_hooked(optimizer: torch.optim.Optimizer) -> bool:
    """Whether a step does more than its class says; a learning-rate scheduler only counts the steps."""
    hooks = [v for n, v in vars(optimizer).items() if n.startswith("_optimizer_") and n.endswith("_hooks")]
    replaced = "step" in vars(optimizer) and not hasattr(optimizer.step, "_wrapped_by_lr_sched")
    return replaced or any(hooks)


def _is_plain(value: object) -> bool:
    """Whether JSON and a .pt file without code hold a value as it is, which they do not for numbers of numpy."""
    if isinstance(value, tuple | list):
        return all(_is_plain(v) and not isinstance(v, str | tuple | list) for v in value)
    return value is None or (type(value) in (bool, int, str) or (type(value) is float and math.isfinite(value)))


def _is_rate(name: str, value: object) -> bool:
    """Whether a value is a learning rate, for which training puts a plain number at each step."""
    return name == "lr" and isinstance(value, float)


def _plain(group: Mapping[str, Any]) -> dict[str, Any]:
    """Hyperparameters by name, as a record holds them."""
    kept = {n: float(v) if _is_rate(n, v) else v for n, v in group.items() if n not in _NO_HYPERPARAMETERS}
    return {n: tuple(v) if isinstance(v, list) else v for n, v in kept.items()}


def _record(optimizer: torch.optim.Optimizer, model: Network) -> OptimizerRecord:
    names = {id(p): name for name, p in model.named_parameters()}
    groups = tuple(
        GroupRecord(parameters=tuple(names[id(p)] for p in group["params"]), hyperparameters=_plain(group))
        for group in optimizer.param_groups
    )
    return OptimizerRecord(kind=type(optimizer).__name__, defaults=_plain(optimizer.defaults), groups=groups)


def _build(model: Network, record: OptimizerRecord) -> torch.optim.Optimizer:
    cls: type[torch.optim.Optimizer] = getattr(torch.optim, record.kind)
    weights = dict(model.named_parameters())
    groups = [{**g.hyperparameters, "params": [weights[n] for n in g.parameters]} for g in record.groups]
    takes = inspect.signature(cls).parameters
    defaults: dict[str, Any] = {n: v for n, v in record.defaults.items() if n in takes}
    return cls(groups, **defaults)


def _same(a: object, b: object) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(a[k], b[k]) for k in a)
    return type(a) is type(b) and a == b
