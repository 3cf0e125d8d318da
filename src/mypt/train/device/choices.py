"""What a session decides by measuring its own matrix products: half precision, and the precision of Muon."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import ceil

import torch
from torch import Tensor

from mypt.checkpoint.tensors import torch_dtype
from mypt.model.blocks import Block
from mypt.model.cost import parameter_count, rows_at_once
from mypt.model.losses import next_token_loss
from mypt.model.network import Network
from mypt.model.positions import RotaryEmbedding
from mypt.schema.settings.training import TrainingConfig
from mypt.train.device.devices import reserve_workspace
from mypt.train.device.precision import has_hardware_for
from mypt.train.optim.muon import orthogonalized
from mypt.train.optim.optimizer import AdamW

GAIN = 1.1
"""Half precision has to make the whole step this many times as fast before it is chosen."""
BUDGET_S = 0.15
ROUNDS = 24
HEAD_TOKENS = 256
"""Enough that the product with the output layer runs at its full speed, and few enough to take a blink."""
ASKED = "as it was set"


@dataclass(frozen=True)
class Choice:
    """A decision and its reason."""

    on: bool
    reason: str


def settle_choices(
    model: Network, training: TrainingConfig, asked: Iterable[str], *, resumed: bool = False
) -> TrainingConfig:
    """The settings with everything decided that is left to a measurement; what is recorded or asked for stays.

    Args:
        model: one of its config, which may be elsewhere than on the device that this names.
        training: the settings; None marks what is to be measured.
        asked: names of the settings that this call gives.
        resumed: on a resume, Muon keeps its precision, even if the record does not name it.
    """
    update: dict[str, object] = {}
    if training.deterministic is not False:
        reserve_workspace(model.config.device)
    if training.use_amp is None:
        amp = choose_amp(model, training)
        update |= {"use_amp": amp.on, "amp_reason": amp.reason}
    elif "use_amp" in asked:
        update["amp_reason"] = ASKED
    if training.deterministic is not None and "deterministic" in asked:
        update["deterministic_reason"] = ASKED
    if training.optimizer == "muon" and training.muon_dtype is None and not resumed:
        update["muon_dtype"] = "bf16" if muon_gains(model) else "fp32"
    return training.model_copy(update=update)


def without_hardware(training: TrainingConfig, device: str) -> str | None:
    """A sentence where half precision is asked for or recorded and the device has none in hardware."""
    if not training.use_amp or has_hardware_for(device, training.amp_dtype):
        return None
    return f"{device} has no hardware for {training.amp_dtype}, so this computes in fp32 although use_amp is set."


def kept_elsewhere(training: TrainingConfig, changed: Iterable[str], asked: Iterable[str]) -> str | None:
    """A sentence where a measurement of another machine stays in force.

    Args:
        training: the settings in force.
        changed: names of the recorded circumstances that differ now.
        asked: names of the settings that this call gives.
    """
    measured = training.amp_reason is not None and training.amp_reason != ASKED
    if not measured or "use_amp" in asked or not {"processor", "device"} & {*changed}:
        return None
    chosen = "on" if training.use_amp else "off"
    return (
        f"Half precision stays {chosen}, as the run decided where it began ({training.amp_reason}); "
        "--use-amp or --no-use-amp changes it."
    )


def choose_amp(model: Network, training: TrainingConfig) -> Choice:
    """Whether half precision makes a step of this model at least `GAIN` times as fast on its device.

    One layer and the output layer are taken forward and backward in both precisions, in turn, at the sizes that
    training uses. Their times and that of the update, which is in fp32 either way, add up to the step.
    """
    device, name = torch.device(model.config.device), training.amp_dtype
    if not has_hardware_for(str(device), name):
        return Choice(False, f"{device} has no hardware for {name}")
    trial = _Trial(model, training)
    half = torch_dtype(name)
    layers = fastest({"fp32": lambda: trial.layer(None), name: lambda: trial.layer(half)}, device)
    heads = fastest({"fp32": lambda: trial.head(None), name: lambda: trial.head(half)}, device)
    update_s = fastest({"update": trial.update}, device)["update"] * trial.updates
    step_s = {d: trial.layers * layers[d] + trial.heads * heads[d] + update_s for d in ("fp32", name)}
    gain = step_s["fp32"] / step_s[name]
    figures = f"{1e3 * step_s['fp32']:,.1f} ms in fp32, {1e3 * step_s[name]:,.1f} in {name}"
    return Choice(gain >= GAIN, f"measured: the products of a step take {figures}")


def muon_gains(model: Network) -> bool:
    """Whether bf16 makes the matrices of Muon orthogonal faster than fp32 does."""
    device = torch.device(model.config.device)
    if not has_hardware_for(str(device), "bf16"):
        return False
    C, widest = model.config.n_embd, max(max(p.shape) for p in model.blocks[0].parameters() if p.dim() == 2)
    matrices = torch.randn(2, C, min(widest, 4 * C), device=device)
    low = matrices.bfloat16()
    seconds = fastest({"fp32": lambda: orthogonalized(matrices), "bf16": lambda: orthogonalized(low)}, device)
    return seconds["fp32"] >= GAIN * seconds["bf16"]


def fastest(works: Mapping[str, Callable[[], object]], device: torch.device) -> dict[str, float]:
    """The shortest time of each work in seconds, taken in turn, so that a busy machine slows all of them alike."""
    best = dict.fromkeys(works, float("inf"))
    began = time.perf_counter()
    for number in range(ROUNDS):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if number:  # the first round warms up
                best[name] = min(best[name], time.perf_counter() - start)
        if number and time.perf_counter() - began > BUDGET_S:
            break
    return best


class _Trial:
    """One layer and the output layer of a model, beside the model itself, with inputs of the sizes of training.

    Attributes:
        layers: how many times a step goes through a layer like this one.
        heads: how many times it goes through an output layer over `HEAD_TOKENS` tokens.
        updates: how many times the weights of this layer it moves.
    """

    def __init__(self, model: Network, training: TrainingConfig) -> None:
        config, device = model.config, torch.device(model.config.device)
        rows, T, C = rows_at_once(config, training), config.block_size, config.n_embd
        parts = ceil(config.batch_size / rows) * training.grad_accum_steps
        tokens = min(rows * T, HEAD_TOKENS)
        self.block = Block(config).to(device).train()
        self.rope = RotaryEmbedding(config).to(device) if config.pos_encoding == "rope" else None
        self.x = torch.randn(rows, T, C, device=device, requires_grad=True)
        self.hidden = torch.randn(1, tokens, C, device=device, requires_grad=True)
        self.weight = model.lm_head.weight.detach().to(device).requires_grad_()
        self.targets = torch.randint(0, config.vocab_size, (1, tokens), device=device)
        self.optimizer = AdamW(list(self.block.parameters()), (training.beta1, training.beta2))
        self.layers = parts * config.n_layer
        self.heads = parts * rows * T / tokens
        self.updates = parameter_count(config) / sum(p.numel() for p in self.block.parameters())

    def layer(self, half: torch.dtype | None) -> None:
        """Forward and backward through the layer; `half` is what autocast computes in."""
        self._backward(half, lambda: self.block(self.x, 0, self.rope).float().sum())

    def head(self, half: torch.dtype | None) -> None:
        """Forward and backward through the output layer and the loss."""
        self._backward(half, lambda: next_token_loss(self.hidden, self.weight, self.targets))

    def update(self) -> None:
        """Move the weights of the layer nowhere, as AdamW would."""
        self.optimizer.step(0.0, 0.0)

    def _backward(self, half: torch.dtype | None, loss: Callable[[], Tensor]) -> None:
        with torch.autocast(self.x.device.type, dtype=half, enabled=half is not None):
            value = loss()
        torch.autograd.backward(value)
