"""Rotary position encoding."""

import torch


class RotaryEmbedding(torch.nn.Module):
    """Rotates each pair of channels of queries and keys by an angle that grows with the position.

    Channel i is paired with channel i + hs/2; pair i turns by position x theta^(-2i/hs)
    (Su et al. 2021, RoFormer, section 3.4.2; the pairing is that of LLaMA in Hugging Face's layout).

    Args:
        head_size: channels of one head (hs), even.
        block_size: positions to prepare.
        theta: base frequency.
    """

    cos: torch.Tensor
    sin: torch.Tensor

    def __init__(self, head_size: int, block_size: int, theta: float) -> None:
        super().__init__()
        frequency = 1.0 / theta ** (torch.arange(0, head_size, 2, dtype=torch.float32) / head_size)  # (hs/2)
        angle = torch.outer(torch.arange(block_size, dtype=torch.float32), frequency)  # (T, hs/2)
        self.register_buffer("cos", torch.cat([angle, angle], dim=-1).cos(), persistent=False)  # (T, hs)
        self.register_buffer("sin", torch.cat([angle, angle], dim=-1).sin(), persistent=False)

    def forward(self, x: torch.Tensor, start: int) -> torch.Tensor:
        """Rotate x (B, nh, T, hs), whose first position is `start`."""
        T, hs = x.shape[-2:]
        cos = self.cos[start : start + T].to(x.dtype)
        sin = self.sin[start : start + T].to(x.dtype)
        half = hs // 2
        turned = torch.cat([-x[..., half:], x[..., :half]], dim=-1)
        return x * cos + turned * sin
