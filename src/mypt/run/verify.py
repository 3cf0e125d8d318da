"""`mypt verify`: every check of a bundle that needs no training."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from math import inf, isfinite
from pathlib import Path
from typing import Any

import torch

from mypt.checkpoint.atomic import read_consistently
from mypt.checkpoint.files import read_config, read_state, read_tokenizer
from mypt.checkpoint.fit import largest_file, tensor_bytes, weights_fit
from mypt.checkpoint.layout import CONFIG_FILE, MANIFEST_FILE, MODEL_FILE, log_of, names_in
from mypt.checkpoint.lineage import role_of
from mypt.checkpoint.manifest import check_file, read_manifest
from mypt.checkpoint.parts.heads import weight_headers
from mypt.checkpoint.pt.header import TensorHeader
from mypt.checkpoint.stored import load_moments, load_weights
from mypt.errors import InputError, MyptError
from mypt.log.replay import Branch, Replay
from mypt.model.network import Network
from mypt.model.shapes import misfits
from mypt.run.data.unchanged import DataChecks
from mypt.schema.files.state import TrainingState
from mypt.schema.files.tokenizer import TokenizerFile
from mypt.schema.settings.config import GPTConfig
from mypt.train.evaluation.divergence import named_tensors
from mypt.train.optim.given import misfits as moment_misfits
from mypt.train.session import apply_settings, optimizer_of


@dataclass(frozen=True)
class Check:
    """One check and what it found.

    Attributes:
        bundle: name of the bundle.
        name: what was checked.
        ok: True if it holds, False if not, None if it could not be checked.
        found: what was found, for people.
    """

    bundle: str
    name: str
    ok: bool | None
    found: str


class FaultError(Exception):
    """A check does not hold."""


class UncheckedError(Exception):
    """A check cannot be made, and that is no fault."""


class _Bundle:
    """A bundle whose files are read when a check first needs them, and hashed once.

    Args:
        path: of the bundle.
        data: checks the inputs of its run.
    """

    def __init__(self, path: Path, data: DataChecks) -> None:
        self.path = path
        self.data = data
        self.hashed = False

    @cached_property
    def config(self) -> GPTConfig:
        return read_config(self.path)

    @cached_property
    def state(self) -> TrainingState:
        return read_state(self.path)

    @cached_property
    def tokenizer(self) -> TokenizerFile:
        return read_tokenizer(self.path)

    def check_hashes(self) -> None:
        """Make sure that every file is as it was saved."""
        files = read_manifest(self.path).files
        for name, size in tensor_bytes(files).items():
            if size > (most := largest_file(name, self.config)):
                raise FaultError(f"{name} has {size:,} bytes, and a model of {CONFIG_FILE} has at most {most:,}")
        for name in files:
            check_file(self.path / name)
        self.hashed = True

    @cached_property
    def headers(self) -> dict[str, TensorHeader]:
        return weight_headers(self.path, self.config)

    @cached_property
    def weights(self) -> dict[str, torch.Tensor]:
        return load_weights(self.path, self.config, check=not self.hashed)

    @cached_property
    def optimizer(self) -> dict[str, Any]:
        return load_moments(self.path, self.config, check=not self.hashed)

    def network(self) -> Network:
        """The model of config.json, for its shapes alone; of weights that do not fit it there is none."""
        weights_fit(self.path / MODEL_FILE, self.config)(self.headers)
        return Network.hollow(self.config)


ELSEWHERE = ("step fits log", "gold fits record", "data")
"""Checks that look at other places than the bundle."""


def verify_bundle(path: Path, data: DataChecks | None = None, *, alone: bool = False) -> list[Check]:
    """Check a bundle's files, schema, tensors, tokenizer, optimizer, log and data, each on its own.

    Args:
        path: of the bundle.
        data: checks the inputs of its run; one for all bundles reads what they have in common once.
        alone: leaves out what looks at other places than the bundle.
    """
    checks: dict[str, Callable[[_Bundle], str]] = {
        "files": _files,
        "schema": _schema,
        "weights fit config": _weights,
        "values are finite": _finite,
        "tokenizer fits weights": _tokenizer,
        "optimizer fits model": _optimizer,
        "step fits log": _log,
        "gold fits record": _gold,
        "data": _data,
    }

    def run_all(path: Path) -> list[Check]:
        bundle = _Bundle(path, data or DataChecks())
        return [
            run_check(path.name, name, partial(check, bundle))
            for name, check in checks.items()
            if not (alone and name in ELSEWHERE)
        ]

    return read_consistently(run_all, path)


def run_check(of: str, name: str, check: Callable[[], str]) -> Check:
    """What a check finds, be it a fault or why it cannot be made.

    Args:
        of: name of what is checked.
        name: of the check.
        check: gives what was found; raises a `FaultError`, an `UncheckedError`, or an error of reading.
    """
    ok: bool | None = False
    try:
        ok, found = True, check()
    except UncheckedError as reason:
        ok, found = None, str(reason)
    except MyptError as error:
        ok, found = False, " ".join([error.what, *error.details]).removesuffix(".")
    except FaultError as fault:
        ok, found = False, str(fault)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        ok, found = False, f"it cannot be made sense of: {type(error).__name__}: {error}"
    return Check(of, name, ok, found)


def _files(bundle: _Bundle) -> str:
    bundle.check_hashes()
    files = read_manifest(bundle.path).files
    unknown = [name for name in names_in(bundle.path) if name not in files and name != MANIFEST_FILE]
    if unknown:
        raise FaultError(f"{', '.join(unknown)} did not come with the bundle")
    return f"{len(files)} files, {sum(f.bytes for f in files.values()):,} bytes, as they were saved"


def _schema(bundle: _Bundle) -> str:
    _, _, state = bundle.config, bundle.tokenizer, bundle.state
    return f"step {state.step}"


def _weights(bundle: _Bundle) -> str:
    dtype, headers = bundle.state.model_dtype, bundle.headers
    wrong = misfits(bundle.config, {name: header.shape for name, header in headers.items()})
    wrong += [f"{name} is {h.dtype} instead of {dtype}" for name, h in headers.items() if h.dtype != dtype]
    if wrong:
        raise FaultError("; ".join(sorted(wrong)[:5]))
    return f"{len(headers)} tensors in {dtype}"


def _finite(bundle: _Bundle) -> str:
    tensors = named_tensors(bundle.weights)
    if bundle.state.optimizer_file:
        tensors |= named_tensors(bundle.optimizer, "optimizer")
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise FaultError(f"{name} holds {tensor[~torch.isfinite(tensor)].flatten()[0].item()}")
    return f"{sum(t.numel() for t in tensors.values()):,} values"


def _tokenizer(bundle: _Bundle) -> str:
    tokenizer, config, data = bundle.tokenizer, bundle.config, bundle.state.data
    if tokenizer.vocab_size > config.vocab_size:
        raise FaultError(f"{tokenizer.vocab_size} tokens, but the weights know {config.vocab_size}")
    if data is not None and data.tokenization != tokenizer.token_kind:
        raise FaultError(f"it is {tokenizer.token_kind}, but the data were {data.tokenization}")
    return f"{tokenizer.token_kind}, {tokenizer.vocab_size} of {config.vocab_size} rows used"


def _optimizer(bundle: _Bundle) -> str:
    if bundle.state.optimizer_file is None:
        raise UncheckedError("an export has none" if bundle.state.imported is None else "an imported model has none")
    model, states = bundle.network(), bundle.optimizer["optimizer"]
    if bundle.state.optimizer is not None:  # torch's classes look at the device, and take none without memory
        model.to_empty(device="cpu")
    apply_settings(model, bundle.state)
    optimizer = optimizer_of(model, bundle.state)
    try:
        optimizer.load_state_dict(states)
    except (KeyError, TypeError, ValueError) as error:
        raise FaultError(str(error)) from error
    if isinstance(optimizer, torch.optim.Optimizer) and (wrong := moment_misfits(optimizer)):
        raise FaultError("; ".join(wrong[:5]))
    return f"{len(states['state'])} states"


def _log(bundle: _Bundle) -> str:
    state = bundle.state
    log = log_of(bundle.path, state)
    if log is None or state.run_id is None:
        raise UncheckedError("the run kept no log")
    if not log.is_file():
        raise UncheckedError(f"{log} is not here")
    try:
        losses, since = _logged_losses(log, state)
    except InputError as error:
        raise UncheckedError(error.what.rstrip(".")) from error
    if not losses or state.progress.last_val_loss is None:
        raise UncheckedError("no evaluation was logged yet")
    recorded = round(state.progress.last_val_loss, 6)
    if not isfinite(recorded):
        raise FaultError(f"it was saved after a val loss of {recorded}")
    if recorded not in losses:
        raise FaultError(f"{log} has no val loss of {recorded} up to step {state.step}")
    best = min(filter(isfinite, since), default=inf)
    if state.progress.best_val_loss is not None and round(state.progress.best_val_loss, 6) > best:
        raise FaultError(f"{log} has a better val loss, {best}, than the recorded best")
    return f"{len(losses)} evaluations up to step {state.step}"


def _logged_losses(log: Path, state: TrainingState) -> tuple[list[float], list[float]]:
    """The val losses that led to a bundle: all, and those since they were last measured otherwise than before."""
    losses: list[float] = []
    since = 0
    for event in Replay(log, state.run_id, upto=Branch.to(state)).live():
        if event["event"] == "eval":
            losses.append(event["val_loss"])
        elif event["event"] == "gold_remeasured" and "val" in event["sets"]:
            since = len(losses)
    return losses, losses[since:]


def _gold(bundle: _Bundle) -> str:
    path, own = bundle.path, bundle.state
    gold = own.progress.gold
    if gold.step is None:
        raise UncheckedError("no evaluation became gold")
    if own.optimizer_file is None:
        raise UncheckedError("an export has none of its own")
    kept = path if role_of(path, own) == "gold" else path.with_name(f"{path.name}_gold")
    if not kept.exists():
        raise UncheckedError(f"{kept} is not here")
    there = read_state(kept)
    if there.run_id == own.run_id and there.step > own.step and there.step == there.progress.gold.step:
        return f"step {there.step}, ahead of the run, which ended after this save and before its own"
    known = [there.progress.last_val_loss, *(s.remeasured.val_loss for s in own.sessions if s.remeasured is not None)]
    if (there.run_id, there.step) != (own.run_id, gold.step) or gold.val_loss not in known:
        raise FaultError(f"{kept} is of step {there.step}, and the record says step {gold.step}")
    return f"step {gold.step}, val loss {gold.val_loss:.6f}"


def _data(bundle: _Bundle) -> str:
    if bundle.state.data is None:
        raise UncheckedError("the record names no data")
    found = bundle.data.of(bundle.state)
    if found.faults:
        raise FaultError("; ".join(found.faults[:5]))
    told = f"{found.files} files, {found.bytes:,} bytes, as the run recorded them"
    if found.unread:
        raise UncheckedError(f"{'; '.join(found.unread[:5])}" + (f"; the other {told}" if found.files else ""))
    return told
