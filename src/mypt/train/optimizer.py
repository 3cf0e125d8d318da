"""The optimizer of a run."""

import torch

from mypt.model.gpt import GPT
from mypt.schema.config import GPTConfig
from mypt.schema.errors import ConfigError
from mypt.schema.training import TrainingConfig

BETAS = (0.9, 0.99)
"""0.99 rather than 0.95, because steps of a few thousand tokens have noisy gradients: tiny Shakespeare ends at a val
loss of 1.878 instead of 1.897 (4 layers, 128 wide, 2000 steps of 768 tokens)."""
EPS = 1e-8


def build_optimizer(model: GPT, training: TrainingConfig) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019) that decays matrices and leaves norms and biases alone."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    matrices = [p for p in parameters if p.dim() >= 2]
    vectors = [p for p in parameters if p.dim() < 2]
    assert len(matrices) + len(vectors) == len(parameters)
    groups = [
        {"params": matrices, "weight_decay": training.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [g for g in groups if g["params"]], lr=training.learning_rate, betas=BETAS, eps=EPS, fused=True
    )


def check_freezing(config: GPTConfig, training: TrainingConfig) -> None:
    """Make sure that there are as many layers as are to be frozen.

    Raises:
        ConfigError: there are fewer.
    """
    if training.freeze_layers > config.n_layer:
        raise ConfigError(
            f"freeze_layers {training.freeze_layers} is more than the {config.n_layer} layers of the model.",
            "Give at most that many.",
        )


def apply_settings(model: GPT, training: TrainingConfig) -> None:
    """Freeze what the settings freeze, and let the model recompute activations if they ask for it.

    A token embedding that is tied to the output layer freezes that too.
    """
    model.use_checkpoint = training.use_checkpoint
    frozen = [*model.blocks[: training.freeze_layers]]
    if training.freeze_embeddings:
        frozen += [m for m in (model.token_embedding, model.position_embedding) if m is not None]
    for module in frozen:
        module.requires_grad_(False)
