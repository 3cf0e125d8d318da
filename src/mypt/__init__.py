"""mypt trains GPT models on your own text and keeps a trustworthy record of each run.

The public names are imported on first use; `import mypt` alone does not import torch.
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
    from mypt.run.from_python import resume
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
    "resume",
]

_MODULES = {
    "GPT": "mypt.api",
    "CheckpointManager": "mypt.checkpoint.manager",
    "GPTConfig": "mypt.schema.settings.config",
    "GPTDataLoader": "mypt.data.loader",
    "Tokenizer": "mypt.data.tokenizer",
    "TrainingConfig": "mypt.schema.settings.training",
    "get_model_info": "mypt.checkpoint.describe",
    "resume": "mypt.run.from_python",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'mypt' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
