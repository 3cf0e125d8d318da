"""The optimizer of a run."""

import torch

from mypt.model.gpt import GPT
from mypt.schema.training import TrainingConfig

BETAS = (0.9, 0.95)
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
