"""A run that diverged: how that is noticed before anything good is replaced, and the way back."""

import math
from collections.abc import Sequence

import torch

from mypt.checkpoint.files import read_state
from mypt.checkpoint.layout import command
from mypt.checkpoint.manager import AnyOptimizer, CheckpointManager
from mypt.errors import BundleError, DivergedError
from mypt.model.network import Network
from mypt.schema.files.state import TrainingState
from mypt.schema.settings.training import TrainingConfig
from mypt.train.parallel.parts import own

LOWER = 0.1
"""Share of a learning rate that diverged which is worth a try."""


def not_finite_values(model: Network, optimizer: AnyOptimizer) -> tuple[str, ...]:
    """Which of weights and optimizer state hold a NaN or an infinity, as far as this process has them.

    It is the check that `mypt verify` makes of a bundle.

    The extremes of a tensor tell, since they are NaN where any of its values is: 0.3 ms for a million values.
    """
    held = {"weights": model.state_dict(), "optimizer state": optimizer.state_dict()["state"]}
    return tuple(name for name, node in held.items() if not _all_finite(list(named_tensors(node).values())))


def named_tensors(node: object, prefix: str = "") -> dict[str, torch.Tensor]:
    """The tensors of real numbers in nested dictionaries, by their path."""
    if isinstance(node, torch.Tensor):
        return {prefix: node} if node.is_floating_point() else {}
    found: dict[str, torch.Tensor] = {}
    if isinstance(node, dict):
        for key, value in node.items():
            found |= named_tensors(value, f"{prefix}.{key}" if prefix else str(key))
    return found


def _all_finite(tensors: Sequence[torch.Tensor]) -> bool:
    flags: dict[torch.device, list[torch.Tensor]] = {}
    for tensor in tensors:
        if (held := own(tensor.detach())).numel():
            flags.setdefault(held.device, []).append(torch.stack(torch.aminmax(held)).isfinite().all())
    return all(bool(torch.stack(of_device).all()) for of_device in flags.values())  # a device is waited for once


def diverged(
    what: str,
    training: TrainingConfig,
    checkpoint: CheckpointManager | None,
    details: Sequence[str] = (),
    other: str = "",
) -> DivergedError:
    """The error of a run that diverged, with the last good bundle, as it is on the disk, and the call that goes on.

    Args:
        what: one sentence: what is not finite, and where.
        training: the settings that diverged.
        checkpoint: where the run saves; None if it does not.
        details: further lines.
        other: what else may help, the end of a sentence.
    """
    good = _last_good(checkpoint) if checkpoint else None
    if good is None or checkpoint is None:
        todo = "Start again with a lower --learning-rate, or with clipping (--grad-clip) and a longer warm-up"
        return DivergedError(what, f"{todo}{other}.", [*details, "nothing was saved yet"])
    bundle, state = good
    options = ["--from", "gold"] if bundle.path != checkpoint.path else []
    again = command("resume", checkpoint.path, *options, *_lower_rate(training, state))
    found = f"the last good bundle is {bundle.path} at step {state.step}"
    return DivergedError(
        what, f"Go on from it with a lower learning rate, such as by `{again}`{other}.", [*details, found]
    )


def _last_good(checkpoint: CheckpointManager) -> tuple[CheckpointManager, TrainingState] | None:
    """The run's own bundle, or its gold where that is gone, damaged, or was saved as it diverged, as once could be."""
    for bundle in (checkpoint, checkpoint.gold()):
        try:
            state = read_state(bundle.path) if bundle.exists() else None
        except BundleError:
            continue
        if state is not None and math.isfinite(state.progress.last_val_loss or 0.0):
            return bundle, state
    return None


def _lower_rate(training: TrainingConfig, state: TrainingState) -> list[str]:
    """Options with which a resume of the bundle goes on as far, with the lowest rate that it knows or a lower one."""
    known = [session.training_config.learning_rate for session in state.sessions]
    lowest = min([*known, state.training_config.learning_rate, training.learning_rate])
    rate = float(f"{lowest if lowest < training.learning_rate else LOWER * lowest:.3g}")
    options = ["--learning-rate", f"{rate:g}"]
    if (state.training_config.min_lr or 0.0) > rate:
        options += ["--min-lr", f"{float(f'{LOWER * rate:.3g}'):g}"]
    if state.training_config.max_iters != training.max_iters:
        options += ["--max-iters", str(training.max_iters)]
    return options
