"""The optimizer of a run."""

import torch

from mypt.model.gpt import GPT
from mypt.schema.training import TrainingConfig

BETAS = (0.9, 0.99)
"""0.99 rather than 0.95, because steps of a few thousand tokens have noisy gradients: tiny Shakespeare ends at a val
loss of 1.878 instead of 1.897 (4 layers, 128 wide, 2000 steps of 768 tokens)."""
EPS = 1e-8


def build_optimizer(model: GPT, training: TrainingConfig) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019) that decays matrices and leaves norms and biases alone."""
    parameters = list(model.parameters())
    matrices = [p for p in parameters if p.dim() >= 2]
    vectors = [p for p in parameters if p.dim() < 2]
    assert len(matrices) + len(vectors) == len(parameters)
    groups = [
        {"params": matrices, "weight_decay": training.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=training.learning_rate, betas=BETAS, eps=EPS, fused=True)
