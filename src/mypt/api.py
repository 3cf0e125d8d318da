"""`GPT`, the public class: the network that trains, and that is loaded from a bundle by its name."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch

from mypt.checkpoint.manager import CheckpointManager
from mypt.data.loader import GPTDataLoader
from mypt.data.tokenizer import Tokenizer
from mypt.model.network import Network
from mypt.schema.settings.output import DEFAULT_OUT_DIR
from mypt.train.device.devices import resolve_device
from mypt.train.fit import fit
from mypt.train.loop import FitResult


class GPT(Network):
    """A GPT-2 or LLaMA-2 style model.

    Args:
        config: the architecture.
        seed: what the starting weights are drawn from.

    Attributes:
        tokenizer: the one that the weights were trained with; None until they are loaded or trained.

    Example:
        >>> model = GPT.load("dante")  # doctest: +SKIP
        >>> model.fit(loader, max_iters=200)  # doctest: +SKIP
    """

    tokenizer: Tokenizer | None = None

    @classmethod
    def load(cls, name: str, out_dir: str | Path = DEFAULT_OUT_DIR, device: str = "auto") -> Self:
        """The model of a bundle: the last step, gold or fp16, in fp32.

        Args:
            name: of the bundle, such as `dante` or `dante_gold`, or its path.
            out_dir: folder of all bundles.
            device: `auto` takes the fastest that is present.

        Raises:
            UsageError: there is no such bundle, or no such device.
            BundleError: a file of it is missing or damaged.
        """
        loaded = CheckpointManager.find(name, out_dir).load_as(cls, resolve_device(device))
        loaded.model.tokenizer = loaded.tokenizer
        return loaded.model

    def fit(
        self,
        data_loader: GPTDataLoader,
        optimizer: torch.optim.Optimizer | None = None,
        *,
        eval_data_loaders: Mapping[str, GPTDataLoader] | None = None,
        checkpoint: CheckpointManager | None = None,
        **settings: Any,
    ) -> FitResult:
        """Train this model; see `mypt.train.fit.fit`.

        Args:
            data_loader: the training and validation data.
            optimizer: by default AdamW, as `mypt train` uses it.
            eval_data_loaders: further sets to evaluate on, by name.
            checkpoint: where to save at each evaluation; nothing is saved without it.
            **settings: fields of `TrainingConfig`, such as `max_iters=200`.
        """
        self.tokenizer = data_loader.tokenizer
        return fit(self, data_loader, optimizer, eval_data_loaders=eval_data_loaders, checkpoint=checkpoint, **settings)
