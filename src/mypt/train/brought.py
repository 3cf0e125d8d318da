"""What a caller of `GPT.fit` brings: checked, and recorded so that a resume goes on with it, or refused."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import takewhile
from typing import Any

import torch
from torch import nn

from mypt.checkpoint.manager import weights_sha256
from mypt.data.loader import GPTDataLoader
from mypt.data.tokenizer import Tokenizer
from mypt.errors import ConfigError, ConflictError
from mypt.model.network import Network
from mypt.schema.base import extra_of
from mypt.schema.files.optimizer import REPLACED_SETTINGS
from mypt.schema.files.state import ParentRecord
from mypt.schema.resolve import resolve_section, wrong_settings
from mypt.schema.settings.config import GPTConfig
from mypt.schema.settings.data import wrong_eval_set_names
from mypt.schema.settings.training import TrainingConfig
from mypt.train.optim.given import is_new, peak_rate, record_optimizer
from mypt.train.run_data import RunData

WITHOUT_RECORD = "Train without a checkpoint, or bring what a resume can build again."


def training_settings(settings: Mapping[str, Any], optimizer: torch.optim.Optimizer | None) -> TrainingConfig:
    """The settings of a call of `fit`; an optimizer gives the learning rate that is not given.

    Raises:
        ConfigError: listing every setting that is wrong, or that this call would not use.
    """
    values, filled_in = (
        dict(settings),
        [n for n in TrainingConfig.model_fields if not extra_of(TrainingConfig, n)["option"]],
    )
    problems = [f"{name}: mypt fills it in." for name in filled_in if name in values]
    if values.get("init_from_model") is not None:
        problems.append("init_from_model: load that model by GPT.load, and call its fit.")
    if optimizer is not None:
        problems += [f"{name}: the optimizer that is given decides it." for name in REPLACED_SETTINGS if name in values]
        values.setdefault("learning_rate", peak_rate(optimizer))
    if problems:
        raise wrong_settings(problems)
    return resolve_section(TrainingConfig, values)


def checked_data(model: Network, tokenizer: Tokenizer | None, data: RunData) -> GPTConfig:
    """The model's config with the batch size of the data, which are checked to be this model's.

    Args:
        model: what is to be trained.
        tokenizer: the one of its weights; None if they are new.
        data: what it is to be trained and measured on.

    Raises:
        ConfigError: a name of an eval set is not allowed, or something is no data loader.
        ConflictError: listing what does not go with the model.
    """
    if wrong := wrong_eval_set_names(data.eval_sets):
        raise wrong_settings([f"{clause}." for clause in wrong])
    loaders = {"the data loader": data.primary, **{f"the eval set {n}": v for n, v in data.eval_sets.items()}}
    for name, loader in loaders.items():
        if not isinstance(loader, GPTDataLoader):
            raise ConfigError(f"{name} is a {type(loader).__name__}.", "Give a GPTDataLoader.")
    own, batch_size = model.config, data.primary.config.batch_size
    problems = [
        f"{name}: its {field} is {getattr(loader.config, field)}, and the model's is {getattr(own, field)}."
        for name, loader in loaders.items()
        for field in ("block_size", "vocab_size")
        if getattr(loader.config, field) != getattr(own, field)
    ]
    problems += [
        f"{name}: its batch_size is {loader.config.batch_size}, and that of the data loader {batch_size}."
        for name, loader in loaders.items()
        if loader.config.batch_size != batch_size
    ]
    problems += _wrong_tokenizers(own, tokenizer, loaders)
    if data.primary.options.eval_only:
        problems.append("the data loader: it is eval_only, so it has nothing to train on.")
    if problems:
        todo = "Make every loader with one GPTConfig, that of the model but for its batch_size, and with its tokenizer."
        raise ConflictError("The data do not go with the model.", todo, problems)
    return own.model_copy(update={"batch_size": batch_size, "device": str(model.device)})


def _wrong_tokenizers(config: GPTConfig, known: Tokenizer | None, loaders: Mapping[str, GPTDataLoader]) -> list[str]:
    """One message for each loader whose ids do not mean what they mean to the model."""
    primary = next(iter(loaders.values())).tokenizer
    problems = []
    if primary.vocab_size > config.vocab_size:
        problems.append(f"the data loader: {primary.vocab_size} tokens for a vocab_size of {config.vocab_size}.")
    if known is not None and not primary.file.extends(known.file):
        problems.append("the data loader: its tokenizer is not the one that the model was trained with.")
    return problems + [
        f"{name}: its tokenizer is not that of the data loader."
        for name, loader in loaders.items()
        if not primary.file.extends(loader.tokenizer.file)
    ]


def check_recordable(model: Network, data: RunData) -> None:
    """Make sure that a resume builds this model and these loaders again from what a bundle holds.

    Raises:
        ConfigError: it would build others.
    """
    reference = Network.hollow(model.config)
    reasons = [f"{name} is overridden" for name in _overridden(model)]
    reasons += [*_altered(model, reference), *reference.misfits(model.state_dict())]
    reasons += sorted({f"weights are {p.dtype}" for p in model.parameters() if p.dtype != torch.float32})
    for loader in (data.primary, *data.eval_sets.values()):
        if type(loader) is not GPTDataLoader:
            reasons.append(f"{type(loader).__name__} is a loader of your own")
    if reasons:
        raise ConfigError("This cannot be recorded so that a resume would go on with it.", WITHOUT_RECORD, reasons[:10])


def _overridden(model: Network) -> list[str]:
    """Attributes of the network for which a subclass has others."""
    classes = takewhile(lambda cls: cls is not Network, type(model).__mro__)
    return sorted({n for cls in classes for n in vars(cls) if hasattr(Network, n) and not n.startswith("__")})


def _altered(model: Network, reference: Network) -> list[str]:
    """One message for each part that is not the one that the config makes."""
    there, wanted = _parts(model), _parts(reference)
    return [
        f"{name} is {there.get(name, 'missing')} instead of {wanted.get(name, 'absent')}"
        for name in sorted(there.keys() | wanted.keys())
        if there.get(name) != wanted.get(name)
    ]


def _parts(model: Network) -> dict[str, str]:
    """Each module within a model, by name: its class and its plain attributes."""
    return {name: _told(module) for name, module in model.named_modules() if name}


def _told(module: nn.Module) -> str:
    plain = {
        n: v
        for n, v in vars(module).items()
        if n != "training" and not n.startswith("_") and isinstance(v, bool | int | float | str | tuple)
    }
    return f"{type(module).__qualname__}({', '.join(f'{n}={v}' for n, v in plain.items())})"


def start_record(model: Network, origin: int | ParentRecord, optimizer: torch.optim.Optimizer | None) -> dict[str, Any]:
    """What a training state says of the start of a run.

    Args:
        model: with the weights that the run starts from.
        origin: where they came from, a seed or a bundle, if nobody has altered them since.
        optimizer: the caller's own; None for mypt's.

    Returns:
        The fields `init_seed`, `parent`, `unrecorded_start`, `frozen` and `optimizer`.

    Raises:
        ConfigError: the optimizer cannot be recorded.
    """
    fields: dict[str, Any] = {"frozen": tuple(n for n, p in model.named_parameters() if not p.requires_grad)}
    unknown = []
    if isinstance(origin, ParentRecord):
        fields["parent"] = origin if weights_sha256(model) == origin.weights_sha256 else None
        if fields["parent"] is None:
            unknown.append(f"its weights were no longer those of {origin.name} at step {origin.step}")
    else:
        fields["init_seed"] = origin if _is_of_seed(model, origin) else None
        if fields["init_seed"] is None:
            unknown.append(f"its weights were no longer those of the seed {origin}")
    if optimizer is not None:
        fields["optimizer"] = record_optimizer(optimizer, model)
        if not is_new(optimizer, model, fields["optimizer"]):
            unknown.append("its optimizer had taken steps before")
    return fields | {"unrecorded_start": "; ".join(unknown) or None}


def _is_of_seed(model: Network, seed: int) -> bool:
    fresh = Network(model.config, seed).state_dict()
    return all(torch.equal(weight.cpu(), fresh[name]) for name, weight in model.state_dict().items())


@contextmanager
def left_as_it_was(model: Network, optimizer: torch.optim.Optimizer | None) -> Iterator[None]:
    """Let training change nothing for good but weights and moments: modes, what is frozen, rates, gradients."""
    modes = [(module, module.training) for module in model.modules()]
    trained = [(p, p.requires_grad) for p in model.parameters()]
    rates = [(group, group["lr"]) for group in optimizer.param_groups] if optimizer else []
    use_checkpoint, separator = model.use_checkpoint, model.separator
    model.zero_grad(set_to_none=True)
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for p, was in trained:
            p.requires_grad_(was)
        for group, rate in rates:
            group["lr"] = rate
        model.use_checkpoint, model.separator = use_checkpoint, separator
        model.zero_grad(set_to_none=True)
