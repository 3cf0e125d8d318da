"""Positions: rotary embeddings, and those in the documents that share a window."""

from typing import Any

import torch

from mypt.schema.settings.config import GPTConfig


class RotaryEmbedding(torch.nn.Module):
    """Rotates pairs of channels of queries and keys by angles proportional to the position.

    Channel i is paired with channel i + hs/2, and pair i is rotated by position x theta^(-2i/hs) (Su et al. 2021,
    RoFormer, section 3.4.2; paired as in Hugging Face's LLaMA). Positions are divided by rope_scale (Chen et al. 2023,
    position interpolation).

    Args:
        config: its head_size (even), block_size, rope_theta and rope_scale.
    """

    cos: torch.Tensor
    sin: torch.Tensor

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("cos", torch.empty(0, config.head_size), persistent=False)  # (positions so far, hs)
        self.register_buffer("sin", torch.empty(0, config.head_size), persistent=False)

    def cover(self, length: int) -> None:
        """Compute the angles of the first `length` positions, if they are not there yet.

        They are no weights: a config may promise a context that is far longer than any text that it will see.
        """
        there = self.cos.size(0)
        if length <= there:
            return
        config, hs = self.config, self.config.head_size
        length = min(config.block_size, max(length, 2 * there))
        with torch.inference_mode(False):  # training may use them too
            frequency = 1.0 / config.rope_theta ** (torch.arange(0, hs, 2, dtype=torch.float32) / hs)  # (hs/2)
            position = torch.arange(length, dtype=torch.float32) / config.rope_scale
            angle = torch.outer(position, frequency)  # (T, hs/2)
            self.cos = torch.cat([angle, angle], dim=-1).cos().to(self.cos.device)  # (T, hs)
            self.sin = torch.cat([angle, angle], dim=-1).sin().to(self.sin.device)

    def forward(self, x: torch.Tensor, start: int) -> torch.Tensor:
        """Rotate x (B, nh, T, hs), whose first position is `start`."""
        T = x.size(-2)
        cos = self.cos[start : start + T].to(x.dtype)
        sin = self.sin[start : start + T].to(x.dtype)
        rotated: torch.Tensor = _Rotate.apply(x, cos, sin)  # type: ignore[no-untyped-call]
        return rotated


def documents(tokens: torch.Tensor, separator: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The documents of windows (B, T), each but the first of which begins with a separator.

    Rotary positions need not begin anew with a document: attention sees their differences alone.

    Returns:
        The place of each token in its document (B, T), and where a token may attend to another (B, 1, T, T).
    """
    T = tokens.size(1)
    at = torch.arange(T, device=tokens.device)
    begins = torch.where(tokens == separator, at, 0).cummax(dim=1).values  # (B, T)
    mask = (begins.unsqueeze(2) == begins.unsqueeze(1)) & (at.unsqueeze(1) >= at)  # (B, T, T)
    return at - begins, mask.unsqueeze(1)


class _Rotate(torch.autograd.Function):
    """The rotation; its gradient is the inverse rotation, which takes half the time of torch's autograd."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(cos, sin)
        return _rotate(x, cos, sin)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return _rotate(grads[0], cos, -sin), None, None


def _rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    half = x.size(-1) // 2
    y = x * cos
    y[..., :half].addcmul_(x[..., half:], sin[..., :half], value=-1)
    y[..., half:].addcmul_(x[..., :half], sin[..., half:])
    return y
