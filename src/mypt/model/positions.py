"""Rotary position encoding."""

from typing import Any

import torch

from mypt.schema.settings.config import GPTConfig


class RotaryEmbedding(torch.nn.Module):
    """Rotates each pair of channels of queries and keys by an angle that grows with the position.

    Channel i is paired with channel i + hs/2; pair i turns by position x theta^(-2i/hs)
    (Su et al. 2021, RoFormer, section 3.4.2; the pairing is that of LLaMA in Hugging Face's layout). Positions are
    divided by rope_scale (Chen et al. 2023, position interpolation).

    Args:
        config: its head_size (even), block_size, rope_theta and rope_scale.
    """

    cos: torch.Tensor
    sin: torch.Tensor

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        hs = config.head_size
        frequency = 1.0 / config.rope_theta ** (torch.arange(0, hs, 2, dtype=torch.float32) / hs)  # (hs/2)
        position = torch.arange(config.block_size, dtype=torch.float32) / config.rope_scale
        angle = torch.outer(position, frequency)  # (T, hs/2)
        self.register_buffer("cos", torch.cat([angle, angle], dim=-1).cos(), persistent=False)  # (T, hs)
        self.register_buffer("sin", torch.cat([angle, angle], dim=-1).sin(), persistent=False)

    def forward(self, x: torch.Tensor, start: int) -> torch.Tensor:
        """Rotate x (B, nh, T, hs), whose first position is `start`."""
        T = x.size(-2)
        cos = self.cos[start : start + T].to(x.dtype)
        sin = self.sin[start : start + T].to(x.dtype)
        turned: torch.Tensor = _Turn.apply(x, cos, sin)  # type: ignore[no-untyped-call]
        return turned


class _Turn(torch.autograd.Function):
    """The rotation, whose gradient is the rotation back; as torch would derive it, it takes twice the time."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(cos, sin)
        return _turned(x, cos, sin)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return _turned(grads[0], cos, -sin), None, None


def _turned(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    half = x.size(-1) // 2
    y = x * cos
    y[..., :half].addcmul_(x[..., half:], sin[..., :half], value=-1)
    y[..., half:].addcmul_(x[..., :half], sin[..., half:])
    return y
