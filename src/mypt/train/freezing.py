"""Which weights stay as they start, and what else the settings ask of a model before training."""

from mypt.errors import ConfigError
from mypt.model.network import Network
from mypt.schema.settings.config import GPTConfig
from mypt.schema.settings.training import TrainingConfig


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


def apply_settings(model: Network, training: TrainingConfig) -> None:
    """Freeze what the settings freeze, and let the model recompute activations if they ask for it.

    A token embedding that is tied to the output layer freezes that too.
    """
    model.use_checkpoint = training.use_checkpoint
    frozen = [*model.blocks[: training.freeze_layers]]
    if training.freeze_embeddings:
        frozen += [m for m in (model.token_embedding, model.position_embedding) if m is not None]
    for module in frozen:
        module.requires_grad_(False)
