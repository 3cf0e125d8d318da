"""In which precision a session computes."""

from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import torch

from mypt.checkpoint.manager import AnyOptimizer
from mypt.checkpoint.tensors import torch_dtype
from mypt.schema.settings.training import TrainingConfig


def precision_in_effect(training: TrainingConfig, device: str) -> str:
    """`fp32`, `bf16` or `fp16`: what the settings ask for, where the device has it."""
    return training.amp_dtype if training.use_amp and has_hardware_for(device, training.amp_dtype) else "fp32"


@dataclass
class Precision:
    """How a session computes: plain fp32, or autocast with a loss scale where fp16 needs one.

    Attributes:
        device: where.
        enabled: whether autocast is in effect.
        dtype: what autocast computes in.
        scaler: keeps small fp16 gradients from vanishing; does nothing for other precisions.
    """

    device: str
    enabled: bool
    dtype: torch.dtype
    scaler: torch.amp.GradScaler = field(repr=False)

    @classmethod
    def of(cls, training: TrainingConfig, device: str) -> "Precision":
        """The precision that the settings ask for and the device has."""
        torch.backends.cuda.matmul.allow_tf32 = True  # what is left to fp32 on a GPU; without effect elsewhere
        enabled = bool(training.use_amp) and has_hardware_for(device, training.amp_dtype)
        dtype = torch_dtype(training.amp_dtype)
        kind = torch.device(device).type
        scale = enabled and dtype is torch.float16 and kind == "cuda"
        return cls(device, enabled, dtype, torch.amp.GradScaler(kind, enabled=scale))

    @property
    def name(self) -> str:
        """What matrix products are computed in; `tf32`, with the precision of fp16, where a GPU does so for fp32."""
        if self.enabled:
            return next(name for name in ("bf16", "fp16") if torch_dtype(name) is self.dtype)
        return (
            "tf32"
            if self.device.startswith("cuda") and torch.cuda.get_device_capability(self.device)[0] >= 8
            else "fp32"
        )

    def unscale(self, optimizer: AnyOptimizer) -> None:
        """Take the loss scale off the gradients."""
        self.scaler.unscale_(optimizer)  # type: ignore[arg-type]  # param_groups are all that it asks for

    def step(self, optimizer: AnyOptimizer) -> None:
        """Step the optimizer, unless the loss scale made a gradient overflow."""
        self.scaler.step(optimizer)  # type: ignore[arg-type]  # param_groups and step are all that it asks for
        self.scaler.update()

    def can_lower_scale(self) -> bool:
        """Whether a gradient may be finite with a lower loss scale; at 1 it is the gradient itself that overflows."""
        return self.scaler.is_enabled() and self.scaler.get_scale() > 1

    def autocast(self) -> AbstractContextManager[object]:
        """A context in which matrix products use the chosen precision."""
        return torch.autocast(torch.device(self.device).type, dtype=self.dtype, enabled=self.enabled)


def has_hardware_for(device: str, amp_dtype: str) -> bool:
    """Whether a device computes in a half precision in hardware; emulated, it is far slower than fp32."""
    kind = torch.device(device).type
    if kind == "cuda":
        return amp_dtype == "fp16" or torch.cuda.is_bf16_supported(including_emulation=False)
    return kind == "cpu" and amp_dtype == "bf16" and _cpu_has_bf16()


def _cpu_has_bf16() -> bool:
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))
