"""mypt trains GPT models on your own text and keeps a record that can be trusted.

The names below load what they need when they are first used; `import mypt` itself loads no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from mypt.api import GPT
    from mypt.checkpoint.describe import get_model_info
    from mypt.checkpoint.manager import CheckpointManager
    from mypt.data.loader import GPTDataLoader
    from mypt.data.tokenizer import Tokenizer
    from mypt.schema.settings.config import GPTConfig
    from mypt.schema.settings.training import TrainingConfig

__all__ = [
    "GPT",
    "CheckpointManager",
    "GPTConfig",
    "GPTDataLoader",
    "Tokenizer",
    "TrainingConfig",
    "get_model_info",
]

_HOMES = {
    "GPT": "mypt.api",
    "CheckpointManager": "mypt.checkpoint.manager",
    "GPTConfig": "mypt.schema.settings.config",
    "GPTDataLoader": "mypt.data.loader",
    "Tokenizer": "mypt.data.tokenizer",
    "TrainingConfig": "mypt.schema.settings.training",
    "get_model_info": "mypt.checkpoint.describe",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mypt' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
